"""The names of the studies in a journal: that of the run, and in journals of earlier versions those of then."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from synthcl.config.schema import Config
from synthcl.search.optuna_search import StudySearch
from synthcl.search.sides import contests, load_spaces
from synthcl.search.study import OPPONENT_STUDY, STUDY, load_study
from synthcl.search.study import journal as store


def searcher(file: Path, name: str) -> StudySearch:
    """Of a run of this name, with both sides."""
    config = Config(name=name)
    return StudySearch(contests(config, load_spaces(config), config.search.budgets), file)


def names(file: Path) -> list[str]:
    return optuna.get_all_study_names(store(file))


def labels(file: Path) -> list[str]:
    return [trial.user_attrs["label"] for trial in load_study(file).trials]


@pytest.mark.parametrize("name", ["birds", "real-only", "baselines", "synthcl"])
def test_studies_are_called_as_the_run_and_are_found_again(tmp_path: Path, name: str) -> None:
    file = tmp_path / "study.journal"
    begun = searcher(file, name)
    given = [begun.suggest(str(leg))["label"] for leg in range(4)]
    assert name in names(file)
    assert len(names(file)) == 2
    assert sorted(labels(file)) == sorted(given)
    assert labels(file)[0] == "real-only-000"  # the opponent's come first
    again = searcher(file, name)
    assert sorted(again.suggest(str(leg))["label"] for leg in range(4)) == sorted(given)
    assert len(names(file)) == 2


def test_a_metric_is_named_by_the_objective_once(tmp_path: Path) -> None:
    file = tmp_path / "study.journal"
    searcher(file, "birds")
    assert [study.metric_names for study in load_study(file).studies] == [["validation linear, %"]] * 2
    searcher(file, "birds")
    assert file.read_bytes().count(b"metric_names") == 2  # the journal does not grow by them


def test_a_search_that_an_earlier_version_began_goes_on_under_its_names_and_proposes_the_same(tmp_path: Path) -> None:
    """Proposals are drawn by what the study is, not by what it is called."""
    early, today = tmp_path / "early.journal", tmp_path / "today.journal"
    for study in (STUDY, OPPONENT_STUDY):
        optuna.create_study(study_name=study, storage=store(early), direction="maximize")
    both = [searcher(file, "birds") for file in (early, today)]
    legs = [[search.suggest(str(leg)) for leg in range(6)] for search in both]
    assert legs[0] == legs[1]
    assert names(early) == [STUDY, OPPONENT_STUDY]
    assert names(today) == ["birds", "birds (real-only)"]
    assert labels(early) == labels(today)


def test_without_a_share_of_its_own_the_opponent_has_no_study(tmp_path: Path) -> None:
    config = Config(name="birds").with_overrides({"search.opponent_share": 0})
    StudySearch(contests(config, load_spaces(config), 4.0), file := tmp_path / "study.journal")
    assert names(file) == ["birds"]
