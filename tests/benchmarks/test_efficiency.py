"""The replay of searches counts images as a real search spends them, and its curves are what was recorded."""

import json
import sys
from datetime import datetime, timedelta

import optuna
import pytest
from optuna.trial import TrialState
from small_trainer import SMALL
from tiny_run import TINY

from benchmarks.search import curves
from benchmarks.search import efficiency as search_efficiency
from benchmarks.search.curves import Curve
from benchmarks.search.replay import search_until
from benchmarks.search.surrogate import Surrogate
from synthcl.config.presets import load_preset
from synthcl.core.errors import UserError
from synthcl.search.asha import RungScheduler
from synthcl.search.optuna_search import STUDY, journal
from synthcl.search.space import load_space

SPACE = """
terms.contrast.temperature: {low: 0.07, high: 0.5, log: true}
gan.generator_learning_rate: {low: 5.0e-5, high: 4.0e-3, log: true}
"""
CONFIG = load_preset("fashion-mini").with_overrides(
    {"training.kimg": 1, "training.batch_images": 100, "evaluation.rungs": [0.2, 0.5, 1.0], "search.startup_trials": 2}
)


@pytest.fixture
def space(tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text(SPACE)
    return load_space(file, CONFIG)


SOME = ("random", "random, ASHA keeps 1/2", "TPE, ASHA keeps 1/4", "TPE, Hyperband")


class InOrder:
    def __init__(self, *scores):
        self.scores, self.heard = scores, []
        self._left = list(range(len(scores)))

    def suggest(self, trial_id):
        return {"label": trial_id, "overrides": {"at": self._left.pop(0)}} if self._left else None

    def on_trial_result(self, trial_id, result):
        self.heard.append((trial_id, result["images"], result["progress"]))

    def on_trial_complete(self, trial_id, result):
        self.heard.append((trial_id, result["images"], "end"))

    def curve(self, overrides):
        return dict(zip((200, 500, 1000), self.scores[overrides["at"]], strict=True))


def search(searcher, target, workers=1, scheduler=None, most_trials=9):
    return search_until(target, searcher, scheduler, searcher.curve, workers, most_trials)


def test_a_search_that_stops_nothing_spends_whole_budgets():
    searcher = InOrder((50, 60, 70), (50, 60, 80), (50, 60, 90))
    found = search(searcher, 80)
    assert (found.images, found.trials, found.overrides) == (2000, 2, {"at": 1})
    assert searcher.heard[:3] == [("id0", 200, 0.2), ("id0", 500, 0.5), ("id0", 1000, "end")]
    assert search(InOrder((50, 60, 70)), 80) is None
    assert search(InOrder((50, 60, 70), (50, 60, 90)), 80, most_trials=1) is None


def test_trials_under_way_are_paid_for():
    assert search(InOrder((50, 60, 70), (50, 60, 80), (50, 60, 90)), 90, workers=2).images == 3 * 1000
    assert search(InOrder((50, 60, 90), (50, 60, 80)), 90, workers=2).images == 2 * 1000  # 500 of them between rungs


def test_the_products_scheduler_stops_at_its_rungs():
    curve_of_losers = [(40, 99, 99), (44, 99, 99)]  # below the median of those before them
    searcher = InOrder((50, 60, 70), *curve_of_losers, (55, 65, 80))
    found = search(searcher, 80, scheduler=RungScheduler(CONFIG))
    assert found.images == 1000 + 2 * 200 + 1000
    assert [heard for heard in searcher.heard if heard[2] == "end"][1:] == [("id1", 200, "end"), ("id2", 200, "end")]


def recorded(space, count=40):
    """Curves that the temperature alone decides."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    points = [space.sample(study.ask()) for _ in range(count)]
    ends = [80 + 10 * point["terms.contrast.temperature"] for point in points]
    scores = [{200: end - 20, 500: end - 10, 1000: end} for end in ends]
    repeats = [Curve(0, seed, points[0], {rung: score + seed for rung, score in scores[0].items()}) for seed in (1, 2)]
    return [Curve(number, 0, point, scores[number]) for number, point in enumerate(points)] + repeats


def test_the_surrogate_knows_what_the_curves_told_and_draws_the_same_run_twice(space):
    surrogate = Surrogate(CONFIG, recorded(space)[:-2])
    assert min(surrogate.explained.values()) > 0.95
    point = {"terms.contrast.temperature": 0.3, "synthetic.gan.generator_learning_rate": 1e-3}
    assert surrogate.mean(point)[1000] == pytest.approx(83, abs=0.3)
    assert surrogate.draw(point, 1) == surrogate.draw(point, 1)
    assert len({surrogate.draw(point, seed)[1000] for seed in range(5)}) > 1


def write(file, config, space, some):
    lines = [{"config": config.model_dump(mode="json", exclude={"compute"}), "space": space.text}]
    lines += [vars(curve) for curve in some]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_every_method_gets_a_ratio_to_random(space, tmp_path, monkeypatch, capsys):
    (tmp_path / "space.yaml").write_text(space.text)
    config = CONFIG.with_overrides({"search.space": str(tmp_path / "space.yaml")})
    (tmp_path / "preset.yaml").write_text(config.model_dump_json())
    monkeypatch.setattr(search_efficiency, "PRESET", tmp_path / "preset.yaml")
    monkeypatch.setattr(search_efficiency, "SET", 4)
    monkeypatch.setattr(search_efficiency, "RUNGS", CONFIG.evaluation.rungs)
    methods = {name: search_efficiency.METHODS[name] for name in SOME}
    monkeypatch.setattr(search_efficiency, "METHODS", methods)
    monkeypatch.setattr(search_efficiency, "PROPOSED", tuple(methods))
    write(tmp_path / "curves.jsonl", CONFIG, space, recorded(space))
    arguments = ["--curves", str(tmp_path / "curves.jsonl"), "--seeds", "2", "--cores", "1"]
    monkeypatch.setattr(sys, "argv", ["search_efficiency", *arguments])
    search_efficiency.main()
    ratios = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert ratios.keys() >= methods.keys()
    assert ratios["random"] == ratios["recorded: random"] == 1
    assert 0 < ratios["recorded: random, ASHA keeps 1/2"] < 1


def test_a_live_search_spent_what_its_trials_had_begun_until_the_target(tmp_path):
    study = optuna.create_study(study_name=STUDY, storage=journal(tmp_path / "study.journal"), direction="maximize")
    start = datetime(2026, 1, 1)
    trials = [("real-only", 0, 1, 99.0, 1000), ("a", 0, 2, 70.0, 1000), ("b", 2, 3, None, 200), ("c", 2, 5, 90.0, 1000)]
    for label, begins, ends, value, images in [*trials, ("d", 4, 9, 95.0, 1000), ("e", 6, 9, 95.0, 1000)]:
        attributes = {"label": label, "images": images} | ({"arm": label} if label == "real-only" else {})
        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        trial = optuna.trial.create_trial(state=state, value=value, user_attrs=attributes)
        trial.datetime_start, trial.datetime_complete = (start + timedelta(hours=hours) for hours in (begins, ends))
        study.add_trial(trial)
    assert search_efficiency.study_spent(tmp_path / "study.journal", 90.0, 1000) == 1 + 0.2 + 1 + 1
    assert search_efficiency.study_spent(tmp_path / "study.journal", 96.0, 1000) is None


def test_recording_goes_on_where_it_ended_and_refuses_curves_of_another_configuration(space, tmp_path):
    # Wider than TINY: four channels lie at the limit of features/rank, which side is up to the processor.
    wider = {"encoder.width": 16, "compute.storage": str(tmp_path)}
    config = load_preset("fashion-mini").with_overrides(SMALL | TINY | wider)
    file = tmp_path / "curves.jsonl"
    curves.record(file, config, space, 1)
    first = file.read_text()
    assert [(curve.number, curve.seed) for curve in curves.read(file, config, space)] == [(0, 0), (0, 1), (0, 2)]
    curves.record(file, config, space, 2)
    assert file.read_text().startswith(first)
    kept = curves.read(file, config.with_overrides({"data.root": "elsewhere"}), space)
    assert [curve.number for curve in kept] == [0, 0, 0, 1]
    assert sorted(kept[0].scores) == [128, 256, 512]
    assert "root" not in json.loads(first.splitlines()[0])["config"]["data"]
    with pytest.raises(UserError, match=r"training\.kimg=0\.512, asked for 1"):
        curves.read(file, config.with_overrides({"training.kimg": 1}), space)
    with pytest.raises(UserError, match="--record 64 makes it"):
        curves.read(tmp_path / "none.jsonl", config, space)
