"""Resuming equals never having stopped, and the legs of a run end where they should."""

import copy
import itertools
import math
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from small_trainer import CPU, random_images, tiny_config, untrained_gan

from synthcl.core import rng
from synthcl.core.errors import Diverged, UserError
from synthcl.data import ResidentImages
from synthcl.method.curriculum.knobs import learning_rate
from synthcl.method.objectives import ppcl
from synthcl.runs.checkpoint_store import load, save
from synthcl.runs.session import evaluation
from synthcl.training.loop import run_to_end
from synthcl.training.trainer import Trainer

ADAM = {"training.optimizer": "adamw", "training.learning_rate": 1e-3, "training.warmup_fraction": 0.25}
MOVING = {
    "curriculum.synthetic_fraction": {"kind": "linear", "start": 0.0, "end": 0.75},
    "curriculum.hardness": {"kind": "cosine", "start": 0.0, "end": 2.0},
}
RATES = {
    "terms.contrast.temperature": {"kind": "exponential", "start": 0.4, "end": 0.1},
    "synthetic.gan.generator_learning_rate": {"kind": "cosine", "start": 1e-3, "end": 1e-5, "ramp_begin": 0.25},
    "synthetic.gan.discriminator_learning_rate": {
        "kind": "piecewise",
        "start": 1e-3,
        "third": 4e-3,
        "two_thirds": 1e-3,
        "end": 5e-4,
    },
}


def make(overrides=None) -> Trainer:
    config = tiny_config(overrides)
    return Trainer(config, random_images(), untrained_gan(config), CPU)


def leaves(tree, path=()):
    """Every value of a nested state with its path."""
    if isinstance(tree, dict | list):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in items:
            yield from leaves(value, (*path, key))
    else:
        yield path, tree


def assert_bitwise_equal(first: Trainer, second: Trainer):
    one, other = dict(leaves(first.state_dict())), dict(leaves(second.state_dict()))
    assert one.keys() == other.keys()
    for path, value in one.items():
        same = torch.equal(value, other[path]) if isinstance(value, torch.Tensor) else value == other[path]
        assert same, path


def scored(trainer, final):
    return {"score": 50.0}


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        ADAM,
        MOVING,
        ADAM | RATES,
        ADAM | {"synthetic.gan.loss": "relativistic", "synthetic.gan.gradient_penalty": 1.0},
        ADAM | {"synthetic.gan.gradient_penalty": 1.0, "synthetic.gan.penalty_every": 3},
    ],
)
@pytest.mark.parametrize("stop", [1, 5])
def test_resuming_equals_never_having_stopped_bit_by_bit(overrides, stop, tmp_path):
    unbroken = make(overrides)
    whole = unbroken.advance(8)

    first = make(overrides)
    begun = first.advance(stop)
    save(first, tmp_path)
    resumed = make(overrides | {"training.checkpoint_minutes": 1.0})
    load(resumed, tmp_path)
    assert resumed.images_seen == 16 * stop
    assert begun + resumed.advance(8) == whole
    assert_bitwise_equal(resumed, unbroken)


def test_the_comparison_of_states_covers_networks_optimisers_and_counters():
    trainer, other = make(ADAM), make(ADAM)
    trainer.advance(2)
    other.advance(2)
    assert_bitwise_equal(trainer, other)
    tops = {path[:2] for path, _ in leaves(trainer.state_dict())}
    networks = ("encoder", "projector", "generator", "generator_ema", "discriminator")
    assert {("networks", name) for name in networks} <= tops
    assert {("optimizers", name) for name in ("encoder", "generator", "discriminator")} <= tops
    assert {("step",), ("real_seen",), ("judged_seen",)} <= tops
    with torch.no_grad():
        next(iter(other.optimizers.discriminator.state.values()))["exp_avg_sq"].flatten()[0] += 1e-6
    with pytest.raises(AssertionError, match="exp_avg_sq"):
        assert_bitwise_equal(trainer, other)


def test_a_pause_in_the_middle_of_a_leg_changes_nothing(tmp_path):
    unbroken = make({"training.log_kimg": 0.032})
    whole = unbroken.advance(8)
    paused = make({"training.log_kimg": 0.032})
    history = paused.advance(8, pause=lambda: True)
    assert paused.step == 2  # the first logged point
    save(paused, tmp_path)
    resumed = make({"training.log_kimg": 0.032})
    load(resumed, tmp_path)
    history += resumed.advance(8)
    assert history == whole
    assert_bitwise_equal(resumed, unbroken)


def test_saving_and_sampling_disturb_nothing(tmp_path):
    undisturbed, disturbed = make(), make()
    undisturbed.advance(4)
    for step in (2, 4):
        disturbed.advance(step)
        save(disturbed, tmp_path / str(step))
        assert disturbed.samples().shape == (2, 8, 1, 16, 16)
    assert_bitwise_equal(disturbed, undisturbed)


def test_training_goes_on_in_training_mode_whoever_looked_at_the_networks():
    undisturbed, disturbed = make(), make()
    undisturbed.advance(2)
    disturbed.networks.encoder.eval()
    disturbed.advance(2)
    assert_bitwise_equal(disturbed, undisturbed)


def test_a_run_is_a_function_of_its_seed_and_leaves_the_global_generator_alone():
    runs = [make({"training.seed": seed}) for seed in (0, 0, 1)]
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    histories = [trainer.advance(3) for trainer in runs]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert histories[0] == histories[1]
    assert histories[0][0]["loss/contrast"] != histories[2][0]["loss/contrast"]


def test_making_a_trainer_leaves_the_global_generator_alone():
    config = tiny_config()
    gan = untrained_gan(config)
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    Trainer(config, random_images(), gan, CPU)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_learning_rates_of_the_config_win_over_those_of_the_checkpoint():
    trainer = make()
    trainer.advance(2)
    rates = {
        "training.learning_rate": 0.03,
        "synthetic.gan.generator_learning_rate": 0.01,
        "synthetic.gan.discriminator_learning_rate": 0.02,
    }
    other = make(rates)
    other.load_state_dict(trainer.state_dict())
    assert other.optimizers.encoder.param_groups[0]["momentum"] == 0.9
    other.advance(3)
    found = {name: optimizer.param_groups[0]["lr"] for name, optimizer in vars(other.optimizers).items()}
    assert found == {"encoder": learning_rate(0.03, 0.0, 2 / 8), "generator": 0.01, "discriminator": 0.02}
    assert other.optimizers.encoder.state[next(other.networks.encoder.parameters())]["momentum_buffer"].norm() > 0


def test_every_step_has_the_rates_and_the_temperature_that_their_schedules_have_there(monkeypatch):
    """What each optimiser steps with and what the loss is given, of a run that goes back once, with a quarter."""
    stepped = {"generator": [], "discriminator": []}
    temperatures = []

    def spied(embeddings, members, temperature, *rest, **named):
        temperatures.append(temperature)
        return loss(embeddings, members, temperature, *rest, **named)

    loss = ppcl.ppcl
    monkeypatch.setattr(ppcl, "ppcl", spied)
    trainer = make(RATES | {"health.rollback_rate": 0.25})
    for name, rates in stepped.items():
        optimizer = getattr(trainer.optimizers, name)
        optimizer.register_step_pre_hook(lambda it, *_, rates=rates: rates.append(it.param_groups[0]["lr"]))
    history = trainer.advance(4)
    trainer.go_back(copy.deepcopy(trainer.state_dict()))
    history += trainer.advance(8)

    progress = [step / 8 for step in range(8)]
    assert temperatures == pytest.approx([0.4 * 0.25**p for p in progress])
    assert [point["knob/terms.contrast.temperature"] for point in history] == temperatures
    half_cosine = [(1 + math.cos(math.pi * max(0, p - 0.25) / 0.75)) / 2 for p in progress]
    generator = [1e-5 + (1e-3 - 1e-5) * c for c in half_cosine]
    knots = np.interp(progress, [0, 1 / 3, 2 / 3, 1], [1e-3, 4e-3, 1e-3, 5e-4])
    lowered = [1] * 4 + [0.25] * 4
    for name, expected in (("generator", generator), ("discriminator", knots)):
        assert stepped[name] == pytest.approx([rate * factor for rate, factor in zip(expected, lowered, strict=True)])
        assert [point[f"knob/{name}_learning_rate"] for point in history] == stepped[name]
        assert f"knob/synthetic.gan.{name}_learning_rate" not in history[0]  # one curve each


def test_constants_given_in_full_or_by_a_table_are_the_run_of_a_number():
    """A number, a constant and a flat table give the same weights, bit for bit; another value gives others."""
    fields = (*RATES,)
    plain = make(dict.fromkeys(fields, 0.002))
    plain.advance(3)
    flat = {"kind": "table", "points": [[0, 0.002], [0.5, 0.002]], "interpolation": "step"}
    for value in ({"kind": "constant", "start": 0.002}, flat):
        other = make(dict.fromkeys(fields, value))
        other.advance(3)
        assert_bitwise_equal(plain, other)
    for field in fields:
        moved = make(dict.fromkeys(fields, 0.002) | {field: {"kind": "linear", "start": 0.002, "end": 0.004}})
        moved.advance(3)
        with pytest.raises(AssertionError):
            assert_bitwise_equal(plain, moved)


@pytest.mark.parametrize("log_steps", [1, 3, 100])
def test_logged_points_are_means_since_the_last_one(log_steps):
    fine = make().advance(8)
    coarse = make({"training.log_kimg": 0.016 * log_steps}).advance(8)
    ends = sorted({*range(log_steps, 9, log_steps), 8})
    assert [point["images"] for point in coarse] == [16 * end for end in ends]
    for point, (begin, end) in zip(coarse, itertools.pairwise([0, *ends]), strict=True):
        expected = sum(step["loss/contrast"] for step in fine[begin:end]) / (end - begin)
        assert point["loss/contrast"] == pytest.approx(expected, rel=1e-5)
        assert point["knob/learning_rate"] == fine[end - 1]["knob/learning_rate"]


def test_every_image_is_seen_once_an_epoch_by_the_encoder_and_by_the_discriminator():
    trainer = make({"training.kimg": 0.16})  # ten steps of eight real images, forty images in all
    seen = []
    fetch = trainer.images.fetch
    trainer.images.fetch = lambda indices: (seen.append(indices), fetch(indices))[1]
    trainer.advance(10)
    real, judged = (torch.cat(part) for part in zip(*(indices.split([8, 4]) for indices in seen), strict=True))
    for epoch in (real[:40], real[40:], judged):
        assert sorted(epoch.tolist()) == list(range(40))
    assert not torch.equal(real[:40], real[40:])


def test_training_lowers_the_contrastive_loss():
    config = tiny_config({"training.kimg": 1.28, "training.optimizer": "adamw", "training.learning_rate": 3e-3})
    patterns = torch.rand(40, 1, 3, 3, generator=rng.generator("patterns"))
    smooth = torch.nn.functional.interpolate(patterns, size=16, mode="bilinear")
    images = ResidentImages((255 * smooth).to(torch.uint8), CPU)
    losses = [point["loss/contrast"] for point in Trainer(config, images, untrained_gan(config), CPU).advance(80)]
    assert sum(losses[-10:]) / 10 < sum(losses[:10]) / 10 - 0.3


def test_legs_end_at_every_rung_with_a_score():
    asked = []

    def evaluate(trainer, final):
        asked.append((trainer.step, final))
        return {"score": float(trainer.step)}

    reports = list(run_to_end(make(), evaluate))
    assert asked == [(1, False), (2, False), (4, False), (8, True)]
    assert [report.score for report in reports] == [1, 2, 4, 8]
    assert [report.images for report in reports] == [16, 32, 64, 128]
    assert [report.progress for report in reports] == [0.125, 0.25, 0.5, 1.0]
    assert not any(bool(report.failure) for report in reports)
    assert [point["images"] for report in reports for point in report.history] == [16 * step for step in range(1, 9)]
    assert list(run_to_end(make({"training.kimg": 0.016}), evaluate))[-1].progress == 1.0  # rungs closer than a step


def test_the_seconds_of_scoring_are_added_up_over_all_legs():
    def slowly(trainer, final):
        time.sleep(0.02)
        return scored(trainer, final)

    reports = list(run_to_end(make({"training.checkpoint_minutes": 1e-9}), slowly))
    rungs = itertools.accumulate(bool(report.scores) for report in reports)
    assert all(report.scoring_seconds >= 0.02 * count for report, count in zip(reports, rungs, strict=True))
    assert 0 < reports[-1].scoring_seconds < reports[-1].seconds


def test_legs_between_rungs_carry_no_score():
    trainer = make({"training.checkpoint_minutes": 1e-9})
    reports = list(run_to_end(trainer, scored))
    assert [report.images for report in reports] == [16 * step for step in range(1, 9)]
    assert [report.images for report in reports if report.score is not None] == [16, 32, 64, 128]
    assert [report.progress for report in reports] == [step / 8 for step in range(1, 9)]


def test_legs_of_a_resumed_run_go_on_with_the_next_rung(tmp_path):
    trainer = make()
    running = run_to_end(trainer, scored)
    next(running), next(running)
    save(trainer, tmp_path)
    rest = list(running)
    resumed = make()
    load(resumed, tmp_path)
    reports = list(run_to_end(resumed, scored))
    assert [report.images for report in reports] == [64, 128]
    assert [report.history for report in reports] == [report.history for report in rest]
    assert_bitwise_equal(resumed, trainer)
    assert list(run_to_end(resumed, scored)) == []


def test_a_run_whose_loss_becomes_nan_ends_diverged_with_a_score_of_zero_and_a_reason():
    trainer = make({"training.learning_rate": 1e30, "evaluation.rungs": (1.0,)})
    reports = list(run_to_end(trainer, scored))
    assert len(reports) == 1
    assert reports[0].failure
    assert reports[0].score == 0
    assert re.search(r"^loss/\w+ became (nan|inf) by step \d+$", reports[0].failure)
    assert 0 < reports[0].progress < 1
    with pytest.raises(Diverged):
        make({"training.learning_rate": 1e30}).advance(8)


def test_a_run_whose_features_overflow_just_before_a_rung_ends_diverged_too():
    overrides = {"data.source": "digits", "training.learning_rate": 1e30, "evaluation.rungs": (0.125, 1.0)}
    trainer = make(overrides)  # the first step's loss is finite, the weights it leaves are not
    reports = list(run_to_end(trainer, evaluation(trainer.config, test=False)))
    assert [bool(report.failure) for report in reports] == [True]
    assert reports[0].score == 0


def test_too_few_images_are_refused_with_both_numbers():
    config = tiny_config({"curriculum.synthetic_fraction": {"kind": "linear", "start": 0.9, "end": 0.0}})
    with pytest.raises(UserError, match="gives 15 unlabelled images, fewer than the 16 of a step"):
        Trainer(config, random_images(15), untrained_gan(config), CPU)
    Trainer(config, random_images(16), untrained_gan(config), CPU)


def test_a_run_with_synthetic_views_needs_a_gan():
    with pytest.raises(ValueError, match="needs the state of a warmed-up GAN"):
        Trainer(tiny_config(), random_images(), None, CPU)


def test_generator_and_its_average_both_begin_as_the_warmed_up_one():
    trainer, gan = make(), untrained_gan(tiny_config())
    for network in (trainer.networks.generator, trainer.networks.generator_ema):
        assert all(torch.equal(value, gan["generator"][name]) for name, value in network.state_dict().items())
    assert not any(parameter.requires_grad for parameter in trainer.networks.generator_ema.parameters())
    pixels = trainer.samples()
    assert torch.equal(pixels[0], pixels[1])


def test_norms_and_biases_do_not_decay():
    optimizer = make({"training.weight_decay": 0.25}).optimizers.encoder
    decays = {
        (parameter.ndim > 1, group["weight_decay"]) for group in optimizer.param_groups for parameter in group["params"]
    }
    assert decays == {(True, 0.25), (False, 0.0)}


def test_every_parameter_has_exactly_one_optimiser():
    trainer = make()
    owned = [p for optimizer in vars(trainer.optimizers).values() for g in optimizer.param_groups for p in g["params"]]
    networks = vars(trainer.networks)
    expected = [p for name, net in networks.items() if name != "generator_ema" for p in net.parameters()]
    assert len(owned) == len({id(p) for p in owned})
    assert {id(p) for p in owned} == {id(p) for p in expected}


def test_bfloat16_trains_with_finite_losses_and_float32_weights():
    trainer = make({"training.precision": "bf16"})
    history = trainer.advance(3)
    reference = make().advance(3)
    assert history[0]["loss/contrast"] == pytest.approx(reference[0]["loss/contrast"], rel=0.02)
    for network in vars(trainer.networks).values():
        assert all(parameter.dtype == torch.float32 for parameter in network.parameters())


def test_state_survives_a_deep_copy_without_sharing():
    trainer = make()
    trainer.advance(2)
    state = copy.deepcopy(trainer.state_dict())
    trainer.advance(4)
    other = make()
    other.load_state_dict(state)
    other.advance(4)
    assert_bitwise_equal(trainer, other)


def test_the_library_imports_neither_ray_nor_optuna():
    modules = "synthcl, synthcl.training.trainer, synthcl.runs.session, synthcl.runs.gan_cache, synthcl.runs.export"
    code = f"import sys, {modules}; print([name for name in ('ray', 'optuna') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_networks_are_initialised_by_the_run_s_seed():
    first, again, other = (make({"training.seed": seed}).networks.encoder.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])
