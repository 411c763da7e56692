"""Operations of a run are those of its real steps, and of layers those of the formula."""

from itertools import pairwise

import pytest
import torch
from small_trainer import CPU, FOLDER, random_images, tiny_config, trainer_of
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from synthcl.comparison.arms import apply_arm
from synthcl.core.plugin import members
from synthcl.core.work import count
from synthcl.method.synthetic.gan.networks import make_discriminator
from synthcl.method.views import AnyView
from synthcl.training.flops import shown, training_flops, warmup_flops
from synthcl.training.gan_warmup import GanWarmUp

RAMP = {"kind": "linear", "start": 0.25, "end": 0.75, "ramp_begin": 0.2, "ramp_end": 0.8}


def test_operations_of_a_convolution_are_the_formula():
    layer = nn.Conv2d(3, 8, 3, padding=1, bias=False, device="meta")
    images = torch.empty(5, 3, 16, 16, device="meta")
    forward = 2 * 5 * 8 * 3 * 9 * 16**2
    assert count(lambda: layer(images)).flops == forward
    assert count(lambda: layer(images).sum().backward()).flops == 2 * forward  # the weights' gradient
    assert count(lambda: layer(images.requires_grad_()).sum().backward()).flops == 3 * forward  # and the images'


def trained(config, arm):
    """A run's operations as torch counts them on its real steps."""
    config = apply_arm(config, arm)
    trainer = trainer_of(config)
    with FlopCounterMode(display=False) as counter:
        trainer.advance(config.training.steps)
    return counter.get_total_flops()


@pytest.mark.parametrize("arm", ["real-only", "frozen-gan", "hard-only", "joint"])
@pytest.mark.parametrize("share", [{"kind": "constant", "start": 0.5}, RAMP], ids=["constant", "ramp"])
def test_operations_of_a_run_are_those_that_torch_counts_on_its_real_steps(arm, share):
    config = tiny_config({"curriculum.synthetic_fraction": share})
    assert training_flops(apply_arm(config, arm)) == trained(config, arm)


@pytest.mark.parametrize(("arm", "pairs"), [("folder-synthetic", "names"), ("joint", "none")])
def test_a_folders_views_cost_what_other_views_cost(arm, pairs):
    config = tiny_config(FOLDER | {"synthetic.mine.pairs": pairs, "curriculum.synthetic_fraction": RAMP})
    assert training_flops(apply_arm(config, arm)) == trained(config, arm)


def test_a_run_that_begins_without_synthetic_images_has_fewer_operations():
    late = tiny_config({"curriculum.synthetic_fraction": {"kind": "step", "start": 0.0, "end": 0.5, "ramp_begin": 0.5}})
    always = tiny_config({"curriculum.synthetic_fraction": {"kind": "constant", "start": 0.5}})
    assert training_flops(late) == trained(late, "joint")
    assert training_flops(apply_arm(late, "real-only")) < training_flops(late) < training_flops(always)


def test_operations_grow_with_the_steps_and_do_not_depend_on_the_seed():
    whole, half, other = (
        training_flops(tiny_config(changes))
        for changes in ({"training.kimg": 0.256}, {"training.kimg": 0.128}, {"training.seed": 5})
    )
    assert whole == 2 * half == 2 * other


def test_runs_that_differ_in_rates_and_in_the_values_of_schedules_are_counted_once(monkeypatch):
    known = training_flops(tiny_config())
    monkeypatch.setattr("synthcl.training.flops.joint_step", None)  # counting again would fail
    others = {"terms.contrast.temperature": 0.3, "synthetic.gan.generator_learning_rate": 3e-4}
    others |= {"curriculum.hardness": RAMP, "training.learning_rate": 0.02, "data.split_seed": 3}
    assert training_flops(tiny_config(others)) == known
    assert training_flops(tiny_config({"curriculum.synthetic_fraction.start": 0.25})) is None


def test_workers_share_whole_latents():
    share = {"curriculum.synthetic_fraction": {"kind": "constant", "start": 2 / 3}}
    one, four = (tiny_config(share | {"compute.workers_per_trial": number}) for number in (1, 4))
    assert one.mix_at(0.0).latents != four.mix_at(0.0).latents
    assert training_flops(one) == trained(one, "joint") != training_flops(four)


def test_a_lazy_penalty_is_counted_in_the_steps_that_have_it():
    def flops(**gan):
        changes = {"training.kimg": 0.128} | {f"synthetic.gan.{name}": value for name, value in gan.items()}
        config = tiny_config(changes)
        assert config.training.steps % 4 == 0
        return training_flops(config)

    none, eager, lazy = flops(), flops(gradient_penalty=1.0), flops(gradient_penalty=1.0, penalty_every=4)
    assert none < lazy < eager
    assert 4 * (lazy - none) == eager - none
    assert flops(penalty_every=4) == none


@pytest.mark.parametrize("arm", ["joint", "frozen-gan"])
def test_candidates_are_counted_whether_they_are_kept_or_not(arm):
    four = tiny_config({"synthetic.gan.candidates": 4})
    assert training_flops(apply_arm(four, arm)) == trained(four, arm)
    numbers = (four.with_overrides({"synthetic.gan.candidates": number}) for number in (1, 2, 4))
    of_one, of_two, of_four = (training_flops(apply_arm(config, arm)) for config in numbers)
    assert of_four - of_one == 2 * (of_two - of_one) > 0  # with one, nobody judges it


@pytest.mark.parametrize("mixer", ["mixup", "resizemix"])
def test_mixed_views_and_terms_beside_ppcl_are_counted_too(mixer):
    terms = {f"terms.{kind}.kind": kind for kind in ("decoupled", "vicreg", "barlow")}
    config = tiny_config(terms | {"views.mix.kind": mixer})
    assert training_flops(config) == trained(config, "joint") > trained(tiny_config(), "joint")


@pytest.mark.parametrize("kind", sorted({*members(AnyView)} - {"simclr", "custom"}))
def test_changed_views_are_counted_too(kind):
    config = tiny_config({"views.more.kind": kind})
    assert training_flops(config) == trained(config, "joint")


@pytest.mark.parametrize("kind", ["dsu", "advstyle"])
def test_perturbed_feature_maps_are_counted_too(kind):
    config = tiny_config({"encoder.style.kind": kind})
    assert training_flops(config) == trained(config, "joint")


def test_what_blurs_its_views_is_counted_too():
    blurred = tiny_config({"views.base.blur_probability": 1.0})
    assert training_flops(blurred) == training_flops(tiny_config({"views.base.blur_probability": 0.0}))


def without(config):
    return config.with_overrides({"synthetic.gan.gradient_penalty": 0.0})


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_operations_of_a_warm_up_are_those_of_its_real_steps(penalty):
    batch = {"synthetic.gan.warmup_batch_images": 8, "synthetic.gan.warmup_kimg": 0.08}
    config = tiny_config(batch | {"synthetic.gan.gradient_penalty": penalty})
    step = count(lambda: GanWarmUp(config, CPU).advance(random_images(), check=False)).flops
    assert warmup_flops(config, 40) == 10 * step
    lazy = config.with_overrides({"synthetic.gan.warmup_penalty_every": 5})
    spared = step - count(lambda: GanWarmUp(without(config), CPU).advance(random_images(), check=False)).flops
    assert warmup_flops(lazy, 40) == 10 * step - 8 * spared
    passes = config.with_overrides({"synthetic.gan.warmup_passes_max": 1})
    assert warmup_flops(passes, 40) == 5 * step
    assert warmup_flops(apply_arm(config, "real-only"), 40) == 0


def test_code_of_ones_own_that_wants_numbers_is_not_counted(monkeypatch):
    def curious(*arguments):
        network = make_discriminator(*arguments)
        network.register_forward_hook(lambda module, given, result: result.sum().item())
        return network

    monkeypatch.setattr("synthcl.training.networks.make_discriminator", curious)
    assert training_flops(tiny_config({"training.kimg": 0.064})) is None


def test_operations_are_shown_with_a_prefix():
    assert [shown(value) for value in (None, 0, 12, 1.0412e12, 302.6e15)] == ["-", "0", "12", "1.041 T", "302.6 P"]
    sizes = [shown(10.0**power) for power in range(24)]
    assert all(earlier != later for earlier, later in pairwise(sizes))
