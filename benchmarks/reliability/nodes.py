"""A search on four nodes of different sizes: does every trial get what it asked for, and do all CPUs work?

Virtual Ray nodes of 1, 2, 2 and 3 CPUs beside a head without any run a search of one-worker trials, then one of
two-worker trials (Ray Train inside Ray Tune, with early stops). The share of CPUs held is sampled from the first time
that all are held until fewer trials are left than fit. Bound: 1, less what changing from a trial to the next takes.

python -m benchmarks.reliability.nodes             # a quarter of an hour on two cores, shared by 8 virtual CPUs
python -m benchmarks.reliability.nodes --workers 1 # the searches of one-worker trials alone
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from optuna.trial import TrialState

from benchmarks.reliability import intact
from benchmarks.reliability.chaos import SEARCH, SMALL, TRAINING
from benchmarks.support import harness
from benchmarks.support.virtual_nodes import VirtualNodes, label_of
from synthcl import load_preset
from synthcl.search.sides import rung_images
from synthcl.search.study import load_study

NODE_CPUS = (1, 2, 2, 3)
SAMPLE_SECONDS = 0.5


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--workers", type=int, choices=(1, 2), help="a trial; both by default, 2 with --quick")
    given = parser.parse_args()
    searches = (given.workers,) if given.workers else (2,) if given.quick else (1, 2)
    rows: list[list[object]] = []
    ratios: dict[str, float] = {}
    nodes = VirtualNodes(NODE_CPUS)
    ray.init(address=nodes.address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as root:
            for workers in searches:
                fits = sum(NODE_CPUS) // workers
                found = watch(nodes, Path(root), workers, budgets=(1 if given.quick else 2) * max(4, fits))
                rows.append([f"{workers} worker(s) a trial", *found.values()])
                ratios |= {f"{name}, {workers} worker(s)": value for name, value in found.items()}
    finally:
        ray.shutdown()
        nodes.close()
    harness.table(["search", *found], rows)
    harness.finish(ratios)


def watch(nodes: VirtualNodes, root: Path, workers: int, budgets: int) -> dict[str, float]:
    """Run a search and look at its nodes meanwhile.

    Args:
        nodes: where it runs.
        root: of its storage.
        workers: a trial.
        budgets: of the search.

    Returns:
        utilisation: share of all CPUs held while there was work for all; runs that began, and how many are paused;
        wrong: looks that found a trial with another number of processes than it asked for, or a node with more of
        them than CPUs; seconds of the search stage.
    """
    own = {
        "name": f"workers-{workers}",
        "search.budgets": budgets,
        "compute.storage": str(root),
        "compute.address": nodes.address,
        "compute.workers_per_trial": workers,
    }
    config = load_preset("fashion-mini").with_overrides(SMALL | own)
    given = [f"{field}={value}" for field, value in (SMALL | own).items()]
    began, wrong = time.monotonic(), 0
    held: list[float] = []
    journal = root / f"workers-{workers}" / "study.journal"
    with subprocess.Popen([sys.executable, str(SEARCH), *given], stdout=subprocess.DEVNULL) as driver:
        for left in left_in(journal, budgets * rung_images(config)[-1], driver):
            share = 1 - ray.available_resources().get("CPU", 0) / sum(NODE_CPUS)
            if held or share == 1:
                if left < sum(NODE_CPUS) / workers * rung_images(config)[0]:
                    break
                held.append(share)
            wrong += misplaced(nodes, workers)
        seconds = time.monotonic() - began
        if driver.wait() != 0:
            raise RuntimeError(f"the search ended with exit code {driver.returncode}")
    found, problems = load_study(journal).trials, intact.study_problems(journal.parent, config)
    return {
        "utilisation": sum(held) / max(1, len(held)),
        "begun": len(found),
        "paused": sum(trial.state is TrialState.RUNNING for trial in found) - problems["orphans"],
        "lost": problems["lost"] + problems["orphans"],
        "wrong": wrong,
        "seconds": seconds,
    }


def left_in(journal: Path, images: float, driver: subprocess.Popen[Any]) -> Iterator[float]:
    """Images that the search stage may still train, again and again until the confirm stage begins."""
    left = images
    while driver.poll() is None and not (journal.parent / "confirm").is_dir():
        if journal.is_file() and journal.stat().st_size:
            left = images - sum(trial.user_attrs.get("images", 0) for trial in load_study(journal).trials)
        yield left
        time.sleep(SAMPLE_SECONDS)


def misplaced(nodes: VirtualNodes, workers: int) -> int:
    """1 where a trial trains on more processes than it asked for, or a node has more of them than CPUs."""
    here = Path.cwd().name  # where a process works that has no trial yet
    everywhere: Counter[str] = Counter()
    crowded = False
    for node, cpus in zip(nodes.nodes, NODE_CPUS, strict=True):
        labels = [label_of(process) for process in nodes.processes(TRAINING[workers], node)]
        everywhere.update(labels)
        crowded |= len(labels) > cpus
    return int(crowded or any(count > workers for label, count in everywhere.items() if label != here))


if __name__ == "__main__":
    main()
