"""The confirm stage: what is left of it, and records as runs end."""

import json
from types import SimpleNamespace

import pytest
from run_folder import CONFIRMED, RUNGS, SEEDS, make_run, run_config

from synthcl.comparison.arms import ARMS, EQUAL_TIME
from synthcl.runs.storage import Storage
from synthcl.search import confirm, results
from synthcl.search.state import State
from synthcl.training.flops import training_flops, warmup_flops

REPORT = {
    "images": 8192,
    "seconds": 12.5,
    "seconds/scoring": 2.5,
    "score": 80.0,
    "test/knn/x": 70.0,
    "history": [{"images": 64, "loss/contrast": 5.0}, {"images": 128, "loss/contrast": 4.5}],
    "diverged": False,
}


def test_only_runs_without_a_record_are_left(tmp_path):
    folder, config = make_run(tmp_path, opponents=True), run_config(tmp_path)
    trials = results.trials_frame(results.open_study(folder), config)
    left = confirm.left(trials, config, folder)
    assert {run["name"] for run in left} == {"real-only-001", "real-only-003"}  # which have no records there
    for run in left:  # a seed is a whole repetition
        assert run["overrides"]["training.seed"] == run["overrides"]["data.split_seed"] in SEEDS
    (folder / "confirm" / f"trial-004-seed{SEEDS[1]}.json").unlink()
    more = [run for run in confirm.left(trials, config, folder) if run not in left]
    assert [(run["label"], run["overrides"]["training.seed"]) for run in more] == [("trial-004-seed1001", 1001)]


def test_a_record_is_written_when_a_run_has_spent_its_budget_and_not_before(tmp_path):
    recorder = confirm.Recorder(tmp_path, "confirm-2", config := run_config(tmp_path), available_images=2000)
    run = {"label": "a-seed1000", "name": "a", "overrides": {"training.seed": 1000}}
    trial = SimpleNamespace(config={"run": run})
    for report in (REPORT | {"progress": 0.5}, REPORT | {"progress": 1, "diverged": True, "reason": "nan"}):
        recorder.on_trial_result(0, [trial], trial, report)
        assert not list((tmp_path / "confirm").glob("*"))
    recorder.on_trial_result(0, [trial], trial, REPORT | {"progress": 1})
    (record,) = results.confirm_records(tmp_path, config)
    assert record.metrics == {"score": 80.0, "test/knn/x": 70.0}
    assert record.checkpoint == "confirm-2/a-seed1000"
    assert (record.seed, record.seconds) == (1000, {"train": 10, "evaluate": 2.5})
    assert (record.images, record.images_seen) == (2000, RUNGS[-1])
    assert record.config == config.with_overrides(record.overrides).model_dump(mode="json")
    assert record.statistics == {"loss/contrast": 4.5}
    assert record.flops == {"train": training_flops(config), "warm-up": warmup_flops(config, 2000)}


def timed(root, seconds, **more):
    """A finished run in which training took so many seconds, by name."""
    folder = make_run(root, **more)
    for name, of_each in seconds.items():
        for seed, trained in zip(SEEDS, of_each, strict=True):
            file = folder / "confirm" / f"{name}-seed{seed}.json"
            file.write_text(json.dumps(json.loads(file.read_text()) | {"train_seconds": trained}))
    return folder


def recorded(folder, config, run):
    """Write the record of a run that has ended."""
    trial = SimpleNamespace(config={"run": run})
    recorder = confirm.Recorder(folder, "confirm-1", config, available_images=100)
    recorder.on_trial_result(0, [trial], trial, REPORT | {"progress": 1})


def test_real_only_gets_the_time_that_the_best_of_the_method_trains(tmp_path):
    """On validation trial-002 is the best of the method, and the preset's own real-only the only one."""
    folder, config = timed(tmp_path, {"real-only": [9, 10, 11], "trial-002": [20, 30, 40]}), run_config(tmp_path)
    left = confirm.equal_time_left(config, folder)
    assert [run["label"] for run in left] == [f"{EQUAL_TIME}-seed{seed}" for seed in SEEDS]
    for run, seed in zip(left, SEEDS, strict=True):
        own = {"training.kimg": 24.6, "training.seed": seed, "data.split_seed": seed}  # 3 times 8.192
        assert run["overrides"] == ARMS["real-only"] | own
        assert config.with_overrides(run["overrides"]).is_real_only
        assert run["compared"] == {"of": "trial-002", "as": "real-only"}


def test_only_seeds_that_both_have_are_timed(tmp_path):
    folder = timed(tmp_path, {"real-only": [10, 99, 10], "trial-002": [20, 1, 20]})
    (folder / "confirm" / f"real-only-seed{SEEDS[1]}.json").unlink()
    assert {run["overrides"]["training.kimg"] for run in confirm.equal_time_left(run_config(tmp_path), folder)} == {
        16.4
    }


def test_a_budget_in_equal_time_is_kept_until_the_two_are_others(tmp_path):
    folder, config = timed(tmp_path, {"real-only": [10] * 3, "trial-002": [20] * 3}), run_config(tmp_path)
    first, *others = confirm.equal_time_left(config, folder)
    recorded(folder, config, first)
    timed_anew = folder / "confirm" / f"trial-002-seed{SEEDS[0]}.json"
    timed_anew.write_text(json.dumps(json.loads(timed_anew.read_text()) | {"train_seconds": 500}))
    assert confirm.equal_time_left(config, folder) == others
    for run in others:
        recorded(folder, config, run)
    assert confirm.equal_time_left(config, folder) == []
    for file in (folder / "confirm").glob("trial-002-*"):  # a search that has gone on may have found another one
        file.unlink()
    assert [
        (run["compared"]["of"], run["overrides"]["training.seed"]) for run in confirm.equal_time_left(config, folder)
    ] == [("trial-004", seed) for seed in SEEDS]


@pytest.mark.parametrize("missing", ["method", "real-only"])
def test_without_one_of_the_two_there_is_no_run_in_equal_time(tmp_path, missing):
    baselines = {"real-only", "frozen-gan"}
    kept = baselines if missing == "method" else CONFIRMED.keys() - {"real-only"}
    folder = make_run(tmp_path, confirmed={name: CONFIRMED[name] for name in kept})
    assert confirm.equal_time_left(run_config(tmp_path), folder) == []


def test_a_finished_search_goes_on_when_it_is_asked_for_equal_time_and_only_then(tmp_path):
    folder, config = make_run(tmp_path), run_config(tmp_path)
    finished = [{"name": f"{kind}-1", "kind": kind, "begun": True, "done": True} for kind in ("search", "confirm")]
    (folder / "state.json").write_text(json.dumps(finished))

    def unfinished(wanted):
        own, spaces = config.with_overrides({"search.equal_time": wanted}), SimpleNamespace(written=[])
        state = State(Storage(str(tmp_path), config.name), own, spaces, fresh=False, extend=0)
        return [stage["name"] for stage in state.unfinished]

    assert (unfinished(False), unfinished(True)) == ([], ["confirm-1"])
    for run in confirm.equal_time_left(config, folder):
        recorded(folder, config, run)
    assert unfinished(True) == []
