"""The search from the first trial to the report, in stages that can be interrupted anywhere.

    search-1     configurations of the method and of real-only, leg by leg, scored on validation
    confirm-1    the best of both and the baselines, fresh seeds, whole budget, test read once
    refit-1      with `--refit all`: the winner once more, on every image, without a score
    search-2 ... where `--budgets +N` extends the studies

`state.json` lists the stages. An unfinished one is continued from the Optuna journal, the records of the confirm
runs and each run's own last checkpoint; nothing else is read, so it does not matter when what was killed.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from ray import tune
from ray.tune import PlacementGroupFactory
from ray.tune.search import Searcher

from synthcl.cluster import preemption, train_workers
from synthcl.cluster.capacity import HEAD
from synthcl.cluster.connect import connect, require_storage
from synthcl.cluster.resources import concurrent_trials, gpus_per_worker, resources, trials_to_start
from synthcl.cluster.warmup import warmed_gan, warmed_gans
from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.runs.disk import require_space
from synthcl.runs.preflight import open_data
from synthcl.runs.storage import Storage
from synthcl.search import confirm, refit, report, results, study_notes, viewers
from synthcl.search.budget import confirm_images, equal_time_images, following_runs, kept_checkpoints, refit_images
from synthcl.search.checkpoint_cleanup import CheckpointCleanup
from synthcl.search.fault_tolerance import CheckpointOnPreemption, FreeOrphans, Retry
from synthcl.search.leaderboard import is_real_only
from synthcl.search.live import Follow, LivePage
from synthcl.search.optuna_search import StudySearch
from synthcl.search.outlook import Outlook
from synthcl.search.sides import Spaces, contests, rung_images
from synthcl.search.slots import Planned, Slots
from synthcl.search.stage_log import StageLog, leg_name
from synthcl.search.state import State
from synthcl.search.study import OPPONENT_STUDY, STUDY, load_study
from synthcl.search.time_limit import TimeLimit
from synthcl.search.trackers import require_trackers, trackers
from synthcl.search.trial import CurriculumTrial, WorkerPoolTrial
from synthcl.training.networks import Gans


def run_search(config: Config, spaces: Spaces, *, fresh: bool = False, extend: float = 0, preset: str = "") -> Path:
    """Search, confirm and report; the same call again continues, or says that the run is complete.

    Args:
        config: the configuration the search starts from.
        spaces: what is searched, of the method and of its opponent.
        fresh: forget an earlier run of this name.
        extend: budgets to add to a finished run.
        preset: that the configuration began with, which the study is described by.

    Returns:
        The folder with report, winner, study and logs.

    Raises:
        UserError: on unusable storage, data, cluster or tracker, or when an earlier run had another config.
    """
    if extend and config.search.algorithm == "population":
        raise UserError(
            f"--budgets +{extend:g}: a population is over with its last generation; "
            "give search.budgets and name=... for a run of its own"
        )
    require_trackers(config)
    storage = Storage(config.compute.storage, config.name)
    with storage.failures_named():
        return _run(storage, config, spaces, fresh, extend, preset)


def _run(storage: Storage, config: Config, spaces: Spaces, fresh: bool, extend: float, preset: str) -> Path:
    storage.probe()
    storage.pull()
    state = State(storage, config, spaces, fresh, extend)
    if not state.unfinished:
        extends = "" if config.search.algorithm == "population" else "--budgets +N extends it, "
        extends += "" if config.search.refit == "all" else "--refit all trains its winner on every image, "
        print(f"{config.name}: complete; {extends}--fresh starts over")
        report.write(config, storage)
        storage.push()
        return storage.folder

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for noisy in ("ray.tune", "ray.train", "ray.data"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)  # it calls incomplete what was tried again and ended
    data = open_data(config)
    print("\n".join([data.describe(), *viewers.lines(storage.folder, config.search.log_to)]), flush=True)
    connect(config)
    require_storage(storage)
    require_space(storage, config, kept=kept_checkpoints(config), at_a_time=concurrent_trials(config))
    if config.compute.workers_per_trial > 1:
        train_workers.require_state_api()
    if fresh:
        storage.clear()  # not before everything that can be refused has been checked
    state.write()
    with LivePage(config, storage) as page:
        page.begin(data.images)
        began = time.monotonic()
        gans: Gans = {config.data.split_seed: warmed_gan(config, data.images, storage)}
        first, took = state.stages[0], time.monotonic() - began  # next to nothing where it is found in the cache
        first["warm_up_seconds"] = max(first.get("warm_up_seconds", 0.0), took)
        for stage in state.unfinished:
            if stage["begun"]:
                print(f"{config.name}: {stage['name']} goes on where it stopped")
            stage["begun"] = True
            state.write()
            page.enter(stage["name"])
            if stage["kind"] == "search":
                _search(config, spaces, storage, page, gans, stage, first["warm_up_seconds"], preset)
                page.make_slow_parts()
            elif stage["kind"] == "confirm":
                _confirm(config, spaces, storage, page, stage, first["warm_up_seconds"])
            else:
                report.write(config, storage, quiet=True)  # that its failure costs nobody the report
                refit.refit(config, storage, stage["name"])
            stage["done"] = True
            state.write()
    report.write(config, storage)
    storage.push()
    return storage.folder


def _search(
    config: Config,
    spaces: Spaces,
    storage: Storage,
    page: LivePage,
    gans: Gans,
    stage: dict[str, Any],
    each_warm_up_seconds: float,
    preset: str = "",
) -> None:
    journal = storage.folder / results.JOURNAL
    both = contests(config, spaces, stage["budgets"])
    whole = both[0].rungs[-1]
    limit = None
    at_a_time = concurrent_trials(config)
    warm_ups = config.search.confirm_seeds * each_warm_up_seconds  # at most: they may run side by side
    again = each_warm_up_seconds if config.search.refit == "all" else 0.0
    if config.search.hours:
        limit = TimeLimit(config.search.hours, following_runs(config) * whole, at_a_time, warm_ups + again)
    searcher = StudySearch(both, journal, limit)
    study_notes.describe(journal, config, preset)
    left = searcher.left_images
    images = {"search": (left[STUDY], 0.0)}
    if OPPONENT_STUDY in left:
        images["opponent"] = 0.0, left[OPPONENT_STUDY]
    running = tuple(images)
    own, real = confirm_images(config)
    images["confirm"] = own + equal_time_images(config), real
    images |= refit_images(config, at_a_time)
    outlook = Outlook(images, running, at_a_time, {"confirm": warm_ups, "refit": again})
    all_go_on = config.search.algorithm == "population"
    cleanup = CheckpointCleanup(journal, storage.ray_uri(stage["name"]), all_go_on=all_go_on)
    _fit(config, storage, page, stage["name"], outlook, gans, searcher, cleanup, searched=spaces.fields)
    trials = results.trials_frame(load_study(journal), config)
    if not ((trials.state == "complete") & ~trials.baseline).any():
        raise UserError(
            f"search {config.name!r}: no configuration finished a whole run within {stage['budgets']:g} budgets; "
            f"see {storage.ray_uri(stage['name'])} for errors"
        )


def _confirm(
    config: Config,
    spaces: Spaces,
    storage: Storage,
    page: LivePage,
    stage: dict[str, Any],
    each_warm_up_seconds: float,
) -> None:
    trials = results.trials_frame(results.open_study(storage.folder), config)
    recorder = confirm.Recorder(storage.folder, stage["name"], config, len(open_data(config).images))
    fit = partial(_fit, config, storage, page, stage["name"], test=True, searched=spaces.fields)
    if plan := confirm.left(trials, config, storage.folder):
        images = len(plan) * rung_images(config)[-1]
        real = sum(is_real_only(run["name"]) for run in plan) * rung_images(config)[-1]
        seeds = sorted({run["overrides"]["data.split_seed"] for run in plan})  # a seed is a whole repetition
        own = [config.with_overrides({"data.split_seed": seed}) for seed in seeds]
        wanted = [(each, open_data(each).images) for each in own]
        gans: Gans = dict(zip(seeds, warmed_gans(wanted, storage, each_warm_up_seconds), strict=True))
        following = {"equal time": (equal_time_images(config), 0.0)} if config.search.equal_time else {}
        following |= refit_images(config, concurrent_trials(config))
        outlook = Outlook({"confirm": (images - real, real), **following}, ["confirm"], concurrent_trials(config))
        fit(outlook, gans, Planned(plan), recorder)
    if config.search.equal_time and (plan := confirm.equal_time_left(config, storage.folder)):
        images = len(plan) * rung_images(config.with_overrides(plan[0]["overrides"]))[-1]
        outlook = Outlook({"equal time": (0.0, images)}, ["equal time"], concurrent_trials(config))
        gans = {run["overrides"]["data.split_seed"]: None for run in plan}
        fit(outlook, gans, Planned(plan), recorder)
    confirm.score_references(config, storage.folder)


def _fit(
    config: Config,
    storage: Storage,
    page: LivePage,
    name: str,
    outlook: Outlook,
    gans: Gans,
    searcher: Searcher,
    *callbacks: tune.Callback,
    test: bool = False,
    searched: Collection[str] = (),
) -> None:
    """Run what is left of a stage; every run goes on from its own checkpoint."""
    if not storage.is_uri:
        (storage.folder / name).mkdir(exist_ok=True)
    log, followed = StageLog(config, storage, name, outlook, searched), trackers(config, storage, name, searched)
    own = [log, Follow(page, name, log), CheckpointOnPreemption(), FreeOrphans()]
    tuner = tune.Tuner(
        _trainable(config, gans, test, storage.ray_uri(name)),
        tune_config=tune.TuneConfig(
            search_alg=Slots(Retry(searcher), partial(trials_to_start, config)),
            num_samples=-1,  # the searcher says when it is done
            reuse_actors=True,
            trial_name_creator=leg_name,
            trial_dirname_creator=leg_name,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=storage.ray_path,
            callbacks=[*own, *callbacks, *followed],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # trials keep their own
            verbose=0,
        ),
    )
    with preemption.catching_signals(signal.SIGINT, signal.SIGTERM):
        tuner.fit()


def _trainable(config: Config, gans: Gans, test: bool, root: str) -> Any:
    given = {"base": config, "gans": gans, "test": test, "root": root}
    if config.compute.workers_per_trial > 1:
        # It only waits for its workers, so it holds no CPU that they could be waiting for; on the head, so that it
        # outlives theirs.
        return tune.with_resources(
            tune.with_parameters(WorkerPoolTrial, **given), PlacementGroupFactory([{HEAD: 0.001}])
        )
    gpus = gpus_per_worker(config, resources())
    bundle = {"CPU": config.compute.cpus_per_worker} | ({"GPU": gpus} if gpus else {})
    return tune.with_resources(tune.with_parameters(CurriculumTrial, **given), PlacementGroupFactory([bundle]))
