"""Every arm trains and spends the same views; arms without an adversary leave the GAN as it was."""

import copy

import pytest
import torch
from small_trainer import FOLDER, tiny_config, trainer_of

from synthcl.comparison.arms import ARMS, BASELINES, apply_arm
from synthcl.core.errors import UserError

MOVING_MIX = {"kind": "linear", "start": 0.0, "end": 1.0}


def trained(arm, steps, overrides=None):
    overrides = (overrides or {}) | (FOLDER if arm == "folder-synthetic" else {})
    trainer = trainer_of(apply_arm(tiny_config(overrides), arm))
    before = copy.deepcopy(trainer.networks)
    encoded = []
    trainer.networks.encoder.register_forward_pre_hook(lambda module, inputs: encoded.append(sum(map(len, inputs[0]))))
    history = trainer.advance(steps)
    return trainer, before, encoded, history


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("mix", [{"start": 0.5}, MOVING_MIX], ids=["constant", "moving"])
def test_every_arm_encodes_twice_the_batch_at_every_step(arm, mix):
    trainer, before, encoded, history = trained(arm, 8, {"curriculum.synthetic_fraction": mix})
    assert encoded == [32] * 8
    assert [point["images"] for point in history] == [16 * step for step in range(1, 9)]
    assert not equal(before.encoder, trainer.networks.encoder)
    assert not equal(before.projector, trainer.networks.projector)


@pytest.mark.parametrize(
    "option",
    [
        {"views_per_pair": 2},
        {"views_per_image": 4},
        {"walk": 0.3},
        {"pool": 64},
        {"candidates": 2},
        {"view_strength_factor": 0.5},
        {"hardness_unit": "gradient_ratio"},
        {"teacher": 0.5},
        {"penalty_every": 2},
    ],
    ids=lambda option: next(iter(option)),
)
@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_is_there_beside_every_option_of_the_generator(arm, option):
    of_gan = {f"synthetic.gan.{name}": value for name, value in option.items()}
    config = tiny_config(of_gan | (FOLDER if arm == "folder-synthetic" else {}))
    assert apply_arm(config, arm).training.steps == config.training.steps


def test_purely_synthetic_training_needs_no_real_images_for_the_encoder():
    trainer, _, encoded, history = trained("joint", 2, {"curriculum.synthetic_fraction.start": 1.0})
    assert encoded == [32, 32]
    assert trainer.seen.real == 0
    assert trainer.seen.for_sources == 16
    assert history[-1]["loss/contrast"] > 0


@pytest.mark.parametrize("arm", ["frozen-gan", "frozen-gan-weak-views"])
def test_frozen_arms_leave_the_gan_as_the_warm_up_made_it(arm):
    trainer, before, _, history = trained(arm, 4)
    assert trainer.optimizers.generator is None
    assert trainer.optimizers.discriminator is None
    for name in ("generator", "generator_ema", "discriminator"):
        assert equal(getattr(before, name), getattr(trainer.networks, name))
    assert trainer.seen.for_sources == 0
    assert "synthetic/realism_gap" in history[-1]
    assert "loss/generator" not in history[-1]


@pytest.mark.parametrize("arm", ["hard-only", "pairs-only", "joint"])
def test_adversarial_arms_teach_the_whole_gan(arm):
    trainer, before, _, history = trained(arm, 4)
    for name in ("generator", "generator_ema", "discriminator"):
        assert not equal(getattr(before, name), getattr(trainer.networks, name))
    assert {"loss/contrast", "loss/generator", "loss/discriminator"} <= history[-1].keys()
    assert ("synthetic/pair_similarity" in history[-1]) == (arm != "hard-only")


@pytest.mark.parametrize("arm", ["real-only", "real-four-views"])
def test_real_only_arms_have_no_gan(arm):
    trainer, _, _, history = trained(arm, 2)
    assert (trainer.networks.generator, trainer.networks.generator_ema, trainer.networks.discriminator) == (None,) * 3
    assert trainer.samples() is None
    assert trainer.seen.real == (2 * 16 if arm == "real-only" else 2 * 8)
    assert not any(name.startswith(("gan/", "synthetic/")) for name in history[-1])


def test_the_joint_arm_is_the_configuration_itself_and_arms_differ_from_each_other():
    config = tiny_config(FOLDER)
    assert apply_arm(config, "joint") == config
    assert len({apply_arm(config, arm).digest() for arm in ARMS}) == len(ARMS)
    assert set(BASELINES) <= ARMS.keys()


def test_an_arm_overrides_whatever_the_curriculum_was():
    config = apply_arm(tiny_config({"curriculum.hardness": {"kind": "cosine", "start": 1.0, "end": 4.0}}), "pairs-only")
    assert config.curriculum.hardness.bounds == (0, 0)


def test_an_unknown_arm_is_refused_by_name():
    with pytest.raises(UserError, match="arm 'jont' is unknown; choose real-only, "):
        apply_arm(tiny_config(), "jont")


def test_adainf_makes_its_weak_ranges_of_its_strong_ones_and_two_thirds_of_the_views_are_generated():
    jitter = ("brightness", "contrast", "saturation")
    strong = {"crop_area_min": 0.08, "jitter_probability": 0.8, "hue": 0.2} | dict.fromkeys(jitter, 0.8)
    config = apply_arm(
        tiny_config({f"views.base.{name}": value for name, value in strong.items()}), "frozen-gan-adainf"
    )
    weak = {"crop_area_min": 0.2, "jitter_probability": 0.4, "hue": 0.1} | dict.fromkeys(jitter, 0.4)
    base = config.base_view
    assert {name: getattr(base, name) for name in weak} == pytest.approx(weak)
    assert (base.grayscale_probability, base.flip_probability) == (0.2, 0.5)
    copies, images, samples = 10, 50_000, 1_000_000
    share = config.curriculum.synthetic_fraction.value_at(0.5)
    assert 1 - share == pytest.approx(copies * images / (copies * images + samples))


def test_fake_then_real_has_no_real_image_first_and_no_other_afterwards():
    trainer, _, encoded, history = trained("frozen-gan-then-real", 8, {})
    assert encoded == [32] * 8
    assert trainer.seen.real == 5 * 16  # the first three steps begin before 0.3 of the run
    assert trainer.config.training.restart_step == 3
    assert ["synthetic/diversity" in point for point in history] == [False] * 8  # which compares with real images
    assert [point["knob/synthetic_fraction"] for point in history] == [1, 1, 1, 0, 0, 0, 0, 0]


def test_weaker_views_are_weaker_than_the_configurations_own():
    ramp = {"kind": "linear", "start": 0.2, "end": 0.5}
    config = tiny_config({"curriculum.view_strength": ramp})
    weaker = apply_arm(config, "frozen-gan-weak-views").curriculum.view_strength
    assert (weaker.kind, weaker.start, weaker.end) == ("linear", pytest.approx(0.14), pytest.approx(0.35))
