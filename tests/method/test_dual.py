"""The dual variable of a constraint follows its equation, finds a known multiplier, and replays as a table."""

import math

import pytest
import torch
from small_trainer import CPU, random_images, tiny_config, untrained_gan

from synthcl.method.curriculum.dual import Dual
from synthcl.training.diagnostics import of_views
from synthcl.training.trainer import Trainer

LOOP = {"kind": "dual", "measured": "loss/contrast", "bound": 0.5, "rate": 0.01, "start": 1.0, "high": 5.0}


def dual(**changes) -> Dual:
    return Dual(**(LOOP | changes))


@pytest.mark.parametrize("measurement", [0.0, 0.5, 0.9, 1e6])
def test_a_decision_is_the_equation_in_both_forms(measurement):
    expected = min(5.0, max(0.0, 1.5 + 0.01 * 40 * (measurement - 0.5)))
    assert dual().decide(1.5, 0.3, 0.1, measurement, 40) == pytest.approx(expected)
    strength = dual(form="strength", start=0.8)
    assert strength.decide(0.8 / 2.5, 0.3, 0.1, measurement, 40) == pytest.approx(0.8 / (1 + expected))
    assert strength.bounds == pytest.approx((0.8 / 6, 0.8))


def test_one_update_over_many_steps_is_as_many_of_one_step():
    once, value = dual().decide(1.0, 0.5, 0.0, 0.7, 100), 1.0
    for _ in range(100):
        value = dual().decide(value, 0.5, 0.0, 0.7, 1)
    assert value == pytest.approx(once)


def test_a_slack_bound_switches_off_and_what_is_not_finite_changes_nothing():
    assert dual().decide(0.1, 0.5, 0.1, 0.0, 100) == 0.0
    assert dual().decide(0.7, 0.5, 0.1, math.nan, 100) == 0.7


def test_ascent_finds_the_multiplier_of_the_smallest_square_above_one():
    steered, multiplier = dual(bound=0.0, rate=0.05, start=0.0), 0.0
    for _ in range(500):
        x = multiplier / 2  # minimises x^2 + multiplier * (1 - x)
        multiplier = steered.decide(multiplier, 0.5, 0.0, 1 - x)
    assert multiplier == pytest.approx(2.0, abs=1e-4)


def test_alignment_is_the_mean_squared_distance_of_two_views_of_an_image():
    z = torch.nn.functional.normalize(torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0)), dim=2)
    pairs = [(z[a, i] - z[b, i]).square().sum() for i in range(5) for a in range(4) for b in range(4) if a != b]
    found = of_views(z.flatten(0, 1), 4)["encoder/alignment"]
    torch.testing.assert_close(found, torch.stack(pairs).mean())


STEERED = {
    "training.log_kimg": 0.032,
    "terms.spread": {"kind": "vicreg", "weight": LOOP | {"measured": "loss/spread", "start": 0.0, "rate": 1e-3}},
    "curriculum.view_strength": LOOP
    | {"measured": "encoder/alignment", "form": "strength", "bound": 0.01, "rate": 0.2, "start": 1.0},
}


def test_a_weight_of_0_is_measured_and_rises_and_its_table_replays_the_run():
    config = tiny_config(STEERED)
    history = Trainer(config, random_images(), untrained_gan(config), CPU).advance(8)
    assert history[0]["knob/terms.spread.weight"] == 0.0
    violation = history[0]["loss/spread"] - 0.5
    assert history[1]["knob/terms.spread.weight"] == pytest.approx(1e-3 * 2 * violation)
    assert violation > 0
    strengths = [point["knob/view_strength"] for point in history]
    assert strengths[1] == pytest.approx(1 / (1 + 0.4 * (history[0]["encoder/alignment"] - 0.01)))
    assert strengths == sorted(strengths, reverse=True)
    tables = {}
    for knob, path in (("view_strength", "curriculum.view_strength"), ("terms.spread.weight", "terms.spread.weight")):
        seen = [0, *(point["images"] for point in history[:-1])]
        points = [[images / 128, point[f"knob/{knob}"]] for images, point in zip(seen, history, strict=True)]
        tables[path] = {"kind": "table", "points": points}
    replayed = config.with_overrides(tables)
    again = Trainer(replayed, random_images(), untrained_gan(replayed), CPU).advance(8)
    for one, other in zip(history, again, strict=True):
        looked_at = {"encoder/alignment", *({"loss/spread"} - other.keys())}  # measured for the loops alone
        assert {name: value for name, value in one.items() if name not in looked_at} == other
