"""Schedules take their analytic values, and the mix spends the same views at all times."""

import itertools
import math
from typing import Annotated

import pytest
from pydantic import TypeAdapter, ValidationError
from small_trainer import FOLDER, tiny_config

from synthcl.comparison.arms import ARMS, apply_arm
from synthcl.core.plugin import members
from synthcl.method.curriculum import AnySchedule
from synthcl.method.curriculum.curves import Piecewise, Table
from synthcl.method.curriculum.knobs import CurriculumConfig, learning_rate
from synthcl.method.curriculum.mix import Mix
from synthcl.method.curriculum.ramps import Exponential, Linear
from synthcl.method.curriculum.schedule import Schedule, Within
from synthcl.method.curriculum.tanh import Tanh

KINDS = ["constant", "linear", "cosine", "step", "exponential"]
GRID = [i / 400 for i in range(401)]


def ramp(kind: str, **changes: float) -> Schedule:
    fields = {"kind": kind, "start": 0.5, "end": 8.0, "ramp_begin": 0.2, "ramp_end": 0.6} | changes
    section = members(AnySchedule)[kind]
    return section(**{name: value for name, value in fields.items() if name in section.model_fields})


@pytest.mark.parametrize(
    ("kind", "quarter", "half"),
    [
        ("constant", 0.5, 0.5),
        ("linear", 2.375, 4.25),
        ("cosine", 0.5 + 7.5 * (1 - math.cos(math.pi / 4)) / 2, 4.25),
        ("step", 8.0, 8.0),
        ("exponential", 1.0, 2.0),  # 0.5 * 16^t
    ],
)
def test_schedule_takes_its_analytic_values(kind, quarter, half):
    schedule = ramp(kind)
    assert schedule.value_at(0.3) == pytest.approx(quarter)
    assert schedule.value_at(0.4) == pytest.approx(half)


def test_tanh_is_the_published_share_of_augmented_samples_and_may_begin_later():
    schedule = Tanh(start=0.01, end=1.0)
    for epoch in range(241):
        assert schedule.value_at(epoch / 240) == pytest.approx(min(math.tanh(epoch / 40) + 0.01, 1), abs=0.0101)
    late = Tanh(start=2.0, end=0.5, ramp_begin=0.25, time=0.2)
    assert [late.value_at(p) for p in (0.0, 0.1, 0.25)] == [2.0] * 3
    assert late.value_at(0.35) == pytest.approx(2 - 1.5 * (math.e - 1) / (math.e + 1))  # tanh(1/2)


@pytest.mark.parametrize("kind", KINDS)
def test_schedule_is_flat_outside_its_ramp(kind):
    schedule = ramp(kind)
    last = 0.5 if kind == "constant" else 8.0
    assert {schedule.value_at(p) for p in GRID if p < 0.2} == {0.5}
    assert {schedule.value_at(p) for p in GRID if p >= 0.6} == {last}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("start", "end"), [(0.5, 8.0), (8.0, 0.5)])
def test_schedule_is_monotone_and_stays_within_its_bounds(kind, start, end):
    schedule = ramp(kind, start=start, end=end)
    values = [schedule.value_at(p) for p in GRID]
    direction = 1 if end > start else -1
    assert all(direction * (later - earlier) >= 0 for earlier, later in itertools.pairwise(values))
    low, high = schedule.bounds
    assert min(values) == pytest.approx(low)
    assert max(values) == pytest.approx(high)


@pytest.mark.parametrize("kind", ["linear", "cosine", "exponential"])
def test_ramp_is_continuous(kind):
    values = [ramp(kind).value_at(p) for p in GRID]
    assert max(abs(b - a) for a, b in itertools.pairwise(values)) < 0.15


def test_step_jumps_where_the_ramp_begins():
    schedule = ramp("step")
    assert schedule.value_at(0.2 - 1e-9) == 0.5
    assert schedule.value_at(0.2) == 8.0


@pytest.mark.parametrize("kind", ["linear", "cosine", "exponential"])
def test_an_empty_ramp_jumps(kind):
    empty = ramp(kind, ramp_begin=0.4, ramp_end=0.4)
    assert empty.value_at(0.399) == 0.5
    assert empty.value_at(0.4) == 8.0


def test_schedule_refuses_what_it_cannot_evaluate():
    with pytest.raises(ValidationError, match="above 0"):
        Exponential(start=0.0, end=1.0)
    with pytest.raises(ValidationError, match="after ramp_end"):
        Linear(start=0.0, end=1.0, ramp_begin=0.6, ramp_end=0.5)
    with pytest.raises(ValidationError, match="Field required"):
        Linear(start=0.0)


def test_a_curve_goes_through_its_knots_in_straight_lines_of_its_scale():
    knots = {"start": 0.1, "third": 0.4, "two_thirds": 0.8, "end": 0.2}
    curve = Piecewise(**knots)
    assert [curve.value_at(p) for p in (0, 1 / 3, 2 / 3, 1)] == pytest.approx(list(knots.values()))
    assert [curve.value_at(p) for p in (1 / 6, 1 / 2, 5 / 6)] == pytest.approx([0.25, 0.6, 0.5])
    log = Piecewise(**knots, scale="log")
    assert log.value_at(1 / 6) == pytest.approx(0.2)  # the geometric mean
    assert curve.bounds == log.bounds == (0.1, 0.8)
    with pytest.raises(ValidationError, match="scale log needs values above 0; the smallest is 0"):
        Piecewise(**knots | {"start": 0.0}, scale="log")


def test_a_table_holds_or_joins_its_points():
    points = [(0.0, 0.3), (0.25, 0.5), (0.75, 0.1)]
    step, linear = (Table(points=points, interpolation=kind) for kind in ("step", "linear"))
    assert [step.value_at(p) for p in (0, 0.249, 0.25, 0.5, 0.75, 1)] == [0.3, 0.3, 0.5, 0.5, 0.1, 0.1]
    assert [linear.value_at(p) for p in (0, 0.125, 0.25, 0.5, 0.75, 1)] == pytest.approx([0.3, 0.4, 0.5, 0.3, 0.1, 0.1])
    for wrong in ([(0.1, 1.0)], [(0.0, 1.0), (0.0, 2.0)], [(0.0, 1.0), (1.5, 2.0)]):
        with pytest.raises(ValidationError, match="must begin at 0, rise, and end at 1 at most"):
            Table(points=wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_of_a_schedule_s_own_values_replays_it(kind):
    schedule = ramp(kind)
    replay = Table(points=[(p, schedule.value_at(p)) for p in GRID])
    assert [replay.value_at(p) for p in GRID] == [schedule.value_at(p) for p in GRID]


def test_a_number_stands_for_a_constant():
    curriculum = tiny_config({"curriculum.hardness": 0.25}).curriculum
    assert curriculum.hardness.model_dump() == {"kind": "constant", "start": 0.25}


@pytest.mark.parametrize("given", ["2.5e-4", 0.00025, {"start": "2.5e-4"}, {"kind": "constant", "start": 2.5e-4}])
@pytest.mark.parametrize("field", ["terms.contrast.temperature", "synthetic.gan.generator_learning_rate"])
def test_a_number_a_number_in_words_and_a_constant_are_the_same_configuration(field, given):
    assert tiny_config({field: given}) == tiny_config({f"{field}.start": 0.00025})


@pytest.mark.parametrize("kind", KINDS[1:])
def test_bounds_hold_along_the_whole_curve(kind):
    bounded = TypeAdapter(Annotated[AnySchedule, Within(gt=0, le=8)])
    assert bounded.validate_python(ramp(kind).model_dump()) == ramp(kind)  # ends at the bound
    with pytest.raises(ValidationError, match=r"goes from 0\.5 to 8\.5; all values must be greater than 0 and less"):
        bounded.validate_python(ramp(kind, end=8.5).model_dump())
    if kind != "exponential":  # which has a line of its own for it
        with pytest.raises(ValidationError, match=r"goes from 0 to 0\.5; all values must be greater than 0"):
            bounded.validate_python(ramp(kind, end=0.0).model_dump())


def test_all_rates_slow_down_together_and_nothing_else():
    knobs = tiny_config({"terms.contrast.temperature": 0.3}).knobs_at(0.5)
    slowed = knobs.slowed(0.5)
    assert slowed.learning_rate == knobs.learning_rate / 2
    assert slowed._replace(learning_rate=knobs.learning_rate, scheduled=knobs.scheduled) == knobs
    changed = {path: slowed.scheduled[path] / value for path, value in knobs.scheduled.items() if value}
    rates = {f"synthetic.gan.{name}_learning_rate" for name in ("generator", "discriminator")}
    assert rates <= changed.keys()
    assert changed == {path: 0.5 if path in rates else 1.0 for path in changed}


def test_a_scaled_schedule_keeps_its_shape():
    schedule = ramp("cosine")
    half = TypeAdapter(AnySchedule).validate_python(schedule.scaled(0.5))
    assert [half.value_at(p) for p in GRID] == pytest.approx([0.5 * schedule.value_at(p) for p in GRID])


def test_learning_rate_rises_linearly_and_falls_along_half_a_cosine():
    warmup = 0.2
    assert learning_rate(0.4, warmup, 0.0) == 0
    assert learning_rate(0.4, warmup, 0.05) == pytest.approx(0.1)
    assert learning_rate(0.4, warmup, 0.2) == pytest.approx(0.4)
    assert learning_rate(0.4, warmup, 0.4) == pytest.approx(0.2 * (1 + math.cos(math.pi / 4)))
    assert learning_rate(0.4, warmup, 0.6) == pytest.approx(0.2)
    assert learning_rate(0.4, warmup, 1.0) == pytest.approx(0, abs=1e-12)
    assert max(learning_rate(0.4, warmup, p) for p in GRID) <= 0.4


@pytest.mark.parametrize(("warmup", "at_begin", "at_end"), [(0.0, 0.4, 0.0), (1.0, 0.0, 0.4)])
def test_learning_rate_at_the_extreme_warmups(warmup, at_begin, at_end):
    assert learning_rate(0.4, warmup, 0.0) == pytest.approx(at_begin)
    assert learning_rate(0.4, warmup, 1.0) == pytest.approx(at_end, abs=1e-12)


def test_after_a_half_life_of_images_half_of_the_averaged_generator_is_new():
    config = tiny_config({"curriculum.pair_half_life_kimg.start": 0.16})  # ten steps of 16 images
    assert config.knobs_at(0.5).pair_decay ** 10 == pytest.approx(0.5)
    longest = tiny_config({"curriculum.pair_half_life_kimg.start": 1e6})
    assert 1 - 1e-7 < longest.knobs_at(0.5).pair_decay < 1
    assert tiny_config({"curriculum.pair_half_life_kimg.start": 1e-6}).knobs_at(0.5).pair_decay == pytest.approx(0)


def test_knobs_follow_their_schedules():
    linear = {"kind": "linear", "start": 0.0, "end": 1.0}
    config = tiny_config({f"curriculum.{name}": linear for name in ("hardness", "view_strength", "synthetic_fraction")})
    at = config.knobs_at(0.25)
    assert (at.hardness, at.view_strength, at.synthetic_fraction) == (0.25, 0.25, 0.25)
    training = config.training
    assert at.learning_rate == learning_rate(training.learning_rate, training.warmup_fraction, 0.25)


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("batch", [16, 24, 40])
def test_every_arm_encodes_the_same_views_at_all_times_and_shares_them_equally(arm, workers, batch):
    config = tiny_config({"training.batch_images": batch, "compute.workers_per_trial": workers})
    config = config.with_overrides({"curriculum.synthetic_fraction": {"kind": "linear", "start": 0.0, "end": 1.0}})
    config = apply_arm(config.with_overrides(FOLDER if arm == "folder-synthetic" else {}), arm)
    per_image = config.training.views_per_image
    per_latent = 2 if arm == "folder-synthetic" or not config.gan.pair else 4
    for progress in GRID:
        mix = config.mix_at(progress)
        real, latents = mix.real, sum(mix.groups.values())
        assert real * per_image + latents * per_latent == 2 * batch
        assert real >= 0 <= latents
        assert real % workers == 0 == latents % workers
        wanted = config.curriculum.synthetic_fraction.value_at(progress)
        granule = max(per_image, per_latent) * workers / (2 * batch)
        assert abs(per_latent * latents / (2 * batch) - wanted) <= granule / 2 + 1e-12
        assert config.knobs_at(progress).synthetic_fraction == pytest.approx(per_latent * latents / (2 * batch))


def test_mix_at_the_ends_is_purely_real_or_purely_synthetic():
    assert tiny_config({"curriculum.synthetic_fraction.start": 0.0}).mix_at(0.5) == Mix(16, {})
    assert tiny_config({"curriculum.synthetic_fraction.start": 1.0}).mix_at(0.5) == Mix(0, {"gan": 8})
    for overrides in ({"synthetic.gan.pair": False}, {"synthetic.gan.views_per_pair": 2}):
        assert tiny_config({"curriculum.synthetic_fraction.start": 1.0} | overrides).mix_at(0.5) == Mix(0, {"gan": 16})
    assert tiny_config().mix_at(0.5) == Mix(8, {"gan": 4})


def test_a_run_is_real_only_when_no_step_has_a_synthetic_view():
    def real_only(**schedule: float | str) -> bool:
        return tiny_config({"curriculum.synthetic_fraction": schedule}).is_real_only

    assert real_only(start=0.0)
    assert not real_only(kind="step", start=0.0, end=0.7, ramp_begin=0.9)
    assert not real_only(kind="linear", start=0.7, end=0.0)


def test_curriculum_refuses_values_out_of_bounds():
    with pytest.raises(ValidationError, match=r"synthetic_fraction goes from 0 to 1\.5"):
        CurriculumConfig(synthetic_fraction=Linear(start=0.0, end=1.5))
