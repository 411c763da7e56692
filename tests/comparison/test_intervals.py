"""Intervals over seeds against values worked out by hand."""

import numpy as np
import pytest

from synthcl.comparison.intervals import (
    data_efficiency,
    images_to_reach,
    levels,
    paired_difference,
    recovered_fraction,
)


def mean_of(differences):
    """Its share of an oracle's gain that is 1 with every seed."""
    return recovered_fraction(list(differences), [0.0] * len(differences), [1.0] * len(differences))


def test_a_resample_of_two_seeds_has_either_twice_or_both():
    # means 0, 1/2 and 1 with probabilities 1/4, 1/2 and 1/4: both ends of 95 % lie in the outer quarters
    estimate = mean_of([0.0, 1.0])
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (0.5, 0.0, 1.0, 2)


def test_many_seeds_give_the_normal_interval():
    differences = np.random.default_rng(1).normal(2.0, 3.0, size=400)
    estimate = mean_of(differences)
    half = 1.96 * differences.std() / 20
    assert (estimate.low, estimate.high) == pytest.approx((estimate.value - half, estimate.value + half), abs=0.03)


def test_levels_are_those_that_make_the_interval_as_wide_as_students():
    # t of 4 degrees at 97.5 % is 2.776; z = 2.776 sqrt(5/4) = 3.104 leaves 0.00095 outside (tables of both)
    assert levels(5) == pytest.approx((0.00095, 0.99905), abs=1e-5)
    assert levels(10**6) == pytest.approx((0.025, 0.975), abs=1e-6)


def test_few_seeds_are_covered_far_better_than_by_plain_percentiles():
    """Of five normal seeds plain 2.5 and 97.5 percentiles hold the mean in 85 % of the cases, these in 92 %."""
    samples = np.random.default_rng(0).normal(size=(1000, 5))
    estimates = [mean_of(sample) for sample in samples]
    assert np.mean([e.low <= 0 <= e.high for e in estimates]) == pytest.approx(0.92, abs=0.02)


def test_what_seeds_share_cancels():
    seeds = np.array([50.0, 60.0, 80.0])
    estimate = recovered_fraction(list(seeds + 1.5), list(seeds), list(seeds + 1))
    assert (estimate.value, estimate.low, estimate.high) == (1.5, 1.5, 1.5)


def test_one_seed_has_no_interval_and_none_no_value():
    assert mean_of([1.0]).low is None
    assert paired_difference([2.0], [1.0]).low is None
    assert paired_difference([], []) is None
    assert recovered_fraction([], [], []) is None
    assert data_efficiency({100: []}, 100, []) is None


def test_intervals_are_the_same_every_time():
    first = mean_of([1.0, 3.5, 1.0])
    assert mean_of([1.0, 3.5, 1.0]) == first


def test_recovered_fraction_is_the_ratio_of_means():
    assert recovered_fraction([61.0, 63.0], [60.0, 60.0], [62.0, 66.0]).value == pytest.approx(4 / 8)


def test_an_arm_that_always_recovers_the_same_share_has_that_interval():
    real, oracle = np.array([60.0, 61.0, 65.0]), np.array([62.0, 66.0, 71.0])
    estimate = recovered_fraction(list(real + 0.25 * (oracle - real)), list(real), list(oracle))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.25, 0.25, 0.25))


def test_two_seeds_bound_the_share_by_each_of_them():
    estimate = recovered_fraction([1.0, 3.0], [0.0, 0.0], [4.0, 4.0])
    assert (estimate.value, estimate.low, estimate.high) == (0.5, 0.25, 0.75)


def test_nothing_is_recovered_of_no_gain_and_no_interval_of_an_unclear_one():
    assert recovered_fraction([61.0, 62.0], [60.0, 60.0], [59.0, 60.0]) is None
    estimate = recovered_fraction([61.0, 61.0], [60.0, 60.0], [59.0, 65.0])
    assert estimate.value == pytest.approx(1 / 2)
    assert estimate.low is estimate.high is None


@pytest.mark.parametrize(
    ("scores", "target", "images"),
    [
        ([10.0, 20.0, 30.0], 15.0, 10**2.5),
        ([10.0, 20.0, 30.0], 20.0, 1000.0),
        ([10.0, 20.0, 30.0], 27.5, 10**3.75),
        ([10.0, 20.0, 30.0], 10.0, 100.0),
        ([10.0, 20.0, 30.0], 5.0, 100.0),  # at most: where it would be with fewer is not known
        ([10.0, 20.0, 30.0], 30.1, np.inf),
        ([10.0, 5.0, 30.0], 10.0, 100.0),
        ([10.0, 30.0, 20.0], 25.0, 10**2.75),  # the first crossing counts
        ([10.0, 10.0, 10.0], 10.0, 100.0),
    ],
)
def test_images_to_reach_a_score_are_interpolated_over_their_log(scores, target, images):
    assert images_to_reach([100, 1000, 10000], np.array(scores), np.array(target)) == pytest.approx(images)


def test_images_to_reach_takes_a_batch_and_a_single_count():
    both = images_to_reach([100, 1000], np.array([[10.0, 20.0], [0.0, 1.0]]), np.array([15.0, 15.0]))
    assert both == pytest.approx([10**2.5, np.inf])
    assert images_to_reach([50], np.array([10.0]), np.array(9.0)) == 50
    assert images_to_reach([50], np.array([10.0]), np.array(11.0)) == np.inf


def test_a_flat_curve_far_below_the_score_is_no_overflow():
    with np.errstate(all="raise"):
        assert images_to_reach([100, 1000], np.array([[10.0, 10.0 + 1e-14]]), np.array([90.0])) == [np.inf]


def test_efficiency_is_how_many_times_fewer_images_are_needed():
    factor = data_efficiency({100: [10.0, 10.0], 1000: [20.0, 20.0]}, 1000, [15.0, 15.0])
    assert (factor.value, factor.low, factor.high) == pytest.approx((10**0.5,) * 3)
    assert factor.most == 10


def test_a_score_that_is_never_reached_has_the_factor_zero():
    factor = data_efficiency({100: [10.0, 10.0], 1000: [20.0, 20.0]}, 1000, [25.0, 25.0])
    assert (factor.value, factor.low, factor.high) == (0, 0, 0)


def test_a_score_that_some_seeds_never_reach_has_zero_as_its_lower_end():
    factor = data_efficiency({100: [10.0, 10.0], 1000: [10.0, 30.0]}, 1000, [15.0, 15.0])
    assert factor.value == pytest.approx(10**0.5)
    assert factor.low == 0
    assert factor.high == pytest.approx(10**0.75)
