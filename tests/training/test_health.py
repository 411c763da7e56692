"""A failed run is named and ends, or goes back; a healthy one is left alone."""

import math

import pytest
import torch
from small_trainer import CPU, random_images, tiny_config, untrained_gan

from synthcl.config.sections import HealthConfig
from synthcl.core.errors import Diverged
from synthcl.runs.checkpoint_store import load, save
from synthcl.runs.session import evaluation
from synthcl.training.health import POINTS, Health, passed_limits
from synthcl.training.loop import run_to_end
from synthcl.training.trainer import Trainer

HEALTHY = {"loss/contrast": 4.0, "encoder/variance": 0.52, "synthetic/diversity": 0.05, "gan/accuracy": 0.985}
"""the worst means over five points that runs logged which went on to learn, after a warm-up of seconds"""
COLLAPSED = {
    "encoder/variance": (0.01, "the encoder collapsed"),
    "synthetic/diversity": (0.004, "the generator collapsed"),
    "gan/accuracy": (0.9995, "the discriminator won"),
}
SHORT = {"health.patience_kimg": 0}
LONG = {"training.kimg": 0.32, "evaluation.rungs": (1.0,)}  # twenty steps, each of them logged


def make(overrides=None):
    config = tiny_config(overrides)
    return Trainer(config, random_images(), untrained_gan(config), CPU)


def scored(trainer, final):
    return {"score": 50.0}


# ---- limits and patience


def test_the_worst_that_healthy_runs_logged_passes_no_limit():
    assert passed_limits(HEALTHY, HealthConfig()) == {}


@pytest.mark.parametrize("name", COLLAPSED)
def test_a_passed_limit_is_named_with_value_and_limit(name):
    value, what = COLLAPSED[name]
    found = passed_limits(HEALTHY | {name: value}, HealthConfig())
    assert list(found) == [name]
    assert found[name].startswith(what)
    assert f"{name} {value:g} is " in found[name]


def test_a_frozen_generator_is_nobodys_failure():
    assert passed_limits({"encoder/variance": 0.5, "synthetic/diversity": 0.0}, HealthConfig()) == {}


def test_limits_can_be_switched_off():
    off = HealthConfig(embedding_variance_min=0, diversity_min=0, discriminator_accuracy_max=1)
    worst = {"encoder/variance": 0.0, "synthetic/diversity": -0.1, "gan/accuracy": 1.0}
    assert passed_limits(worst, off) == {}


@pytest.mark.parametrize("name", COLLAPSED)
def test_only_a_limit_passed_for_long_fails_a_run(name):
    health = Health(tiny_config(SHORT | {"training.kimg": 1.6}))  # a hundred steps, so patience is ten
    bad = HEALTHY | {name: COLLAPSED[name][0]}
    health.observe(HEALTHY, 1)
    assert not health.suspect
    for step in range(2, 12):
        health.observe(bad, step)
    assert health.suspect
    health.observe(HEALTHY, 12)  # one good point, and patience begins anew
    assert not health.suspect
    for step in range(13, 23):
        health.observe(bad, step)
    with pytest.raises(Diverged, match=rf"{COLLAPSED[name][1]}.* in a row, from step 13 to 23"):
        health.observe(bad, 23)


def test_patience_is_five_points_however_short_the_run():
    health = Health(tiny_config(SHORT | {"health.patience_fraction": 0}))
    for step in range(1, POINTS):
        health.observe({"encoder/variance": 0.0}, step)
    with pytest.raises(Diverged, match="5 logged points in a row, from step 1 to 5"):
        health.observe({"encoder/variance": 0.0}, POINTS)


def test_patience_is_so_many_images_however_short_the_run():
    health = Health(tiny_config({"health.patience_kimg": 0.16}))  # ten steps
    for step in range(1, 11):
        health.observe({"encoder/variance": 0.0}, step)
    with pytest.raises(Diverged, match="from step 1 to 11"):
        health.observe({"encoder/variance": 0.0}, 11)


def test_patience_goes_on_where_it_was():
    config = tiny_config(SHORT | {"health.patience_fraction": 0})
    first, second = Health(config), Health(config)
    for step in range(1, POINTS):
        first.observe({"encoder/variance": 0.0}, step)
    second.load_state_dict(first.state_dict())
    with pytest.raises(Diverged, match="from step 1 to 5"):
        second.observe({"encoder/variance": 0.0}, POINTS)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_fails_at_once_and_the_loss_is_named_first(value):
    with pytest.raises(Diverged, match=rf"loss/contrast became {value} by step 3"):
        Health(tiny_config()).observe({"encoder/variance": value, "loss/contrast": value}, 3)


# ---- whole runs


def test_a_healthy_run_is_left_alone():
    assert [bool(report.failure) for report in run_to_end(make(LONG), scored)] == [False]


def collapse(trainer, what):
    """Bring about what is to be noticed, and keep it so."""
    if what == "the encoder collapsed":
        last = trainer.networks.projector.layers[-1]
        with torch.no_grad():
            last.weight.zero_()
            last.bias.fill_(1.0)
    else:
        for network in (trainer.networks.generator, trainer.networks.generator_ema):
            with torch.no_grad():
                network.first.weight.zero_()


@pytest.mark.parametrize("what", ["the encoder collapsed", "the generator collapsed"])
def test_a_collapse_ends_the_run_with_its_name_and_all_points_until_then(what):
    still = dict.fromkeys(("synthetic.gan.generator_learning_rate", "synthetic.gan.discriminator_learning_rate"), 1e-12)
    overrides = (
        LONG | still | {"training.learning_rate": 1e-12, "training.weight_decay": 0, "health.diversity_min": 0.05}
    )
    overrides |= SHORT | {"training.batch_images": 64, "training.kimg": 1.28, "training.log_kimg": 0.064}
    trainer = make(overrides)
    collapse(trainer, what)
    *_, last = run_to_end(trainer, scored)
    assert last.failure
    assert last.score == 0
    assert what in last.failure
    assert 0 < last.progress < 1
    assert not last.resumable
    assert len(last.history) == last.images // 64 - 1 >= POINTS - 1


def test_features_in_one_direction_end_a_run_at_a_rung():
    trainer = make({"data.source": "digits"})
    with torch.no_grad():
        for name, parameter in trainer.networks.encoder.named_parameters():
            parameter.fill_(1.0 if name.endswith("bias") else 0.0)  # the same features for every image
    first = next(run_to_end(trainer, evaluation(trainer.config, test=False)))
    assert first.failure
    assert "features/rank 1 is below 2" in first.failure


def test_weights_that_are_not_finite_are_found_before_they_are_kept():
    trainer = make({"training.learning_rate": 1e39, "evaluation.rungs": (0.125, 1.0)})
    report = next(run_to_end(trainer, scored))  # the first step's loss is finite, the weights it leaves are not
    assert report.failure
    assert "weights of the" in report.failure
    assert not report.resumable


def test_the_points_before_a_failure_are_reported():
    trainer = make(LONG)
    advance = trainer.advance(3)
    with torch.no_grad():
        next(trainer.networks.encoder.parameters()).fill_(math.nan)
    with pytest.raises(Diverged) as failure:
        trainer.advance(8)
    assert failure.value.history == ()
    assert [point["images"] for point in advance] == [16, 32, 48]


# ---- rollback

BACK = {"health.on_failure": "rollback", "health.rollback_rate": 0.25, "training.checkpoint_minutes": 1e-9}
BACK |= {"health.discriminator_accuracy_max": 1, "health.diversity_min": 0}  # four latents a step say nothing


def poison(trainer, at_step, times):
    """Make the encoder's weights NaN before a step, so often."""
    advance = trainer.advance

    def poisoned(until_step, pause):
        nonlocal times
        if trainer.step == at_step and times:
            times -= 1
            with torch.no_grad():
                next(trainer.networks.encoder.parameters()).fill_(math.nan)
        return advance(until_step, pause)

    trainer.advance = poisoned
    return trainer


def test_a_failed_run_goes_back_to_the_last_leg_with_lower_rates_and_reaches_the_end():
    trainer = poison(make(BACK), at_step=3, times=1)
    reports = list(run_to_end(trainer, scored))
    (back,) = [report for report in reports if report.rolled_back]
    assert not any(bool(report.failure) for report in reports)
    assert "back to step 3 with rates times 0.25" in back.rolled_back
    assert back.images == 48
    assert back.resumable
    assert reports[-1].progress == 1
    assert all(weight.isfinite().all() for weight in trainer.networks.encoder.parameters())
    before, after = (report.history[0] for report in (reports[2], reports[4]))
    assert after["images"] == 64
    assert after["knob/generator_learning_rate"] == before["knob/generator_learning_rate"] / 4
    assert after["knob/learning_rate"] < before["knob/learning_rate"] / 4


def test_what_is_before_the_failure_is_as_if_it_had_not_been():
    back, plain = poison(make(BACK), at_step=3, times=1), make(BACK)
    reports, expected = list(run_to_end(back, scored)), list(run_to_end(plain, scored))
    assert [report.history for report in reports[:3]] == [report.history for report in expected[:3]]


def test_a_run_goes_back_only_so_often():
    reports = list(run_to_end(poison(make(BACK | {"health.rollbacks": 2}), at_step=3, times=99), scored))
    assert [(bool(report.rolled_back), bool(report.failure)) for report in reports[3:]] == [
        (True, False),
        (True, False),
        (False, True),
    ]
    assert "became nan" in reports[-1].failure


def test_a_run_that_went_back_resumes_with_the_same_numbers(tmp_path):
    unbroken = poison(make(BACK), at_step=3, times=1)
    running = run_to_end(unbroken, scored)
    while not next(running).rolled_back:
        pass
    save(unbroken, tmp_path)
    expected = [report.history for report in running]
    resumed = make(BACK)
    load(resumed, tmp_path)
    assert resumed.rollbacks == 1
    assert [report.history for report in run_to_end(resumed, scored)] == expected
    for name, value in unbroken.networks.encoder.state_dict().items():
        assert torch.equal(resumed.networks.encoder.state_dict()[name], value)


def test_a_doubtful_state_is_not_gone_back_to():
    """Rungs and checkpoints in the middle of a collapse are passed over: the run goes back to before it."""
    trainer = make(SHORT | BACK | LONG | {"health.embedding_variance_min": 1.0, "health.patience_fraction": 0})
    reports = list(run_to_end(trainer, scored))
    assert [report.resumable for report in reports[:5]] == [False] * 4 + [True]
    assert "back to step 0" in reports[4].rolled_back
    assert reports[-1].failure


def test_the_end_of_a_run_is_kept_whatever_its_last_points_say():
    patient = {"health.embedding_variance_min": 1.0, "health.patience_fraction": 1}
    reports = list(run_to_end(make(BACK | LONG | patient), scored))
    assert [report.resumable for report in reports] == [False] * 19 + [True]
    assert reports[-1].progress == 1
