"""The search from the first trial to the report, in stages that can be interrupted anywhere.

    search-1     baselines and trials, early-stopped, scored on validation
    confirm-1    the best of them and the baselines, fresh seeds, whole budget, test read once
    search-2 ... where `--trials +N` extends the study

`state.json` lists the stages; Ray's own state and the Optuna journal continue an unfinished one.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from ray import tune
from ray.tune import PlacementGroupFactory

from synthcl import cluster
from synthcl.arms import BASELINES
from synthcl.config import WHERE_IT_RUNS, Config, require_same_config
from synthcl.errors import UserError
from synthcl.export import write_text
from synthcl.logs import is_metric
from synthcl.preflight import open_data
from synthcl.search import records, report
from synthcl.search.log import StageLog, label
from synthcl.search.scheduler import RungScheduler
from synthcl.search.searcher import StudySearch, load_study
from synthcl.search.space import Space
from synthcl.search.trial import CurriculumTrial, nested_trial
from synthcl.storage import Storage
from synthcl.warmup import GanState


def run_search(config: Config, space: Space, *, fresh: bool = False, extend: int = 0) -> Path:
    """Search, confirm and report; the same call again continues, or says that the run is complete.

    Args:
        config: the configuration the search starts from.
        space: what is searched.
        fresh: forget an earlier run of this name.
        extend: trials to add to a run that has its own already.

    Returns:
        The folder with report, winner, study and logs.

    Raises:
        UserError: on unusable storage, data or cluster, or when an earlier run of this name had another config.
    """
    storage = Storage(config.compute.storage, config.name)
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
    images = open_data(config)
    cluster.connect(config, driver_cpus=1 if config.compute.workers_per_trial > 1 else 0)
    if fresh:
        storage.clear()  # not before everything that can be refused has been checked
    state.write()
    gan = cluster.warmed_gan(config, images, storage)
    for stage in state.unfinished:
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
        self.stages: list[dict[str, Any]] = json.loads(file.read_text()) if file.is_file() and not fresh else []
        if self.stages:
            require_same_config(storage.folder / "config.json", config, {*WHERE_IT_RUNS, "search.trials"})
            if (storage.folder / "space.yaml").read_text() != space.text:
                raise UserError(
                    f"run {config.name!r} searched another space, {storage.folder / 'space.yaml'}; "
                    "use --fresh to start over or name=... for a run of its own"
                )
        if not self.stages or extend:
            number = 1 + len(self.stages) // 2
            trials = extend if self.stages else config.search.trials
            self.stages += [
                {"name": f"search-{number}", "kind": "search", "trials": trials, "done": False},
                {"name": f"confirm-{number}", "kind": "confirm", "done": False},
            ]

    @property
    def unfinished(self) -> list[dict[str, Any]]:
        return [stage for stage in self.stages if not stage["done"]]

    def write(self) -> None:
        folder = self._storage.folder
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "config.json", self._config.model_dump_json(indent=2) + "\n")
        write_text(folder / "space.yaml", self._space.text)
        write_text(folder / "state.json", json.dumps(self.stages, indent=2) + "\n")
        self._storage.push()


def _search(config: Config, space: Space, storage: Storage, gan: GanState | None, stage: dict[str, Any]) -> None:
    journal = storage.folder / records.JOURNAL
    extending = stage["name"] != "search-1"
    baselines = () if extending else BASELINES
    runs = stage["trials"] + len(baselines)

    def new_tuner(trainable: Any) -> tune.Tuner:
        search = config.search
        searcher = StudySearch(
            space, journal, search.seed, search.startup_trials, baselines, None if extending else space.point_of(config)
        )
        return tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=RungScheduler(config, _recorded(journal) if extending else None),
                num_samples=runs,
                **_tune_options(config),
            ),
            run_config=_run_config(config, storage, stage["name"], runs),
        )

    _fit(config, storage, stage["name"], gan, False, new_tuner)
    trials = records.trials_frame(load_study(journal), config)
    if not ((trials.state == "complete") & ~trials.baseline).any():
        raise UserError(
            f"search {config.name!r}: none of {stage['trials']} trials finished its budget; see {storage.ray_path}/"
            f"{stage['name']} for their errors"
        )


def _confirm(config: Config, storage: Storage, gan: GanState | None, stage: dict[str, Any]) -> None:
    trials = records.trials_frame(records.open_study(storage.folder), config)
    plan = []
    for name in records.chosen_names(trials, config):
        overrides = records.overrides_of(name, trials)
        for seed in records.confirm_seeds(config):
            label = f"{name}-seed{seed}"
            if not (storage.folder / "confirm" / f"{label}.json").is_file():
                plan.append({"label": label, "name": name, "overrides": overrides | {"training.seed": seed}})
    if not plan:
        return

    def new_tuner(trainable: Any) -> tune.Tuner:
        return tune.Tuner(
            trainable,
            param_space={"run": tune.grid_search(plan)},
            tune_config=tune.TuneConfig(**_tune_options(config)),
            run_config=_run_config(config, storage, stage["name"], len(plan)),
        )

    results = _fit(config, storage, stage["name"], gan, True, new_tuner)
    (storage.folder / "confirm").mkdir(exist_ok=True)
    for result in (results[index] for index in range(len(results))):
        if result.error is None and result.metrics and result.config and result.metrics.get("progress") == 1:
            run = result.config["run"]
            record = {
                "name": run["name"],
                "label": run["label"],
                "overrides": run["overrides"],
                "seed": run["overrides"]["training.seed"],
                "images": result.metrics["images"],
                "seconds": result.metrics["time_total_s"],
                "metrics": {name: value for name, value in result.metrics.items() if is_metric(name)},
                "checkpoint": os.path.relpath(_checkpoint_path(result), storage.ray_folder),
            }
            write_text(storage.folder / "confirm" / f"{run['label']}.json", json.dumps(record, indent=2) + "\n")


def _checkpoint_path(result: Any) -> str:
    return str(result.checkpoint.path if result.checkpoint else result.metrics["checkpoint_path"])


def _fit(
    config: Config,
    storage: Storage,
    name: str,
    gan: GanState | None,
    test: bool,
    new_tuner: Callable[[Any], tune.Tuner],
) -> tune.ResultGrid:
    """Run a stage's Tune experiment, or what is left of it."""
    trainable = _trainable(config, gan, test, storage.ray_path)
    path = f"{storage.ray_path}/{name}"
    if tune.Tuner.can_restore(path):
        print(f"{config.name}: {name} goes on where it stopped")
        return tune.Tuner.restore(path, trainable=trainable, resume_unfinished=True, resume_errored=True).fit()
    return new_tuner(trainable).fit()


def _trainable(config: Config, gan: GanState | None, test: bool, root: str) -> Any:
    gpus = cluster.gpus_per_worker(config, cluster.resources())
    if config.compute.workers_per_trial > 1:
        nested = tune.with_parameters(nested_trial, base=config, gan=gan, test=test, root=f"{root}/workers")
        return tune.with_resources(nested, {"CPU": 1})
    single = tune.with_parameters(CurriculumTrial, base=config, gan=gan, test=test)
    bundle = {"CPU": config.compute.cpus_per_worker} | ({"GPU": gpus} if gpus else {})
    return tune.with_resources(single, PlacementGroupFactory([bundle]))


def _tune_options(config: Config) -> dict[str, Any]:
    workers = config.compute.workers_per_trial
    options: dict[str, Any] = {
        "reuse_actors": workers == 1,
        "trial_name_creator": label,
        "trial_dirname_creator": label,
    }
    if workers > 1:
        # A trial's driver holds a CPU while its workers wait for theirs: more drivers than fit would wait for ever.
        per_trial = 1 + workers * config.compute.cpus_per_worker
        options["max_concurrent_trials"] = max(1, int(cluster.resources()["CPU"] // per_trial))
    return options


def _run_config(config: Config, storage: Storage, name: str, runs: int) -> tune.RunConfig:
    single = config.compute.workers_per_trial == 1
    return tune.RunConfig(
        name=name,
        storage_path=storage.ray_path,
        callbacks=[StageLog(config, storage, name.split("-")[0], runs)],
        checkpoint_config=tune.CheckpointConfig(num_to_keep=1, checkpoint_frequency=1 if single else 0),
        failure_config=tune.FailureConfig(max_failures=2),
        verbose=0,
    )


def _recorded(journal: Path) -> dict[int, dict[str, float]]:
    """Scores at rungs of the trials so far, so that an extended study is as strict as one long one."""
    scores: dict[int, dict[str, float]] = {}
    for trial in load_study(journal).get_trials(deepcopy=False):
        if "arm" not in trial.user_attrs and "diverged" not in trial.user_attrs:
            for images, score in trial.intermediate_values.items():
                scores.setdefault(images, {})[trial.user_attrs["label"]] = score
    return scores
