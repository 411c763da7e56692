"""What the studies in a journal say of the search and of what was confirmed."""

from __future__ import annotations

import sys
from pathlib import Path

import optuna
import pytest
from run_folder import make_run, run_config

from synthcl.search import study_notes
from synthcl.search.findings import Findings
from synthcl.search.study import load_study, taken_up


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs"), opponents=True)


def tell(folder: Path) -> None:
    study_notes.tell_confirmed(Findings.read(run_config(folder.parent), folder, load_study(folder / "study.journal")))


def method(folder: Path) -> optuna.Study:
    return load_study(folder / "study.journal").studies[-1]


def note_of(study: optuna.Study, label: str) -> str:
    from optuna_dashboard import get_note

    trial = next(trial for trial in study.get_trials() if trial.user_attrs["label"] == label)
    return get_note(taken_up(study, trial))


def test_without_the_dashboard_attributes_are_written_and_with_it_notes_once(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    study_notes.describe(finished / "study.journal", run_config(finished.parent), "cifar10")
    tell(finished)
    monkeypatch.undo()
    study = method(finished)
    assert study.user_attrs["preset"] == "cifar10"
    assert study.user_attrs["data"] == "fashion-mini at 28 pixels, 1 of its images"
    assert study.user_attrs["winner"] == "trial-002"
    assert study.user_attrs["confirmed"]["trial-002"] == "80.83±1.04 on test, n=3"
    assert note_of(study, "trial-002") == ""

    tell(finished)
    told = "Confirmed on fresh seeds: 80.83±1.04 on test, n=3. It is the winner by mean validation score."
    assert note_of(method(finished), "trial-002") == told
    assert note_of(method(finished), "trial-004") == "Confirmed on fresh seeds: 84.00±1.00 on test, n=3."
    assert note_of(method(finished), "trial-003") == ""
    written = (finished / "study.journal").read_bytes()
    tell(finished)
    assert (finished / "study.journal").read_bytes() == written
