"""The report says what the records say, and nothing that the test split decided."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from statistics import stdev
from typing import Any

import optuna
import pandas as pd
import pytest
import torch
from run_folder import BEST_SEED, CONFIRMED, RUNGS, SEEDS, SOURCE, make_run, run_config

from synthcl import load_encoder
from synthcl.comparison import plotting
from synthcl.comparison.arms import ARMS, EQUAL_TIME
from synthcl.core.errors import UserError
from synthcl.core.tables import fitted, markdown
from synthcl.runs import checkpoint
from synthcl.runs.storage import Storage
from synthcl.search import figures, leaderboard, report, results
from synthcl.search.settings import reads
from synthcl.search.study import STUDY, journal

LINEAR = f"test/linear/{SOURCE}@100"
TRANSFER = "test/transfer/mean"
FIGURES = {"search", "curves", "schedules", "importances", "trade-off", "samples"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with its report."""
    root = tmp_path_factory.mktemp("runs")
    folder = make_run(root, stopped=19)
    write(folder)
    return folder


def write(folder: Path) -> None:
    report.write(run_config(folder.parent), Storage(str(folder.parent), folder.name))


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made and not rendered, which takes most of a report's time."""
    monkeypatch.setattr(plotting, "save", lambda figure, file: None)


def board_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "leaderboard.json").read_text())


def test_means_spreads_and_paired_differences_are_those_of_the_records(written: Path) -> None:
    rows = {row["name"]: row for row in board_of(written)["rows"]}
    assert rows.keys() == CONFIRMED.keys()
    for name, runs in CONFIRMED.items():
        for metric, column in (("score", 0), (LINEAR, 2), (TRANSFER, 3)):
            values = [scores[column] for scores in runs]
            got = rows[name]["scores"][metric]
            assert got["mean"] == pytest.approx(sum(values) / 3)
            assert got["std"] == pytest.approx(stdev(values))
            assert got["n"] == 3
    # trial-002 minus real-only by seed: 80 - 79, 80.5 - 80, 82 - 81; Student's t of two degrees of freedom is 4.3027
    difference = rows["trial-002"]["minus opponent"][LINEAR]
    half = 4.30265 * stdev([1.0, 0.5, 1.0]) / 3**0.5
    expected = {"value": 2.5 / 3, "low": 2.5 / 3 - half, "high": 2.5 / 3 + half, "n": 3}
    assert difference == pytest.approx(expected, rel=1e-5)
    # in transfer: 60.5 - 59, 61 - 60, 66 - 64
    difference = rows["trial-002"]["minus opponent"][TRANSFER]
    assert difference == pytest.approx({"value": 1.5, "low": 1.5 - 1.24207, "high": 1.5 + 1.24207, "n": 3}, rel=1e-5)
    assert rows["real-only"]["minus opponent"] == {}


def test_the_report_has_the_tables_of_a_comparison(written: Path) -> None:
    text = (written / "report.md").read_text()
    test, validation = text[text.index("## Test") :].split("## Validation")
    assert "| trial-002 | - | 80.83±1.04 | 75.83±1.04 | 65.83±1.04 | 78.83±1.04 | 62.50±3.04 | 3 |" in test
    differences = test[test.index("### Difference to real-only with the same images, points") :]
    shared = "+0.83 [+0.12, +1.55] |"
    assert f"| trial-002 | - | {3 * (shared + ' ')}+1.50 [+0.26, +2.74] | 3 |" in differences
    assert "| trial-002 | - | +4.00 [+4.00, +4.00] |" in validation
    assert f"| joint | - | {shared}" not in differences
    gained = differences[differences.index("### What trial-002 gains over other arms") :]
    assert "| frozen-gan | - | +1.50 [" in gained
    seconds = text[text.index("### Wall seconds and floating-point operations of training") :]
    assert "| trial-002 | - | 20.00±0.00 | 3 | - | - |" in seconds


def test_rows_are_sorted_by_validation_where_test_disagrees(written: Path) -> None:
    board = board_of(written)
    tested = {row["name"]: row["scores"][LINEAR]["mean"] for row in board["rows"]}
    assert tested["trial-004"] > tested["trial-002"]
    assert [row["name"] for row in board["rows"]] == ["trial-002", "trial-004", "real-only", "frozen-gan", "joint"]
    assert board["winner"] == "trial-002"
    assert board["best"] == {"linear": "trial-002", "transfer": "trial-004"}


@pytest.mark.parametrize("columns", [60, 80, 98, 109, 160])
def test_a_table_fits_its_terminal_and_breaks_no_word(tmp_path: Path, columns: int) -> None:
    config = run_config(tmp_path)
    board = leaderboard.compare(results.confirm_records(make_run(tmp_path), config), config, [], list(SEEDS))
    table = leaderboard.cells(board)
    parts = fitted(table, columns).split("\n\n")
    assert all(len(line) <= columns for part in parts for line in part.splitlines())
    assert (len(parts) == 1) == (columns == 160)
    shown = [part.splitlines() for part in parts]
    assert "".join(lines[0] for lines in shown).split() == " ".join(table[0]).split()
    for number, row in enumerate(table[1:], start=1):
        assert all(lines[number].startswith(row[0]) for lines in shown)
        assert (
            " ".join(lines[number].removeprefix(row[0]).strip() for lines in shown).split() == " ".join(row[1:]).split()
        )


@pytest.mark.usefixtures("no_pictures")
def test_the_terminal_shows_the_table_within_110_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    folder = make_run(tmp_path)
    counted = {"flops": {"train": 1.0412e12, "warm-up": 1.6351e12}}
    for file in (folder / "confirm").glob("trial-002-*.json"):  # those of an earlier version have none
        file.write_text(json.dumps(json.loads(file.read_text()) | counted))
    write(folder)
    lines = capsys.readouterr().out.splitlines()
    scores = "trial-002  85.00±1.00 80.83±1.04 75.83±1.04 65.83±1.04 78.83±1.04 62.50±3.04 +0.83 [+0.12, +1.55]"
    assert scores in lines
    assert "trial-002 +1.50 [+0.26, +2.74] 3 20 1.041 T 1.635 T" in [" ".join(line.split()) for line in lines]
    assert "real-only reference 3 20 - -" in [" ".join(line.split()) for line in lines]
    assert "Winner by mean validation score (linear): trial-002." in lines
    assert max(map(len, lines[: len(lines) - 2])) <= 110  # the last two are paths


@pytest.mark.usefixtures("no_pictures")
def test_the_best_of_both_sides_are_confirmed_and_the_configurations_own_once(tmp_path: Path) -> None:
    folder, config = make_run(tmp_path, opponents=True), run_config(tmp_path)
    trials = results.trials_frame(results.open_study(folder), config)
    states = dict(zip(trials.label, trials.state, strict=True))
    assert (states["real-only-001"], states["real-only-002"]) == ("complete", "paused")
    assert trials.set_index("label").baseline["real-only-001"]
    names = results.chosen_names(trials, config)
    assert names == ["real-only", "frozen-gan", "joint", "trial-002", "trial-004", "real-only-003", "real-only-001"]
    opponent = config.with_overrides(results.overrides_of("real-only-001", trials, config))
    assert opponent.is_real_only
    assert opponent.schedules_of_plugins["terms.contrast.temperature"].bounds == (0.3, 0.3)
    assert not config.with_overrides(results.overrides_of("trial-002", trials, config)).is_real_only
    assert results.overrides_of("real-only", trials, config) == ARMS["real-only"]


VERDICTS = {
    "trial-002 beats the best real-only found (real-only-001) by 3.00 [0.52, 5.48] points on test (linear, 3 seed": 3.0,
    "trial-002 is not told apart from the best real-only found (real-only-001): +1.00 [-1.48, +3.48] points on": 1.0,
    "Real images alone are better here; the generator does not pay: trial-002 minus real-only-001 -4.00 [-6.48,": -4.0,
}


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(("verdict", "ahead"), VERDICTS.items(), ids=["better", "the same", "worse"])
def test_the_verdict_is_about_the_best_of_both_sides_on_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verdict: str, ahead: float
) -> None:
    real = [(90.0, 60.0, 70.0, 60.0)] * 3  # ahead of the other real-only on validation
    own = [(85.0, 60.0, 70.0 + ahead + more, 60.0) for more in (-1.0, 0.0, 1.0)]
    some = {"real-only": [(70.0, 60.0, 99.0, 60.0)] * 3, "real-only-001": real, "trial-002": own}
    folder = make_run(tmp_path, confirmed=some, opponents=True)
    write(folder)
    said = capsys.readouterr().out.splitlines()
    table = next(at for at, line in enumerate(said) if line.startswith("Brackets:"))
    assert said[table + 1].startswith(verdict)  # the first line after the table
    assert (folder / "report.md").read_text().splitlines()[2].startswith(f"**{verdict}")
    assert board_of(folder)["verdict"].startswith(verdict)
    assert board_of(folder)["opponent"] == "real-only-001"


@pytest.mark.usefixtures("no_pictures")
def test_real_only_in_equal_time_is_a_row_and_a_sentence_and_neither_reference_nor_winner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path, confirmed=CONFIRMED | {EQUAL_TIME: [(99.0, 99.0, 79.0, 99.0)] * 3})
    write(folder)
    said = capsys.readouterr().out
    board = board_of(folder)
    assert (board["winner"], board["opponent"]) == ("trial-002", "real-only")
    assert set(board["best"].values()) == {"trial-002", "trial-004"}
    row = next(row for row in board["rows"] if row["name"] == EQUAL_TIME)
    assert row["minus opponent"][LINEAR]["value"] == -1.0  # 79 over 80
    assert board["minus equal time"]["value"] == pytest.approx(80.8333 - 79, abs=1e-3)
    assert "In equal time: trial-002 minus real-only-equal-time +1.83 [" in said
    text = (folder / "report.md").read_text()
    assert "Every run has equal optimiser steps and equal views" in text
    assert "real-only-equal-time has the wall time of trial-002, and more steps and views" in text


def test_there_is_no_verdict_from_one_seed_or_without_an_opponent(tmp_path: Path) -> None:
    config = run_config(tmp_path)

    def first(confirmed: dict[str, Any]) -> str:
        folder = make_run(tmp_path / str(len(confirmed)), confirmed=confirmed)
        board = leaderboard.compare(results.confirm_records(folder, config), config, [], SEEDS)
        return leaderboard.verdict(board)[0]

    one = {name: runs[:1] for name, runs in CONFIRMED.items()}
    assert (
        first(one)
        == "No verdict from one seed: trial-002 minus real-only, the best real-only, +1.00 on test (linear, 1 seed)."
    )
    without = {"joint": CONFIRMED["joint"]}
    assert first(without) == "No verdict: of method and real-only, one has not been confirmed."


def test_the_search_has_to_beat_the_curriculum_it_began_with(tmp_path: Path) -> None:
    """Its own configuration is confirmed as an arm, once, whether it was pruned, led, or is still to be run."""
    config = run_config(tmp_path).with_overrides({"search.confirm_top": 2})
    trials = results.trials_frame(results.open_study(make_run(tmp_path)), config)
    assert results.chosen_names(trials, config)[2] == "joint"
    assert results.overrides_of("joint", trials, config) == {}
    leader = config.with_overrides(dict(trials.set_index("label").overrides["trial-002"]))
    names = results.chosen_names(trials, leader)  # now trial-002 is the configuration itself
    assert names == ["real-only", "frozen-gan", "joint", "trial-004", "trial-008"]


def test_a_winning_baseline_is_said_and_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    better = [(90.0, 50.0, 70.0, 50.0)] * 3
    folder = make_run(tmp_path, confirmed=CONFIRMED | {"real-only": better})
    write(folder)
    sentence = "No searched curriculum beat the baseline real-only on validation in this run."
    assert sentence in capsys.readouterr().out
    text = (folder / "report.md").read_text()
    assert sentence in text
    assert "Schedules of real-only and trial-002" in text  # a baseline's own curriculum shows nothing
    assert "![Samples by progress](figures/samples.png)" in text  # of the best trial
    assert json.loads((folder / "encoder.json").read_text())["scores"]["run"].startswith("real-only")


def test_a_search_that_found_nothing_to_confirm_says_so(tmp_path: Path) -> None:
    """Its trials but the configuration's own were all stopped early, so only what it began with is in the table."""
    own = ["real-only", "frozen-gan", "joint"]
    config = run_config(tmp_path)
    confirmed = results.confirm_records(make_run(tmp_path, confirmed={name: CONFIRMED[name] for name in own}), config)
    sentence = "No trial but the configuration's own was complete, so no searched curriculum was confirmed."
    assert sentence in leaderboard.verdict(leaderboard.compare(confirmed, config, own, SEEDS))
    still_due = leaderboard.compare(confirmed, config, [*own, "trial-002"], SEEDS)
    assert sentence not in leaderboard.verdict(still_due)


@pytest.mark.usefixtures("no_pictures")
def test_missing_seeds_and_unconfirmed_trials_are_said(tmp_path: Path) -> None:
    fewer = {name: runs[:2] if name == "real-only" else runs for name, runs in CONFIRMED.items() if name != "trial-004"}
    folder = make_run(tmp_path, confirmed=fewer)
    write(folder)
    text = (folder / "report.md").read_text()
    assert "real-only is missing seeds that did not finish: 1002." in text
    assert "Chosen but without any finished seed: trial-004." in text
    rows = {row["name"]: row for row in board_of(folder)["rows"]}
    assert rows["trial-002"]["minus opponent"][LINEAR]["n"] == 2
    assert rows["trial-002"]["minus opponent"][LINEAR]["value"] == pytest.approx((1.0 + 0.5) / 2)
    assert rows["trial-002"]["scores"][LINEAR]["n"] == 3


@pytest.mark.usefixtures("no_pictures")
def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    folder = make_run(tmp_path, confirmed={name: runs[:1] for name, runs in CONFIRMED.items()})
    write(folder)
    first = board_of(folder)["rows"][0]
    assert first["scores"][LINEAR] == {"mean": 80.0, "std": None, "n": 1}
    assert "| trial-002 | 84.00 | 80.00 |" in (folder / "report.md").read_text()


def test_every_state_of_a_trial_is_shown(written: Path) -> None:
    lines = {line.split(" | ")[0][2:]: line for line in (written / "report.md").read_text().splitlines() if "|" in line}
    assert "| pruned | 2,048 | 66.00 |" in lines["trial-003"]
    assert "| diverged: loss/contrast became nan by step 24 (3072 images) | 3,072 | 68.00 |" in lines["trial-005"]
    assert "| failed | 0 | - |" in lines["trial-007"]
    assert "| complete | 8,192 | 81.00 |" in lines["trial-008"]
    assert lines["trial-003"].endswith(
        "hardness.kind=linear, hardness.start=0.3, contrast.temperature=0.13, hardness.end=0.15 |"
    )


@pytest.mark.usefixtures("no_pictures")
def test_rows_of_different_budgets_are_not_called_equal(written: Path, tmp_path: Path) -> None:
    text = (written / "report.md").read_text()
    assert "Every run has equal optimiser steps and equal views: 64 optimiser steps of 256 views." in text
    folder = make_run(tmp_path)
    for file in (folder / "confirm").glob("trial-004*"):
        record = json.loads(file.read_text())
        record["overrides"]["training.batch_images"] = 64
        file.write_text(json.dumps(record))
    write(folder)
    text = (folder / "report.md").read_text()
    assert "128 optimiser steps of 128 views for trial-004" in text
    assert "Every run has equal" not in text


def test_spent_images_count_every_trial_in_the_order_they_ended() -> None:
    start = datetime(2026, 1, 1)
    rows = [  # label, baseline, state, images, score, hours until it ended
        ("real-only", True, "complete", 800, 90.0, 1),
        ("trial-001", False, "complete", 800, 70.0, 4),
        ("trial-002", False, "pruned", 100, 99.0, 2),
        ("trial-003", False, "diverged", 200, None, 3),
        ("trial-004", False, "complete", 800, 60.0, 5),
        ("trial-005", False, "running", 50, None, None),
        ("trial-006", False, "complete", 800, 75.0, 6),
    ]
    frame = pd.DataFrame(rows, columns=["label", "baseline", "state", "images", "score", "hours"])
    frame["finished"] = [start + timedelta(hours=h) if h == h else pd.NaT for h in frame.hours]
    progress = results.best_so_far(frame.assign(spent_images=float("nan")))  # as earlier versions left it
    assert list(progress.label) == ["trial-002", "trial-003", "trial-001", "trial-004", "trial-006"]
    assert list(progress.spent_images) == [100, 300, 1100, 1900, 2700]
    assert list(progress.best.dropna()) == [70.0, 70.0, 75.0]


def test_the_pareto_front_holds_what_nothing_beats_in_both() -> None:
    points = [(80, 60), (82, 65), (84, 61), (84, 59), (81, 65), (86, 55), (70, None)]
    frame = pd.DataFrame(points, columns=["linear", "transfer"], dtype=float)
    front = results.pareto_front(frame)
    assert list(zip(front.linear, front.transfer, strict=True)) == [(82, 65), (84, 61), (86, 55)]


def test_learning_curves_leave_out_the_zero_of_a_divergence(written: Path) -> None:
    trials = results.trials_frame(results.open_study(written), run_config(written.parent)).set_index("label")
    assert trials.curve["trial-005"] == {RUNGS[0]: 68.0}
    assert trials.curve["trial-006"] == {RUNGS[0]: 69.5, RUNGS[1]: 72.0}


def test_a_curve_is_of_one_measure_and_the_final_score_apart(written: Path) -> None:
    config = run_config(written.parent)
    trials = results.trials_frame(results.open_study(written), config)
    rungs = dict(zip(trials.label, trials.rungs, strict=True))
    assert rungs["trial-002"] == {RUNGS[0]: 71.0, RUNGS[1]: 76.0, RUNGS[2]: 77.0}  # not the logistic 84.5
    assert rungs["trial-006"] == {RUNGS[0]: 69.5, RUNGS[1]: 72.0}
    assert rungs["trial-008"] == {RUNGS[0]: 70.5, RUNGS[1]: 75.0}  # an earlier version: ends at the last early rung
    at_rungs, final = figures.learning_curves(trials, config, "trial-002").axes
    drawn = {tuple(line.get_ydata()) for line in at_rungs.lines}
    assert {tuple(curve.values()) for curve in rungs.values() if curve} == drawn
    assert sorted(float(line.get_ydata()[0]) for line in final.lines) == [79.5, 80.5, 81.0, 82.5, 84.5]
    assert at_rungs.get_title() == "At the rungs: ridge probe, at most 2,000 labels"
    assert final.get_xlabel() == "logistic probe,\nall labels"


def test_the_only_trial_that_stands_out_is_the_reports_winner(written: Path) -> None:
    config = run_config(written.parent)
    trials = results.trials_frame(results.open_study(written), config)
    board = leaderboard.compare(results.confirm_records(written, config), config, [], list(SEEDS))
    assert leaderboard.winning_trial(board, trials, config) == "trial-002"
    for figure in (figures.learning_curves(trials, config, "trial-004"), figures.search_progress(trials, "trial-004")):
        labels = {text.get_text() for axes in figure.axes if axes.get_legend() for text in axes.get_legend().texts}
        assert "winner, trial-004" in labels
        assert not any("best" in label for label in labels)


def test_the_winner_joint_is_the_trial_with_the_configuration_itself(tmp_path: Path) -> None:
    better = {"joint": [(99.0, 60.0, 79.0, 59.0)] * 3}
    folder, config = make_run(tmp_path, confirmed=CONFIRMED | better), run_config(tmp_path)
    trials = results.trials_frame(results.open_study(folder), config)
    own = config.with_overrides(dict(trials.set_index("label").overrides["trial-006"]))
    board = leaderboard.compare(results.confirm_records(folder, own), own, [], list(SEEDS))
    assert leaderboard.winning_trial(board, trials, own) == "trial-006"
    assert leaderboard.winning_trial(board, trials, config) is None  # it was not among the trials


REAL_ONLY_WINNER = {"real-only+trial-002": [(99.0, 60.0, 79.0, 59.0)] * 3}


@pytest.mark.usefixtures("no_pictures")
def test_a_winner_without_a_generator_lists_only_what_its_encoder_saw(tmp_path: Path) -> None:
    folder = make_run(tmp_path, confirmed=CONFIRMED | REAL_ONLY_WINNER)
    write(folder)
    text = (folder / "report.md").read_text()
    settings = text[text.index("## Settings of real-only+trial-002") : text.index("## Its encoder")]
    assert [line for line in settings.splitlines() if line.startswith("| `")] == [
        "| `terms.contrast.temperature.start` | 0.19 |"
    ]
    assert "Real images alone, without a generator, and on top of `config.json`:" in settings
    assert "The winner real-only+trial-002 has no generator; these are of trial-002-seed1000." in text


@pytest.mark.usefixtures("no_pictures")
def test_samples_are_of_a_baseline_where_no_searched_curriculum_was_complete(tmp_path: Path) -> None:
    """And the report says whose they are, in place of 'no complete trial has a generator'."""
    confirmed = {name: CONFIRMED[name] for name in ("real-only", "frozen-gan", "joint")}
    folder = make_run(tmp_path, confirmed=confirmed)
    (folder / "study.journal").unlink()
    optuna.create_study(study_name=STUDY, storage=journal(folder / "study.journal"), direction="maximize")
    write(folder)
    text = (folder / "report.md").read_text()
    assert "![Samples by progress](figures/samples.png)" in text
    assert "The winner real-only has no generator; these are of frozen-gan-seed1000." in text


@pytest.mark.parametrize(
    ("overrides", "field", "read"),
    [
        ({}, "curriculum.hardness.start", True),
        (ARMS["real-only"], "curriculum.hardness.start", False),
        (ARMS["real-only"], "synthetic.gan.generator_learning_rate", False),
        (ARMS["real-only"], "curriculum.view_strength.start", True),
        (ARMS["frozen-gan"], "curriculum.hardness.start", False),
        (ARMS["frozen-gan"], "curriculum.pair_half_life_kimg.start", False),
        (ARMS["frozen-gan"], "curriculum.synthetic_fraction.start", True),
        (ARMS["hard-only"], "curriculum.pair_half_life_kimg.start", False),
    ],
)
def test_a_setting_is_shown_where_its_run_reads_it(overrides: dict[str, Any], field: str, read: bool) -> None:
    assert reads(run_config(Path("runs")).with_overrides(overrides), field) is read


def test_schedules_show_the_configurations_own_beside_the_winners_and_no_panel_that_it_does_not_read() -> None:
    config = run_config(Path("runs"))
    titles = [axes.get_title() for axes in figures.schedules({"joint": config}).axes]
    assert titles == ["hardness", "pair half-life, kimg", "synthetic fraction", "view strength", "learning rate"]
    real = config.with_overrides(ARMS["real-only"] | {"curriculum.view_strength.start": 0.7})
    figure = figures.schedules({"real-only+trial-003": real}, {"the configuration's own": config})
    assert [axes.get_title() for axes in figure.axes] == ["view strength", "learning rate"]
    assert [line.get_ydata()[0] for line in figure.axes[0].lines] == [0.7, 1.0]
    mixed = figures.schedules({"real-only": real, "trial-002": config})
    assert [len(axes.lines) for axes in mixed.axes] == [1, 1, 1, 2, 2]


def test_schedules_of_plug_ins_have_a_panel_where_they_move_and_are_read() -> None:
    config = run_config(Path("runs"))
    moving = config.with_overrides(
        {
            "terms.contrast.temperature": {"kind": "linear", "start": 0.1, "end": 0.3},
            "synthetic.gan.generator_learning_rate": {"kind": "linear", "start": 1e-3, "end": 1e-4},
            "terms.more.kind": "ppcl",
            "terms.more.weight": {"kind": "step", "start": 0.5, "end": 1.0, "ramp_begin": 0.5},
        }
    )
    figure = figures.schedules({"trial-002": moving}, {"the configuration's own": config})
    titles = [axes.get_title().replace("\n", " ") for axes in figure.axes]
    assert titles[4:] == ["gan generator learning rate", "contrast temperature", "more weight", "learning rate"]
    lines = {title: [line.get_ydata() for line in axes.lines] for title, axes in zip(titles, figure.axes, strict=True)}
    temperature, constant = lines["contrast temperature"]
    assert (temperature[0], temperature[200], temperature[-1]) == pytest.approx((0.1, 0.2, 0.3))
    assert set(constant) == {0.2}
    assert pd.isna(lines["more weight"][1]).all()  # the other has no such loss
    real = figures.schedules({"real-only": moving.with_overrides(ARMS["real-only"])})
    assert [axes.get_title() for axes in real.axes][1:-1] == ["contrast temperature", "more weight"]
    assert "contrast temperature" not in [axes.get_title() for axes in figures.schedules({"joint": config}).axes]


def test_importances_use_the_first_rung_while_few_trials_are_complete(written: Path) -> None:
    shares, where, count = results.importances(results.open_study(written))
    assert (where, count) == (
        "first rung",
        24,
    )  # three complete, two pruned and 19 stopped; not the diverged, the failed, the baselines
    assert shares.keys() == {"curriculum.hardness.kind", "curriculum.hardness.start", "terms.contrast.temperature"}
    assert sum(shares.values()) == pytest.approx(1)


def scored(trials: int) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    space = {name: optuna.distributions.FloatDistribution(0, 1) for name in ("matters", "idle")}
    for number in range(trials):
        params = {"matters": number / (trials - 1), "idle": (number * 5 % trials) / (trials - 1)}
        score = 50 + 10 * params["matters"]
        curve = {RUNGS[0]: score - 10, RUNGS[-1]: score}
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=space, value=score, intermediate_values=curve)
        )
    return study


def test_importances_find_the_field_that_matters_once_enough_are_complete() -> None:
    shares, where, count = results.importances(scored(24))
    assert (where, count) == ("whole budget", 24)
    assert next(iter(shares)) == "matters"
    assert shares["matters"] > 0.8


def test_importances_of_few_trials_are_refused() -> None:
    with pytest.raises(ValueError, match="need at least 24 trials with a score, and there are 23"):
        results.importances(scored(23))


@pytest.mark.usefixtures("no_pictures")
def test_the_report_of_a_short_search_says_why_it_has_no_importances(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    write(folder)
    sentence = "left out, importances need at least 24 trials with a score, and there are 5."
    assert f"Importance of searched fields: {sentence}" in (folder / "report.md").read_text()


@pytest.mark.usefixtures("no_pictures")
def test_a_run_whose_baselines_are_among_its_trials_is_reported_as_it_was(tmp_path: Path) -> None:
    """Older journals hold them so; both kinds list baselines first, as they began."""
    new, old = make_run(tmp_path / "new"), make_run(tmp_path / "old", one_study=True)
    frames = [results.trials_frame(results.open_study(folder), run_config(folder.parent)) for folder in (new, old)]
    assert list(frames[0].label[:3]) == ["real-only", "frozen-gan", "trial-002"]
    assert list(frames[0].label[frames[0].baseline]) == ["real-only", "frozen-gan"]
    pd.testing.assert_frame_equal(*(frame.drop(columns="finished") for frame in frames))
    for folder in (new, old):
        write(folder)
    assert board_of(new) == board_of(old)


@pytest.mark.usefixtures("no_pictures")
def test_a_figure_that_cannot_be_drawn_is_left_out_with_its_reason(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    (folder / "figures").mkdir()
    (folder / "figures" / "samples.png").write_bytes(b"of an earlier report")
    for file in (folder / "samples" / "trial-002-seed1000").glob("*.png"):
        file.unlink()
    write(folder)
    assert not (folder / "figures" / "samples.png").exists()
    assert "left out, there are no samples in samples/trial-002-seed1000." in (folder / "report.md").read_text()


def test_all_figures_are_there_and_the_report_shows_them(written: Path) -> None:
    assert {file.stem for file in (written / "figures").iterdir()} == FIGURES
    text = (written / "report.md").read_text()
    assert all(f"](figures/{name}.png)" in text for name in FIGURES)
    assert "tensorboard --logdir" in text
    assert "optuna-dashboard" in text


def test_the_exported_encoder_is_the_winners_best_seed_by_validation(written: Path) -> None:
    encoder = load_encoder(written / "encoder.safetensors")
    folder = written / "confirm-1" / f"trial-002-seed{BEST_SEED['trial-002']}"
    expected = checkpoint.load(folder, torch.device("cpu"))["trainer"]["networks"]["encoder"]
    assert encoder.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in encoder.state_dict().items())
    card = json.loads((written / "encoder.json").read_text())
    assert card["config"]["training"]["seed"] == BEST_SEED["trial-002"]
    assert card["scores"]["this_seed"][LINEAR] == 82.0
    assert card["scores"]["over_seeds"][LINEAR]["n"] == len(SEEDS)


def test_a_second_report_is_the_same(written: Path) -> None:
    files = [file for file in written.rglob("*") if file.is_file()]
    before = {file: file.read_bytes() for file in files}
    write(written)
    assert {file: file.read_bytes() for file in written.rglob("*") if file.is_file()} == before


@pytest.mark.usefixtures("no_pictures")
def test_without_confirm_records_the_search_is_still_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path, confirmed={})
    write(folder)
    assert "No configuration has been confirmed on fresh seeds yet" in capsys.readouterr().out
    assert board_of(folder)["rows"] == []
    assert "trial-002" in (folder / "report.md").read_text()
    assert not (folder / "encoder.safetensors").exists()


@pytest.mark.usefixtures("no_pictures")
def test_a_study_without_trials_is_reported(tmp_path: Path) -> None:
    folder = make_run(tmp_path, confirmed={})
    (folder / "study.journal").unlink()
    optuna.create_study(study_name=STUDY, storage=journal(folder / "study.journal"), direction="maximize")
    write(folder)
    assert "left out" in (folder / "report.md").read_text()


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no file study\.journal"):
        write(tmp_path / "empty")


@pytest.mark.usefixtures("no_pictures")
def test_a_checkpoint_that_is_gone_is_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    (folder / "confirm-1" / "trial-002-seed1002" / "checkpoint.pt").unlink()
    with pytest.raises(UserError, match="trial-002-seed1002"):
        write(folder)
    assert (folder / "report.md").is_file()


def test_figures_are_written_whole(tmp_path: Path) -> None:
    plotting.save(figures.schedules({"preset": run_config(tmp_path)}), tmp_path / "figures" / "one.png")
    assert [file.name for file in (tmp_path / "figures").iterdir()] == ["one.png"]


def test_markdown_keeps_a_bar_inside_its_cell() -> None:
    assert markdown([["a", "b"], ["x|y", "1"]]) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 |"


def test_what_a_search_had_spent_counts_runs_that_wait(tmp_path: Path) -> None:
    trials = results.trials_frame(results.open_study(make_run(tmp_path)), run_config(tmp_path))
    trials["spent_images"] = [None, None, 9000.0, None, 30000.0, None, None, None, 40000.0]
    progress = results.best_so_far(trials).set_index("label").spent_images
    assert (progress["trial-002"], progress["trial-004"], progress["trial-008"]) == (9000, 30000, 40000)


def test_the_opponents_runs_are_one_line_of_the_legend_and_their_best_one_of_the_search(tmp_path: Path) -> None:
    config = run_config(tmp_path)
    trials = results.trials_frame(results.open_study(make_run(tmp_path, opponents=True)), config)
    curves = figures.learning_curves(trials, config)
    named = [text.get_text() for legend in curves.legends for text in legend.get_texts()]
    named += [text.get_text() for axes in curves.axes if axes.legend_ for text in axes.legend_.get_texts()]
    assert named.count("real-only") == 1
    assert not any(name.startswith("real-only-") for name in named)
    (axes,) = figures.search_progress(trials).axes
    lines = {line.get_label(): line.get_ydata()[0] for line in axes.lines}
    assert lines["real-only-001"] == 82.0  # the best of them
    assert "real-only-003" not in lines
