"""The confirm stage: what is left of it, and records as runs end."""

import json
from types import SimpleNamespace

from run_folder import SEEDS, make_run, run_config

from synthcl.search import confirm, results
from synthcl.training.flops import training_flops, warmup_flops

REPORT = {"images": 8192, "seconds": 12.5, "score": 80.0, "test/knn/x": 70.0, "history": [], "diverged": False}


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
        assert not list((tmp_path / "confirm").iterdir())
    recorder.on_trial_result(0, [trial], trial, REPORT | {"progress": 1})
    record = json.loads((tmp_path / "confirm/a-seed1000.json").read_text())
    assert record["metrics"] == {"score": 80.0, "test/knn/x": 70.0}
    assert record["checkpoint"] == "confirm-2/a-seed1000"
    assert (record["seed"], record["seconds"]) == (1000, 12.5)
    assert record["flops"] == {"train": training_flops(config), "warm-up": warmup_flops(config, 2000)}
