"""The replaced share and the word of a mechanism, by their equations."""

import numpy as np
import pytest

from synthcl.comparison.intervals import levels
from synthcl.comparison.replaced import effect

REAL = np.array([44.0, 44.3, 43.8, 44.5, 44.1])
JOINT = REAL + np.array([2.4, 2.8, 2.6, 2.5, 2.7])
UNSURE = REAL + np.array([2.4, -2.8, 2.6, -1.5, 0.7])
NOISE = np.array([0.1, -0.1, 0.05, -0.05, 0.0])


def told(on_real, on_joint, joint=JOINT):
    return effect(REAL, joint, REAL + on_real + NOISE, joint + on_joint - NOISE)


def test_rho_is_one_less_the_share_of_the_generators_gain_that_is_left():
    found = told(2.0, 0.5)
    left = ((JOINT + 0.5 - NOISE) - (REAL + 2.0 + NOISE)).mean()
    assert found.replaced.value == pytest.approx(1 - left / (JOINT - REAL).mean())
    assert told(1.3, 1.3).replaced.value == pytest.approx(0)  # complementary
    assert told(2.6, 0.0).replaced.value == pytest.approx(1)  # replaced
    assert told(0.0, 1.3).replaced.value == pytest.approx(-0.5)  # they help each other


def test_rho_has_the_interval_of_a_paired_bootstrap():
    found = told(2.0, 0.5)
    beside, alone = (JOINT + 0.5 - NOISE) - (REAL + 2.0 + NOISE), JOINT - REAL
    rows = np.random.default_rng(7).integers(5, size=(20_000, 5))
    rhos = 1 - beside[rows].mean(axis=1) / alone[rows].mean(axis=1)
    low, high = np.quantile(rhos, levels(5))
    assert (found.replaced.low, found.replaced.high) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))
    assert found.replaced.low < found.replaced.value < found.replaced.high


def test_a_gain_that_may_be_nothing_has_no_rho_to_speak_of():
    assert told(1.0, 1.0, joint=UNSURE).replaced.low is None
    assert told(1.0, 1.0, joint=REAL - 1).replaced is None


@pytest.mark.parametrize(
    ("word", "on_real", "on_joint", "joint"),
    [
        ("adds", 1.0, 1.0, JOINT),
        ("adds", 0.0, 1.0, JOINT),  # on top of the generator alone
        ("replaces", 2.5, 0.0, JOINT),
        ("replaces", 3.4, 0.5, JOINT),  # both gain, and the generator's share is nearly gone
        ("adds", 2.0, 1.2, JOINT),  # a third is replaced
        ("nothing", 0.0, 0.0, JOINT),
        ("nothing", 0.5, 0.0, JOINT),  # less than half of what the generator gains, and nothing beside it
        ("hurts", 0.0, -1.0, JOINT),
        ("hurts", -1.0, 0.0, JOINT),
        ("adds", 2.5, 1.0, UNSURE),  # nothing there to replace
    ],
)
def test_a_mechanism_is_called_what_the_rule_says(word, on_real, on_joint, joint):
    assert told(on_real, on_joint, joint).word == word


def test_one_seed_tells_nothing():
    assert effect([44.0], [46.0], [46.0], [46.0]).word == "open"
