"""Kill anything while a search runs, give the same command again, and see whether anything was lost.

Virtual Ray nodes run small searches, of one-worker and of two-worker trials in turn. At seeded random times something
gets a SIGKILL: the driver, a trial's process, one of two Train workers, a node, some of them after Ray's notice of
preemption, or everything at once, the head included. What was killed comes back (the driver by the same command, a
node as a new one), and the search has to end as an unbroken one would have. Bound: of what is counted in the searches
nothing may be above 0, and no more than a checkpoint interval may be lost.

python -m benchmarks.reliability.chaos --kills 100 --storage runs-chaos           # an hour on two idle cores
python -m benchmarks.reliability.chaos --kills 100 --storage runs-chaos --now 10  # ten of those, the rest later
"""

from __future__ import annotations

import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.reliability import intact
from benchmarks.support import harness
from benchmarks.support.virtual_nodes import VirtualNodes, label_of
from synthcl import load_preset
from synthcl.config.schema import Config
from synthcl.runs import checkpoint

SEARCH = Path(__file__).parents[2] / "tune/search.py"
NODE_CPUS = (2, 2)
CHECKPOINT_MINUTES = 0.05
SMALL: dict[str, Any] = {
    "data.image_fraction": 0.05,
    "data.image_size": 16,
    "encoder.width": 8,
    "heads.main.hidden": 32,
    "heads.main.dim": 16,
    "synthetic.gan.latent_dim": 8,
    "synthetic.gan.generator_width": 4,
    "synthetic.gan.discriminator_width": 4,
    "synthetic.gan.warmup_kimg": 0.512,
    "synthetic.gan.warmup_batch_images": 32,
    "training.kimg": 16,
    "training.batch_images": 32,
    "training.log_kimg": 0.256,
    "training.checkpoint_minutes": CHECKPOINT_MINUTES,
    "health.diversity_min": 0,  # next to no warm-up: what these trials learn means nothing
    "health.discriminator_accuracy_max": 1,
    "health.embedding_variance_min": 0,
    "evaluation.rungs": [0.25, 0.5, 1.0],
    "evaluation.label_fractions": [200, 0.01],
    "evaluation.max_label_images": 200,
    "evaluation.transfer": ["digits"],
    "search.budgets": 6,
    "search.startup_trials": 2,
    "search.confirm_top": 1,
    "search.confirm_seeds": 1,
}
KINDS = {  # what is killed, and how often, in searches of one-worker and of two-worker trials
    1: {"trial": 4, "driver": 4, "node": 3, "node after notice": 2, "everything": 1},
    2: {"worker": 4, "trial": 2, "driver": 2, "node": 2, "node after notice": 2, "everything": 1},
}
TRIAL = "ResourceTrainable.train"  # title of a trial's process
TRAINING = {1: TRIAL, 2: "RayTrainWorker"}  # titles of the processes that train
LONGEST_WAIT_SECONDS = 300.0
NOTICE_SECONDS = 10.0


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--kills", type=int, default=100, help="over all sittings")
    parser.add_argument("--now", type=int, help="kills of this sitting; all that are left by default")
    parser.add_argument("--storage", type=Path, help="keeps what was counted; a temporary folder by default")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    kills = 4 if given.quick else given.kills
    with tempfile.TemporaryDirectory() as temporary:
        ledger = Ledger(given.storage or Path(temporary), given.seed)
        until = min(kills, len(ledger.kills) + (given.now or kills))
        while len(ledger.kills) < until:
            Hunt(ledger, ledger.random_kinds(until)).run()
        show(ledger)


class Ledger:
    """What was killed and what was found, on disk after every kill.

    Args:
        root: folder of the ledger and of the searches.
        seed: of when and what is killed.
    """

    def __init__(self, root: Path, seed: int) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.seed, self._file = root, seed, root / "chaos.json"
        known = json.loads(self._file.read_text()) if self._file.is_file() else {"kills": [], "searches": []}
        self.kills: list[dict[str, Any]] = known["kills"]
        self.searches: list[dict[str, int]] = known["searches"]

    def random_kinds(self, until: int) -> Iterator[str]:
        """What to kill next, until so many were killed."""
        workers = self.workers
        chance = random.Random(f"{self.seed} {len(self.kills)}")
        while len(self.kills) < until:
            yield chance.choices(list(KINDS[workers]), list(KINDS[workers].values()))[0]

    @property
    def workers(self) -> int:
        """Of a trial in the search at hand."""
        return 1 + len(self.searches) % 2

    def write(self) -> None:
        self._file.write_text(json.dumps({"kills": self.kills, "searches": self.searches}, indent=1))


class Hunt:
    """One search, from its first process to the comparison with an unbroken one.

    Args:
        ledger: where everything is noted.
        kinds: what is killed, in this order; the search may end earlier.
        overrides: of the search, beside the small preset's.
    """

    def __init__(self, ledger: Ledger, kinds: Iterable[str], overrides: dict[str, Any] | None = None) -> None:
        number = len(ledger.searches)
        self.ledger, self.workers, self._kinds = ledger, ledger.workers, iter(kinds)
        self.overrides = SMALL | {
            "name": f"search-{number:03d}",
            "search.seed": number,
            "search.budgets": SMALL["search.budgets"] if self.workers == 1 else 4,
            "compute.storage": str(ledger.root.absolute()),
            "compute.workers_per_trial": self.workers,
            **(overrides or {}),
        }
        self.config: Config = load_preset("fashion-mini").with_overrides(self.overrides)
        self.folder = ledger.root.absolute() / self.config.name
        self._random = random.Random(f"{ledger.seed} {number} {len(ledger.kills)}")
        self._whole: dict[Path, int] = {}  # checkpoints of the whole budget, by when they were written

    def run(self) -> None:
        """Kill until enough was killed, let the search end, and judge it."""
        while True:
            nodes = VirtualNodes(NODE_CPUS)
            try:
                if self._until_everything_dies(nodes):
                    break
            finally:
                nodes.close()
        seen = Counter(self._look())
        for kill in self.ledger.kills:
            seen.update(kill["seen"] if kill["search"] == self.config.name else {})
        found = intact.study_problems(self.folder, self.config) | dict(seen)
        if self.workers == 1:
            found["unequal"] = intact.unequal(self.folder, self.config)
        self.ledger.searches.append(found)
        self.ledger.write()

    def _until_everything_dies(self, nodes: VirtualNodes) -> bool:
        """Run the search on these nodes; whether it ended there."""
        driver = self._start(nodes)
        for kind in self._kinds:
            victim = self._await(kind, nodes, driver)
            if victim is not None:
                time.sleep(self._random.uniform(0, 8))
            if victim is None or driver.poll() is not None:
                break
            node = nodes.of(victim)
            kill = {"kind": kind, "search": self.config.name, "workers": self.workers, "seen": {}}
            if kind == "node after notice":
                kill |= self._noticed(victim, nodes, node)
            else:
                kill |= self._loses(victim, nodes)
            self.ledger.kills.append(kill)
            self.ledger.write()
            print(f"{len(self.ledger.kills):4d} {self.config.name} {kind}", flush=True)
            if kind.startswith("node"):
                nodes.kill(node)
                time.sleep(self._random.uniform(0, 5))
                nodes.join(NODE_CPUS[0])
            elif kind in ("driver", "interrupt"):
                driver.send_signal(signal.SIGKILL if kind == "driver" else signal.SIGTERM)
                if driver.wait(LONGEST_WAIT_SECONDS) not in (-signal.SIGKILL, 130):
                    raise RuntimeError(f"{self.config.name} was interrupted and ended with {driver.returncode}")
                driver = self._start(nodes)
            elif kind == "everything":
                driver.kill()
                driver.wait()
                return False
            elif victim.is_running():
                victim.kill()
            kill["seen"] = self._look()
            self.ledger.write()
        if driver.wait(4 * LONGEST_WAIT_SECONDS) != 0:
            said = (self.ledger.root / "driver.log").read_text(errors="replace").splitlines()[-20:]
            raise RuntimeError("\n".join([f"{self.config.name} ended with exit code {driver.returncode}:", *said]))
        return True

    def _start(self, nodes: VirtualNodes) -> subprocess.Popen[bytes]:
        given = [f"{field}={value}" for field, value in self.overrides.items()]
        with (self.ledger.root / "driver.log").open("ab") as log:
            command = [sys.executable, str(SEARCH), *given, f"compute.address={nodes.address}"]
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def _await(self, kind: str, nodes: VirtualNodes, driver: subprocess.Popen[bytes]) -> Any:
        """Wait until there is work to be interrupted: a process of the kind that trains; none when the search ends."""
        title = TRIAL if kind == "trial" else TRAINING[self.workers]
        here = Path.cwd().name  # where a process works that has no trial yet
        deadline = time.monotonic() + LONGEST_WAIT_SECONDS
        while driver.poll() is None:
            if training := [process for process in nodes.processes(title) if label_of(process) != here]:
                return self._random.choice(training)
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.config.name}: no {title} process for {LONGEST_WAIT_SECONDS:.0f} s")
            time.sleep(0.2)
        return None

    def _noticed(self, victim: Any, nodes: VirtualNodes, node: Any) -> dict[str, bool]:
        """Announce that the node goes: whether a run that had a checkpoint had a newer one when the time was over."""
        label, told = label_of(victim), time.time()
        trained = self._kept(label) > victim.create_time()
        nodes.drain(node, NOTICE_SECONDS)
        time.sleep(NOTICE_SECONDS)
        return {"kept_on_notice": self._kept(label) > told} if trained else {}

    def _loses(self, victim: Any, nodes: VirtualNodes) -> dict[str, float]:
        """What a kill at this moment undoes, where the processes that train now have written a checkpoint."""
        label, kept = label_of(victim), self._kept(label_of(victim))
        training = [process for process in nodes.processes(TRAINING[self.workers]) if label_of(process) == label]
        if not training or kept < max(process.create_time() for process in training):
            return {}
        return {"lost_seconds": time.time() - kept}

    def _kept(self, label: str) -> float:
        """When the last checkpoint of a run was written; 0 where there is none."""
        return max((file.stat().st_mtime for file in self.folder.glob(f"*/{label}/checkpoint.pt")), default=0.0)

    def _look(self) -> dict[str, int]:
        """Everything on disk is whole, and what spent its budget is not trained again; how often not."""
        twice = 0
        for file in self.folder.glob("*-1/*/checkpoint.pt"):
            written = file.stat().st_mtime_ns
            twice += self._whole.get(file, written) != written
            if checkpoint.load(file, intact.CPU)["report"]["progress"] == 1:
                self._whole[file] = written
        return {"half-written": intact.half_written(self.folder), "run twice": twice}


def show(ledger: Ledger) -> None:
    """Print what was killed and what was found."""
    killed = Counter(kill["kind"] for kill in ledger.kills)
    lost = [kill["lost_seconds"] for kill in ledger.kills if "lost_seconds" in kill]
    harness.table(["killed", "times"], killed.items())
    found: Counter[str] = Counter()
    for search in ledger.searches:
        found.update(search)
    harness.table(["in all searches", "times"], found.items())
    noticed = [kill["kept_on_notice"] for kill in ledger.kills if "kept_on_notice" in kill]
    worst = max(lost, default=0.0)
    harness.finish(
        {"kills": len(ledger.kills), "searches": len(ledger.searches)}
        | {f"killed {kind}": count for kind, count in killed.items()}
        | dict(found)
        | {"lost_minutes_median": statistics.median(lost) / 60 if lost else 0.0, "lost_minutes_most": worst / 60}
        | {"checkpoint_minutes": CHECKPOINT_MINUTES, "noticed": len(noticed), "kept on notice": sum(noticed)}
    )


if __name__ == "__main__":
    main()
