"""`python tune/search.py` as a user runs it, with real local Ray: whole, again, extended, killed and diverging."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import ray
import safetensors.torch
import timm
from optuna.trial import TrialState
from program import ROOT, run
from tiny_run import TINY, arguments

from benchmarks.reliability import intact
from synthcl import load_encoder
from synthcl.config.presets import load_preset
from synthcl.evaluation.names import headline
from synthcl.search.results import chosen_names, confirm_seeds, open_study, trials_frame
from synthcl.search.study import load_study

SEARCH = [sys.executable, str(ROOT / "tune/search.py")]


def search(*more, overrides=TINY, address=None):
    """What a search prints, joined from this process to the Ray at `address`, or with its own in one of its own."""
    given = [*more, *arguments(overrides)]
    if address is None:
        return subprocess.run([*SEARCH, *given], capture_output=True, text=True, check=True, timeout=600).stdout
    try:
        done = run("search", *given, "--address", address)
    finally:
        ray.shutdown()
    assert done.returncode == 0, done.stderr
    return done.stdout


def at(address):
    return os.environ | ({} if address is None else {"RAY_ADDRESS": address})


def trials(folder):
    return load_study(folder / "study.journal").trials


def searched(folder):
    """Parameters and state of all runs, by label."""
    return {trial.user_attrs["label"]: (trial.params, trial.state) for trial in trials(folder)}


def confirmed(folder):
    return {file.stem for file in (folder / "confirm").glob("*.json")}


def due(folder):
    """Labels of the runs that the confirm stage owes."""
    config = load_preset(str(folder / "config.json"))
    names = chosen_names(trials_frame(open_study(folder), config), config)
    return {f"{name}-seed{seed}" for name in names for seed in confirm_seeds(config)}


def test_a_search_leaves_everything_a_user_takes_away(smoke):
    for name in (
        "config.json",
        "report.md",
        "report.html",
        "progress.json",
        "leaderboard.json",
        "study.journal",
        "encoder.safetensors",
        "encoder.json",
    ):
        assert (smoke / name).stat().st_size > 0, name
    assert list((smoke / "figures").glob("*.png"))
    assert list((smoke / "samples").glob("trial-*/*.png"))
    assert load_encoder(smoke / "encoder.safetensors").training is False


def test_a_search_without_a_terminal_prints_nothing_but_plain_lines(smoke):
    out, err = ((smoke.parent / name).read_bytes().decode() for name in ("stdout.txt", "stderr.txt"))
    assert "\r" not in out + err
    assert not any(bar in out + err for bar in "█▏▎▍▌▋▊▉")
    assert re.search(r"^GAN warm-up 100%, D in order \d\.\d\d, took ", err, re.MULTILINE)
    assert re.search(r"^search \d+/\d+, best \d+\.\d\d \(trial-\d{3}\), took ", err, re.MULTILINE)
    assert re.search(r"^confirm \d+/\d+, took ", err, re.MULTILINE)
    rows = [line for line in out.splitlines() if re.search(r" kimg +\d+%  ", line)]
    assert {line.index("kimg") for line in rows if "-seed" not in line} == {24}  # one column
    assert len({line.index("kimg") for line in rows if "-seed" in line}) == 1  # of the confirm runs
    assert max(map(len, rows)) <= 80


def test_both_sides_are_in_the_journal_within_their_budgets_and_with_a_complete_run_to_confirm(smoke):
    study = trials(smoke)
    config = load_preset(str(smoke / "config.json"))
    whole = config.training.steps * config.training.batch_images
    for arm, share in ((None, 1 - config.search.opponent_share), ("real-only", config.search.opponent_share)):
        side = [trial for trial in study if trial.user_attrs.get("arm") == arm]
        assert len(side) > 1
        assert sum(trial.user_attrs["images"] for trial in side) <= share * config.search.budgets * whole
        assert any(trial.state is TrialState.COMPLETE for trial in side if trial.number)
    for trial in study:
        assert trial.state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        assert (trial.state is TrialState.COMPLETE) == (trial.user_attrs["images"] == whole)
        if trial.state is TrialState.RUNNING:  # it waits where it was sent
            assert trial.user_attrs["until"] in trial.intermediate_values


def test_the_line_after_the_table_is_a_verdict_with_an_interval(smoke):
    lines = (smoke.parent / "stdout.txt").read_text().splitlines()
    verdict = lines[next(at for at, line in enumerate(lines) if line.startswith("Brackets:")) + 1]
    assert re.search(r"best real-only found|generator does not pay", verdict)
    assert re.search(r"\[[+-]?\d+\.\d\d, [+-]?\d+\.\d\d\] points on test \(linear, 2 seeds\)", verdict)
    assert (smoke / "report.md").read_text().splitlines()[2] == f"**{verdict}**"


def test_the_search_never_saw_a_test_score_and_the_confirm_stage_did(smoke):
    for trial in trials(smoke):
        assert not any(name.startswith("test/") for name in trial.user_attrs["metrics"])
    records = [json.loads(file.read_text()) for file in (smoke / "confirm").glob("*.json")]
    assert confirmed(smoke) == due(smoke)
    assert {"real-only-seed1000", "frozen-gan-seed1001", "joint-seed1001"} <= due(smoke)
    assert len(records) == 2 * 5  # two seeds of the baselines, the preset's own, and the best of each side
    linear = f"test/{headline(load_preset(str(smoke / 'config.json')))}"
    assert all(linear in record["metrics"] for record in records)
    assert all(record["seed"] >= 1000 for record in records)


def test_a_confirm_seed_is_a_whole_repetition(smoke):
    records = [json.loads(file.read_text()) for file in (smoke / "confirm").glob("*.json")]
    assert {record["overrides"]["data.split_seed"] for record in records} == {1000, 1001}
    assert all(record["overrides"]["training.seed"] == record["overrides"]["data.split_seed"] for record in records)
    assert len(list((smoke.parent / "gan").glob("*.safetensors"))) == 3  # of the search's images, and of each seed's


def test_all_runs_of_a_table_spent_the_same_images(smoke):
    records = [json.loads(file.read_text()) for file in (smoke / "confirm").glob("*.json")]
    assert len({(record["steps"], record["views_per_step"], record["images"]) for record in records}) == 1


def test_tensorboard_has_scalars_and_hparams_of_every_run(smoke):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folders = list((smoke / "tensorboard").glob("*/*"))  # search/, confirm/
    assert {folder.name for folder in folders} == {t.user_attrs["label"] for t in trials(smoke)} | confirmed(smoke)
    for folder in folders:
        events = EventAccumulator(str(folder)).Reload()
        assert "loss/contrast" in events.Tags()["scalars"]
        assert "_hparams_/session_start_info" in events.PluginTagToContent("hparams")


def test_the_same_command_again_says_that_the_search_is_complete(smoke):
    before = (smoke / "study.journal").read_bytes()
    again = run("search", "--smoke-test", "--storage", str(smoke.parent))
    assert again.returncode == 0
    assert "complete" in again.stdout
    assert (smoke / "study.journal").read_bytes() == before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("terms.contrast.temperature=0.3", "terms.contrast.temperature.start=0.2"),
        ("search.space={space}", "search.space='curriculum'"),
        ("data.source=nowhere", "data.source='fashion-mini'"),
    ],
)
def test_another_search_under_the_same_name_is_refused(smoke, tmp_path, given, message):
    space = tmp_path / "space.yaml"
    space.write_text("terms.contrast.temperature: {low: 0.1, high: 0.5}\n")
    refused = run("search", "--smoke-test", "--storage", str(smoke.parent), given.format(space=space))
    assert refused.returncode == 2
    assert message in refused.stderr


def test_a_run_whose_space_has_changed_since_goes_on_in_the_space_it_recorded(smoke):
    again = run("search", "--smoke-test", "--storage", str(smoke.parent), f"search.space={smoke / 'space.yaml'}")
    assert (again.returncode, again.stderr) == (0, "")
    assert "complete" in again.stdout


def test_bad_input_beside_fresh_loses_nothing(smoke):
    before = (smoke / "study.journal").read_bytes()
    refused = run("search", "--smoke-test", "--storage", str(smoke.parent), "--fresh", "data.source=nowhere")
    assert refused.returncode == 2
    assert (smoke / "study.journal").read_bytes() == before
    assert (smoke / "encoder.safetensors").is_file()


def three_are_scored(found):
    return sum(bool(trial.intermediate_values) for trial in found) > 2


def killed_in_mid_search(overrides, folder, enough=three_are_scored, address=None):
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*SEARCH, *arguments(overrides)], **quiet, start_new_session=True, env=at(address))
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (folder / "study.journal").is_file() and enough(trials(folder)):
            break
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_killed_population_goes_on_and_its_lineages_are_what_they_are_from_the_start(tmp_path, ray_address):
    overrides, folder = TINY | {"compute.storage": str(tmp_path)}, tmp_path / "fashion-mini"
    overrides |= {"search.algorithm": "population", "search.space": "population", "search.seed_deviation": 0}
    overrides |= {"search.opponent_share": 0}
    copied = lambda found: any("parent" in trial.user_attrs for trial in found)  # noqa: E731
    killed_in_mid_search(overrides, folder, copied, ray_address)
    before = searched(folder)

    shown = search(overrides=overrides, address=ray_address)
    config, after = load_preset(str(folder / "config.json")), searched(folder)
    assert "goes on" in shown
    assert "own score in the search is not a result" in shown
    assert all(params == after[label][0] for label, (params, _) in before.items())
    assert intact.study_problems(folder, config) == {"lost": 0, "orphans": 0, "repeated": 0, "overspent": 0}
    assert intact.unequal(folder, config) == 0
    lines = (folder / "lineage.csv").read_text().splitlines()
    copies = [trial for trial in trials(folder) if "parent" in trial.user_attrs]
    assert len(lines) == 1 + 4 + len(copies)
    assert all(trial.user_attrs["copied"] in lines[1 + trial.number] for trial in copies)
    labels = {trial.user_attrs["label"] for trial in copies}
    assert any(label.removesuffix("-seed1000") in labels for label in confirmed(folder))
    assert "own score, not a result" in (folder / "report.md").read_text()
    refused = run("search", "--budgets", "+4", *arguments(overrides))
    assert (refused.returncode, "last generation" in refused.stderr) == (2, True)


def test_a_killed_search_with_two_objectives_goes_on_and_confirms_the_ends_of_its_front(tmp_path, ray_address):
    overrides, folder = TINY | {"compute.storage": str(tmp_path)}, tmp_path / "fashion-mini"
    overrides |= {"search.objective": "pareto", "search.confirm_top": 2, "search.budgets": 7}
    killed_in_mid_search(overrides, folder, address=ray_address)
    before = searched(folder)
    done = search(overrides=overrides, address=ray_address)
    assert "goes on" in done
    assert all(params == searched(folder)[label][0] for label, (params, _) in before.items())
    assert intact.study_problems(folder, load_preset(str(folder / "config.json"))) == dict.fromkeys(
        ("lost", "orphans", "repeated", "overspent"), 0
    )
    for trial in trials(folder):  # both objectives, at every rung
        assert {str(images) for images in trial.intermediate_values} == trial.user_attrs.get("transfer", {}).keys()
    assert confirmed(folder) == due(folder)
    front = json.loads((folder / "leaderboard.json").read_text())["front"]
    ends = {"best of both"}, {"best linear", "best transfer"}
    assert {role for name, role in front.items() if name.startswith("trial")} in ends
    assert all(f"{name} ({role})" in done for name, role in front.items())
    lines = done.splitlines()
    said = lines[lines.index(next(line for line in lines if line.startswith("Winner by mean"))) - 1]
    assert "real-only" in said
    assert "on test (transfer, 1 seed)" in said
    assert (folder / "figures" / "trade-off.png").is_file()


def test_a_killed_search_goes_on_past_diverged_trials_and_can_be_extended(tmp_path, ray_address):
    space = tmp_path / "space.yaml"
    space.write_text(
        f"training.learning_rate: {{choices: [0.001, {', '.join(f'1.0e+{power}' for power in range(22, 31))}]}}\n"
        "curriculum.hardness.start: {low: 0.1, high: 1.0}\n"
    )
    overrides, folder = TINY | {"training.kimg": 1.024, "compute.storage": str(tmp_path)}, tmp_path / "fashion-mini"
    overrides |= {"search.space": str(space), "search.budgets": 6, "search.startup_trials": 4}
    killed_in_mid_search(overrides, folder)
    before = searched(folder)

    assert "goes on" in search(overrides=overrides)
    after = trials(folder)
    config = load_preset(str(folder / "config.json"))
    assert intact.study_problems(folder, config) == {"lost": 0, "orphans": 0, "repeated": 0, "overspent": 0}
    kept = searched(folder)
    assert all(params == kept[label][0] for label, (params, _) in before.items())

    diverged = [trial for trial in after if "diverged" in trial.user_attrs]
    assert diverged
    assert all(trial.state == TrialState.PRUNED and trial.params["training.learning_rate"] > 1 for trial in diverged)
    assert any(trial.state == TrialState.COMPLETE for trial in after)

    first, spent = confirmed(folder), sum(trial.user_attrs["images"] for trial in after)
    shown = search("--budgets", "+2", overrides=overrides, address=ray_address)
    assert "diverged" in shown + (folder / "report.md").read_text()
    assert spent < sum(trial.user_attrs["images"] for trial in trials(folder)) <= 8 * 1024
    assert first <= confirmed(folder)


def test_a_reference_that_is_added_to_a_finished_search_is_scored_and_changes_nothing_else(
    smoke, tmp_path, ray_address
):
    for place in smoke.parent.iterdir():
        (shutil.copytree if place.is_dir() else shutil.copy)(place, tmp_path / place.name)
    folder = tmp_path / smoke.name
    before = json.loads((folder / "leaderboard.json").read_text())
    weights = tmp_path / "pretrained.safetensors"
    network = timm.create_model("test_vit", num_classes=5, img_size=32)
    safetensors.torch.save_file(network.state_dict(), weights)
    frozen = f"evaluation.references.frozen={{kind: timm, backbone: test_vit, weights: {weights}}}"
    more = ("--smoke-test", "--storage", str(tmp_path), frozen, "evaluation.reference_image_size=32")
    done = search(*more, overrides={}, address=ray_address)
    assert "reference  frozen: test_vit begins with" in done
    assert done.count("reference frozen, seed") == 2
    assert "frozen (not trained here)" in (folder / "report.md").read_text()
    after = json.loads((folder / "leaderboard.json").read_text())
    assert [row["name"] for row in after.pop("not trained here")] == ["frozen (not trained here)"]
    assert before.pop("not trained here") == []
    assert after == before
    again = search(*more, overrides={}, address=ray_address)
    assert "complete" in again
    assert "reference frozen, seed" not in again


DIES_WHEN_REUSED = """
import os
import sys

from ray import tune
from synthcl.search.fault_tolerance import Retry
from synthcl.search.slots import Planned, Slots


class DiesWhenReused(tune.Trainable):
    def setup(self, config):
        pass

    def reset_config(self, new_config):
        os._exit(1)

    def step(self):
        return {"images": 64, "done": True}


runs = Planned([{"label": "one"}, {"label": "two"}])
given = tune.TuneConfig(search_alg=Slots(Retry(runs), lambda: 1), num_samples=-1, reuse_actors=True)
once = tune.CheckpointConfig(checkpoint_at_end=False)
kept = tune.RunConfig(name="stage", storage_path=sys.argv[1], verbose=0, checkpoint_config=once)
for result in tune.Tuner(DiesWhenReused, tune_config=given, run_config=kept).fit():
    if not result.error:
        print("ended:", result.config["run"]["label"])
"""


def test_a_process_that_dies_when_it_is_given_the_next_trial_costs_no_trial(tmp_path, ray_address):
    script = [sys.executable, "-c", DIES_WHEN_REUSED, str(tmp_path)]
    shown = subprocess.run(script, capture_output=True, text=True, check=True, env=at(ray_address)).stdout
    assert "two is tried again, 2 of 3\n" in shown
    assert [line for line in shown.splitlines() if line.startswith("ended")] == ["ended: one", "ended: two"]
