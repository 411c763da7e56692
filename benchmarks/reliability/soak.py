"""A search for hours, small trial after small trial: does anything grow that should not?

One search with more trials than the time is enough for runs on a virtual Ray cluster of its own, one trial at a time
with early stops. Every half minute the memory, file handles and disk of everything that takes part are sampled. A
quarter is one of the time after a tenth for warming up. Bound: ratios of 1 for memory, handles and what a trial leaves
on disk; only the driver may grow by what Optuna and Tune hold of every trial (measured apart, 114 kB).

python -m benchmarks.reliability.soak --storage runs-soak            # two hours; Ctrl-C ends it with a report
python -m benchmarks.reliability.soak --storage runs-soak --report   # of the samples that lie there
"""

from __future__ import annotations

import json
import logging
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import ray

from benchmarks.reliability.chaos import SEARCH, SMALL
from benchmarks.support import harness
from benchmarks.support.virtual_nodes import VirtualNodes
from synthcl.search.study import load_study

SOAK: dict[str, Any] = {
    "name": "soak",
    "training.kimg": 2,
    "search.budgets": 1_000_000,
    "search.algorithm": "stopping",  # every run ends
    "search.opponent_share": 0,
    "search.startup_trials": 20,
}
WARM_UP = 0.1
"""fraction of the time that is left out before the first quarter"""
ROLES = ("driver", "trial", "raylets", "GCS", "Ray's others")
TRIAL_TITLES = ("CurriculumTrial", "Trainable")
"""of a trial's process while it is made, and while it trains"""
RATES = {
    "seconds a trial": ("seconds", "trials"),
    "storage MB a trial": ("storage MB", "trials"),
    "storage files a trial": ("storage files", "trials"),
    "Ray's folder MB a second": ("Ray's folder MB", "seconds"),
}
"""what may grow, at a rate that stays: trials leave records and samples, Ray its log"""

Sample = dict[str, float]


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--every", type=float, default=30.0, metavar="SECONDS", help="between two samples")
    parser.add_argument("--storage", type=Path, help="an empty folder for run and samples; a temporary one by default")
    parser.add_argument("--report", action="store_true", help="run nothing, report the samples of the storage")
    given = parser.parse_args()
    if given.report and not given.storage:
        parser.error("--report needs the --storage that holds the samples")
    seconds, every = (30.0, 1.0) if given.quick else (3600 * given.hours, given.every)
    with tempfile.TemporaryDirectory() as temporary:
        root = (given.storage or Path(temporary)).absolute()
        file = root / "samples.jsonl"
        if not given.report:
            root.mkdir(parents=True, exist_ok=True)
            soak(root, file, seconds, every)
        show([json.loads(line) for line in file.read_text().splitlines()])


def soak(root: Path, file: Path, seconds: float, every: float) -> None:
    """Run the search and write a line per sample, until the time is over, the search ends or a signal comes.

    Args:
        root: of the storage.
        file: of the samples.
        seconds: of sampling, from the first trial's end.
        every: seconds between two samples.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # a short path: sockets lie in it
        os.environ["RAY_TMPDIR"] = folder
        nodes = VirtualNodes([1], dashboard=False)
        ray.init(address=nodes.address, log_to_driver=False, logging_level=logging.ERROR)
        overrides = SMALL | SOAK | {"compute.storage": str(root), "compute.address": nodes.address}
        command = [sys.executable, str(SEARCH), *(f"{field}={value}" for field, value in overrides.items())]
        with (root / "driver.log").open("w") as log, file.open("w") as samples:
            driver = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            try:
                for sample in sampled(nodes, driver, root / "soak", Path(folder), every):
                    print(json.dumps(sample), file=samples, flush=True)
                    if sample["seconds"] > seconds:
                        break
            except KeyboardInterrupt:
                print("stopped", file=sys.stderr)
            finally:
                end(driver)
                ray.shutdown()
                nodes.close()
        if driver.returncode not in (130, -signal.SIGKILL):
            raise RuntimeError(f"the search ended with exit code {driver.returncode}: see {root / 'driver.log'}")


def end(driver: subprocess.Popen[bytes]) -> None:
    """Interrupt the search as a user would; kill it where that takes a minute."""
    driver.send_signal(signal.SIGTERM)
    try:
        driver.wait(60)
    except subprocess.TimeoutExpired:
        driver.kill()
        driver.wait()


def sampled(
    nodes: VirtualNodes, driver: subprocess.Popen[bytes], run: Path, rays: Path, every: float
) -> Iterator[Sample]:
    """Samples from the first trial's end on, as long as the search runs."""
    journal = run / "study.journal"
    while not (journal.is_file() and ended(journal)):
        if driver.poll() is not None:
            return
        time.sleep(1)
    began, study = time.monotonic(), load_study(journal)
    while driver.poll() is None:
        used = defaultdict(float, {"seconds": time.monotonic() - began})
        used["trials"] = sum(trial.state.is_finished() for trial in study.trials)
        for role, process in processes(nodes, driver):
            for what, amount in footprint(process).items():
                used[f"{role} {what}"] += amount
        store = "object_store_memory"
        used["object store MB"] = (ray.cluster_resources()[store] - ray.available_resources().get(store, 0)) / 1e6
        used["storage MB"], used["storage files"] = disk(run)
        used["Ray's folder MB"], _ = disk(rays)
        yield dict(used)
        time.sleep(every)


def ended(journal: Path) -> int:
    """Trials and baselines that have ended; 0 where no study has begun."""
    return sum(trial.state.is_finished() for trial in load_study(journal).trials)


def processes(nodes: VirtualNodes, driver: subprocess.Popen[bytes]) -> Iterator[tuple[str, psutil.Process]]:
    """Everything that takes part, by its role."""
    yield "driver", psutil.Process(driver.pid)
    for node in nodes.all:
        for kind, started in node.all_processes.items():
            role = {"raylet": "raylets", "gcs_server": "GCS"}.get(kind, "Ray's others")
            yield from ((role, psutil.Process(each.process.pid)) for each in started)
        trials = [process for title in TRIAL_TITLES for process in nodes.processes(title, node)]
        for process in nodes.processes("", node):
            yield ("trial" if process in trials else "Ray's others"), process


def footprint(process: psutil.Process) -> Sample:
    """Memory that is the process's own (neither files nor shared memory mapped), and its open files and sockets."""
    try:
        with process.oneshot():
            memory, handles = process.memory_info(), process.num_fds()
    except psutil.Error:
        return {}
    return {"MB": (memory.rss - memory.shared) / 1e6, "handles": handles, "processes": 1}


def disk(folder: Path) -> tuple[float, int]:
    """Megabytes on disk below a folder, and how many files hold them."""
    blocks, files = 0, 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                blocks += os.lstat(os.path.join(place, name)).st_blocks
                files += 1
            except FileNotFoundError:  # deleted meanwhile
                continue
    return blocks * 512 / 1e6, files


def show(samples: Sequence[Sample]) -> None:
    """Print what the quarters have in the middle, and the last over the first."""
    if len(samples) < 12:
        raise SystemExit(f"error: {len(samples)} samples are too few for quarters; sample for longer")
    parts, found = quarters(samples), {}
    sampled_by_role = [f"{role} {what}" for what in ("MB", "handles", "processes") for role in ROLES]
    for name in [*sampled_by_role, "object store MB"]:
        found[name] = [statistics.median(sample.get(name, 0) for sample in part) for part in parts]
    for name, (what, of) in RATES.items():
        found[name] = [growth(part, what) / max(1, growth(part, of)) for part in parts]
    ratios = {name: last_over_first(*values) for name, values in found.items()}
    rows = [[name, *values, ratios[name]] for name, values in found.items()]
    harness.table(["", "1st quarter", "2nd", "3rd", "4th", "4th over 1st"], rows)
    grown = found["driver MB"][-1] - found["driver MB"][0]
    between = statistics.median(s["trials"] for s in parts[-1]) - statistics.median(s["trials"] for s in parts[0])
    harness.finish(
        {"hours": samples[-1]["seconds"] / 3600, "samples": len(samples), "trials": samples[-1]["trials"]}
        | {"driver kB a trial": 1000 * grown / max(1, between)}
        | {f"{name}, last over first quarter": ratio for name, ratio in ratios.items()}
    )


def quarters(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Samples of each quarter of the time after the warm-up."""
    begin = WARM_UP * samples[-1]["seconds"]
    length = (samples[-1]["seconds"] - begin) / 4
    ends = [begin + length * quarter for quarter in range(1, 5)]
    return [[sample for sample in samples if end - length <= sample["seconds"] <= end] for end in ends]


def growth(part: Sequence[Sample], name: str) -> float:
    """From the first sample to the last."""
    return part[-1][name] - part[0][name]


def last_over_first(first: float, *others: float) -> float:
    """1 where there is nothing in both."""
    return others[-1] / first if first else float(others[-1] + 1)


if __name__ == "__main__":
    main()
