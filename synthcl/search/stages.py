"""The search from the first trial to the report, in stages that can be interrupted anywhere.

    search-1     baselines and trials, early-stopped, scored on validation
    confirm-1    the best of them and the baselines, fresh seeds, whole budget, test read once
    search-2 ... where `--trials +N` extends the study

`state.json` lists the stages. An unfinished one is continued from the Optuna journal, the records of the confirm
runs and each run's own last checkpoint; nothing else is read, so it does not matter when what was killed.
"""

from __future__ import annotations

import json
import logging
import signal
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from ray import tune
from ray.tune import PlacementGroupFactory
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from synthcl.cluster import preemption, train_workers
from synthcl.cluster.capacity import HEAD
from synthcl.cluster.connect import connect, require_storage
from synthcl.cluster.resources import concurrent_trials, gpus_per_worker, resources, trials_to_start
from synthcl.cluster.warmup import warmed_gan
from synthcl.comparison.arms import BASELINES
from synthcl.config.compatibility import WHERE_IT_RUNS, read_json, require_same_config
from synthcl.config.schema import Config
from synthcl.core.atomic import write_whole
from synthcl.core.errors import UserError
from synthcl.runs.disk import require_space
from synthcl.runs.preflight import open_data
from synthcl.runs.storage import Storage
from synthcl.search import confirm, report, results
from synthcl.search.asha import RungScheduler
from synthcl.search.budget import confirm_runs
from synthcl.search.checkpoint_cleanup import Prune
from synthcl.search.fault_tolerance import CheckpointOnPreemption, ForgiveProgress, FreeOrphans
from synthcl.search.optuna_search import StudySearch, load_study, require_whole
from synthcl.search.slots import Planned, Slots
from synthcl.search.space import Space
from synthcl.search.stage_log import StageLog, label
from synthcl.search.trial import CurriculumTrial, WorkerPoolTrial
from synthcl.training.networks import GanState


def run_search(config: Config, space: Space, *, fresh: bool = False, extend: int = 0) -> Path:
    """Search, confirm and report; the same call again continues, or says that the run is complete.

    Args:
        config: the configuration the search starts from.
        space: what is searched.
        fresh: forget an earlier run of this name.
        extend: trials to add to a finished run.

    Returns:
        The folder with report, winner, study and logs.

    Raises:
        UserError: on unusable storage, data or cluster, or when an earlier run of this name had another config.
    """
    storage = Storage(config.compute.storage, config.name)
    with storage.failures_named():
        return _run(storage, config, space, fresh, extend)


def _run(storage: Storage, config: Config, space: Space, fresh: bool, extend: int) -> Path:
    storage.probe()
    storage.pull()
    state = _State(storage, config, space, fresh, extend)
    if not state.unfinished:
        print(f"{config.name}: complete; --trials +N extends it, --fresh starts over")
        report.write(config, storage)
        storage.push()
        return storage.folder

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for noisy in ("ray.tune", "ray.train", "ray.data"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    data = open_data(config)
    print(data.describe(), flush=True)
    connect(config)
    require_storage(storage)
    at_a_time = min(concurrent_trials(config), config.search.trials + len(BASELINES))
    require_space(storage, config, kept=confirm_runs(config) + 1, at_a_time=at_a_time)
    if config.compute.workers_per_trial > 1:
        train_workers.require_state_api()
    if fresh:
        storage.clear()  # not before everything that can be refused has been checked
    state.write()
    gan = warmed_gan(config, data.images, storage)
    for stage in state.unfinished:
        if stage["begun"]:
            print(f"{config.name}: {stage['name']} goes on where it stopped")
        stage["begun"] = True
        state.write()
        if stage["kind"] == "search":
            _search(config, space, storage, gan, stage)
        else:
            _confirm(config, storage, gan, stage)
        stage["done"] = True
        state.write()
    report.write(config, storage)
    storage.push()
    return storage.folder


class _State:
    """The stages of a run with its config and space: read when a run goes on, on disk after every change.

    Raises:
        UserError: when the run on disk had another config or space.
    """

    def __init__(self, storage: Storage, config: Config, space: Space, fresh: bool, extend: int) -> None:
        self._storage, self._config, self._space = storage, config, space
        file = storage.folder / "state.json"
        self.stages: list[dict[str, Any]] = read_json(file, list) if file.is_file() and not fresh else []
        if self.stages:
            recorded, free = storage.folder / "config.json", {*WHERE_IT_RUNS, "search.trials", "search.space"}
            require_same_config(recorded, config, free)
            if (searched := storage.folder / "space.yaml").read_text() != space.text:
                named = read_json(recorded, dict).get("search", {}).get("space")
                raise UserError(
                    f"run {config.name!r} has searched another space, search.space={named!r} as it then was; give "
                    f"search.space={searched} to continue it, --fresh to start over or name=... for a run of its own"
                )
            if (journal := storage.folder / results.JOURNAL).is_file():
                require_whole(journal)
        if not self.stages or (extend and not self.unfinished):  # an interrupted extension is continued, not repeated
            number = 1 + len(self.stages) // 2
            before = max((stage.get("trials", 0) for stage in self.stages), default=0)
            trials = before + (extend or config.search.trials)
            self.stages += [
                {"name": f"search-{number}", "kind": "search", "trials": trials, "begun": False, "done": False},
                {"name": f"confirm-{number}", "kind": "confirm", "begun": False, "done": False},
            ]

    @property
    def unfinished(self) -> list[dict[str, Any]]:
        return [stage for stage in self.stages if not stage["done"]]

    def write(self) -> None:
        folder = self._storage.folder
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "config.json", self._config.model_dump_json(indent=2) + "\n")
        write_whole(folder / "space.yaml", self._space.text)
        write_whole(folder / "state.json", json.dumps(self.stages, indent=2) + "\n")
        self._storage.push()


def _search(config: Config, space: Space, storage: Storage, gan: GanState | None, stage: dict[str, Any]) -> None:
    journal, search = storage.folder / results.JOURNAL, config.search
    point = space.point_of(config)
    searcher = StudySearch(space, journal, search.seed, search.startup_trials, BASELINES, point)
    if left := stage["trials"] + len(BASELINES) - searcher.ended:
        scheduler = RungScheduler(config, _recorded(journal))
        prune = Prune(journal, storage.ray_uri(stage["name"]))
        _fit(config, storage, stage["name"], left, gan, searcher, prune, scheduler=scheduler)
    trials = results.trials_frame(load_study(journal), config)
    if not ((trials.state == "complete") & ~trials.baseline).any():
        raise UserError(
            f"search {config.name!r}: none of {stage['trials']} trials finished its budget; "
            f"see {storage.ray_uri(stage['name'])} for their errors"
        )


def _confirm(config: Config, storage: Storage, gan: GanState | None, stage: dict[str, Any]) -> None:
    trials = results.trials_frame(results.open_study(storage.folder), config)
    if plan := confirm.left(trials, config, storage.folder):
        recorder = confirm.Recorder(storage.folder, stage["name"])
        _fit(config, storage, stage["name"], len(plan), gan, Planned(plan), recorder, test=True)


def _fit(
    config: Config,
    storage: Storage,
    name: str,
    runs: int,
    gan: GanState | None,
    searcher: Searcher,
    *callbacks: tune.Callback,
    test: bool = False,
    scheduler: TrialScheduler | None = None,
) -> None:
    """Run what is left of a stage; every run goes on from its own checkpoint."""
    if not storage.is_uri:
        (storage.folder / name).mkdir(exist_ok=True)
    log = StageLog(config, storage, name, runs)
    tuner = tune.Tuner(
        _trainable(config, gan, test, storage.ray_uri(name)),
        tune_config=tune.TuneConfig(
            search_alg=Slots(searcher, partial(trials_to_start, config)),
            scheduler=scheduler,
            num_samples=runs,
            reuse_actors=True,
            trial_name_creator=label,
            trial_dirname_creator=label,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=storage.ray_path,
            callbacks=[log, ForgiveProgress(), CheckpointOnPreemption(), FreeOrphans(), *callbacks],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # trials keep their own
            failure_config=tune.FailureConfig(max_failures=2),
            verbose=0,
        ),
    )
    with preemption.catching_signals(signal.SIGINT, signal.SIGTERM):
        tuner.fit()


def _trainable(config: Config, gan: GanState | None, test: bool, root: str) -> Any:
    given = {"base": config, "gan": gan, "test": test, "root": root}
    if config.compute.workers_per_trial > 1:
        # It only waits for its workers, so it holds no CPU that they could be waiting for; on the head, so that it
        # outlives theirs.
        return tune.with_resources(
            tune.with_parameters(WorkerPoolTrial, **given), PlacementGroupFactory([{HEAD: 0.001}])
        )
    gpus = gpus_per_worker(config, resources())
    bundle = {"CPU": config.compute.cpus_per_worker} | ({"GPU": gpus} if gpus else {})
    return tune.with_resources(tune.with_parameters(CurriculumTrial, **given), PlacementGroupFactory([bundle]))


def _recorded(journal: Path) -> dict[int, dict[str, float]]:
    """Scores at rungs of the trials so far, so that a continued study is as strict as an unbroken one."""
    scores: dict[int, dict[str, float]] = {}
    for trial in load_study(journal).trials:
        if "arm" not in trial.user_attrs and "diverged" not in trial.user_attrs:
            for images, score in trial.intermediate_values.items():
                scores.setdefault(images, {})[trial.user_attrs["label"]] = score
    return scores
