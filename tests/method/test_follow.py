"""A closed loop follows its equation, reaches its target in a toy plant, and replays as a table bit for bit."""

import itertools
import math

import pytest
import torch
from small_trainer import CPU, random_images, tiny_config, untrained_gan

from synthcl.core.errors import UserError
from synthcl.method.curriculum.follow import Follow
from synthcl.runs.checkpoint import require_same_run
from synthcl.training.trainer import Trainer

SIMILARITY = "synthetic/pair_similarity"
LOOP = {"kind": "follow", "measured": SIMILARITY, "target": 0.5, "start": 0.3, "low": 0.02, "high": 2.0}


def loop(**changes) -> Follow:
    return Follow(**(LOOP | changes))


def trainer_of(overrides) -> Trainer:
    config = tiny_config(overrides)
    return Trainer(config, random_images(), untrained_gan(config), CPU)


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("measurement", [0.1, 0.45, 0.5, 0.6, 0.9])
def test_a_decision_is_the_equation(raises, measurement):
    sign = -1 if raises else 1
    change = min(0.2, max(-0.2, sign * 30 * (measurement - 0.5) * 0.05))
    found = loop(raises=raises).decide(0.3, 0.4, 0.05, measurement)
    assert math.log(found) == pytest.approx(math.log(0.3) + change)


def test_a_constant_measurement_stays_at_the_target_or_ends_at_a_bound():
    for measurement, end in ((0.5, 0.3), (0.9, 2.0), (0.1, 0.02)):
        value = 0.3
        for _ in range(200):
            value = loop().decide(value, 0.5, 0.05, measurement)
        assert value == pytest.approx(end)


def test_twice_the_decisions_in_half_the_time_agree_to_first_order():
    once = loop().decide(0.3, 0.5, 0.002, 0.6)
    half = loop().decide(0.3, 0.5, 0.001, 0.6)
    assert loop().decide(half, 0.5, 0.001, 0.6) == pytest.approx(once, rel=1e-9)


def test_what_is_not_finite_changes_nothing():
    assert loop().decide(0.3, 0.5, 0.1, math.nan) == 0.3


def test_a_falling_target_is_followed_in_a_plant_that_lags():
    steered = loop(target={"kind": "linear", "start": 0.9, "end": 0.4}, gain=100.0)
    measured, value, errors = 0.9, 0.3, []
    for step in range(1, 41):
        settled = 0.9 - 0.25 * math.log(value / 0.3)  # what this hardness ends in, with a lag of 5 % of the run
        measured += (1 - math.exp(-1 / (40 * 0.05))) * (settled - measured)
        value = steered.decide(value, step / 40, 1 / 40, measured)
        errors.append(measured - steered.target.value_at(step / 40))
    assert max(map(abs, errors[5:])) < 0.05
    assert value > 1.5  # the plant had to be pushed far


STEERED = {
    "curriculum.hardness": LOOP | {"target": 0.2, "gain": 300.0},
    "terms.contrast.weight": LOOP | {"measured": "loss/contrast", "target": 2.0, "start": 1.0, "gain": 30.0},
}


def test_a_loop_moves_its_knob_only_at_logged_points_and_its_table_replays_the_run():
    logged = STEERED | {"training.log_kimg": 0.032}
    trainer = trainer_of(logged)
    history = trainer.advance(8)
    tables = {}
    for name, path in (("hardness", "curriculum.hardness"), ("terms.contrast.weight", "terms.contrast.weight")):
        values = [point[f"knob/{name}"] for point in history]
        assert len({*values}) == 4
        seen = [0, *(point["images"] for point in history[:-1])]
        tables[path] = {
            "kind": "table",
            "points": [[images / 128, value] for images, value in zip(seen, values, strict=True)],
        }
    expected = 0.3 * math.exp(min(0.2, 300 * (history[0][SIMILARITY] - 0.2) * 0.25))
    assert history[1]["knob/hardness"] == pytest.approx(expected)
    replayed = trainer_of(logged | tables)
    assert replayed.advance(8) == history
    for name, value in trainer.lab.encoder.state_dict().items():
        assert torch.equal(value, replayed.lab.encoder.state_dict()[name])


def test_a_rollback_takes_what_was_decided_back_too():
    trainer = trainer_of(STEERED)
    trainer.advance(2)
    good, decided = trainer.state_dict(), {**trainer.steered}
    trainer.advance(5)
    assert trainer.steered != decided
    trainer.go_back(good)
    assert (trainer.steered, trainer.steered_at) == (decided, 2)


def test_without_its_measurement_a_loop_keeps_its_start():
    real = {"curriculum.synthetic_fraction": 0.0, "curriculum.view_strength": LOOP}
    config = tiny_config(real)
    history = Trainer(config, random_images(), None, CPU).advance(4)
    assert {point["knob/view_strength"] for point in history} == {0.3}


@pytest.mark.parametrize(("field", "value"), [("training.log_kimg", 0.032), ("evaluation.rungs", [0.5, 1.0])])
def test_a_run_with_a_loop_is_resumed_with_the_same_logged_points(field, value):
    for overrides, refused in ((STEERED, True), ({}, False)):
        config = tiny_config(overrides)
        other = config.with_overrides({field: value})
        assert other != config
        state = {"config": config.model_dump(mode="json")}
        if refused:
            with pytest.raises(UserError, match=field):
                require_same_run(state, other, "run.pt")
        else:
            require_same_run(state, other, "run.pt")


def test_decisions_of_a_run_in_two_legs_are_those_of_one():
    whole, first = trainer_of(STEERED), trainer_of(STEERED)
    history = whole.advance(6)
    first.advance(3)
    second = trainer_of(STEERED)
    second.load_state_dict(first.state_dict())
    assert second.advance(6) == history[3:]
    assert second.steered == whole.steered
    assert all(a != b for a, b in itertools.pairwise(point["knob/hardness"] for point in history[:4]))
