"""The joint step plays the game the paper describes: every gradient against a reference that differentiates apart."""

import copy
from functools import partial
from typing import NamedTuple

import pytest
import torch
from small_trainer import CPU, batch_of, random_images, tiny_config, untrained_gan

from synthcl.config.schema import Config
from synthcl.core import distributed
from synthcl.core.device import normalise, resize
from synthcl.core.updates import ema_update, frozen, update
from synthcl.method.curriculum.knobs import Knobs
from synthcl.method.objectives.ppcl import ppcl
from synthcl.method.scene import Seen
from synthcl.method.synthetic.gan import diffaugment
from synthcl.method.synthetic.gan.objectives import discriminator_objective, generator_objective
from synthcl.method.views import simclr
from synthcl.training.batch import Batch, groups_and_order
from synthcl.training.diagnostics import of_synthetic
from synthcl.training.lab import Lab
from synthcl.training.networks import Networks
from synthcl.training.step import joint_step

TEMPERATURE = {"terms.contrast.temperature": {"kind": "linear", "start": 0.1, "end": 0.7}}
HALFWAY = 0.4
"""the temperature that the step of a scene is run with"""


class Scene(NamedTuple):
    config: Config
    lab: Lab
    batch: Batch
    knobs: Knobs

    @property
    def networks(self) -> Networks:
        return self.lab.networks

    @property
    def asked(self):
        """The latents' draws, and the real images that D sees."""
        return self.batch.asked["gan"][:2]

    def step(self):
        return joint_step(self.lab, self.batch, self.knobs)


def scene(overrides=None, **knobs) -> Scene:
    config = tiny_config(TEMPERATURE | (overrides or {}))
    lab = Lab(config, None if config.is_real_only else untrained_gan(config), CPU)
    at = config.knobs_at(0.5)._replace(**knobs)
    if lab.sources:
        with torch.no_grad():  # the averaged generator has fallen behind
            for parameter in lab.networks.generator_ema.parameters():
                parameter.mul_(0.9)
    return Scene(config, lab, batch_of(lab, at, 3), at)


def sample(state: Scene, networks: Networks | None = None):
    """G(z) with its graph and, for pairs, G_ema(z) without one."""
    networks, latents = networks or state.networks, state.asked[0].latents
    slow = networks.generator_ema(latents).detach() if state.config.gan.pair else None
    return networks.generator(latents), slow


def contrast(state: Scene, fake, fake_ema, networks: Networks | None = None):
    """PPCL of the views of these images."""
    networks, batch, config = networks or state.networks, state.batch, state.config
    size, per_sample = config.data.image_size, config.gan.views_per_sample
    images = [(batch.real, config.training.views_per_image), (fake, per_sample)]
    images += [] if fake_ema is None else [(fake_ema, per_sample)]
    parts, counts = [resize(part, size) for part, _ in images], [times * len(part) for part, times in images]
    views = simclr.apply_to_each(parts, counts, batch.draws["base"], config.view_size)
    features = networks.encoder([normalise(part) for part in views])
    z = torch.nn.functional.normalize(networks.projector(features), dim=1)
    return ppcl(z, batch.groups, HALFWAY)


def learners(networks: Networks):
    return [*networks.encoder.parameters(), *networks.projector.parameters()]


def gradients(module):
    return [parameter.grad for parameter in module.parameters()]


def assert_close(actual, expected, rtol=1e-4, atol=1e-6):
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=atol)


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def shown(state: Scene, fake):
    draw, real = state.asked
    return diffaugment.augment(resize(real, fake.shape[-1]), fake, draw.augmentation)


def two_passes(state: Scene):
    """Gradients of encoder and G from two separate differentiations, with D after its own update."""
    networks, config = state.networks, state.config
    fake, fake_ema = sample(state)
    seen = shown(state, fake)
    update(discriminator_objective(networks.discriminator, seen, config.gan)[0], state.lab.optimizers.discriminator)
    contrasted = contrast(state, fake, fake_ema)
    realism_loss = generator_objective(networks.discriminator, seen, config.gan)
    weights = list(networks.generator.parameters())
    encoder = torch.autograd.grad(contrasted, learners(networks), retain_graph=True)
    at_contrast, *contrastive = torch.autograd.grad(contrasted, [fake, *weights], retain_graph=True)
    at_realism, *realism = torch.autograd.grad(realism_loss, [fake, *weights])
    scale = state.knobs.hardness
    if config.gan.hardness_unit == "gradient_ratio":
        scale = scale * at_realism.norm() / at_contrast.norm()
    return encoder, [r - scale * c for r, c in zip(realism, contrastive, strict=True)], (at_contrast, at_realism)


@pytest.mark.parametrize("method", [{}, {"synthetic.gan.views_per_pair": 2}, {"synthetic.gan.pair": False}])
@pytest.mark.parametrize("unit", ["weight", "gradient_ratio"])
@pytest.mark.parametrize("loss", ["hinge", "relativistic"])
@pytest.mark.parametrize("hardness", [0.0, 0.5, 3.0])
def test_one_backward_pass_gives_both_players_the_gradients_of_two(method, unit, loss, hardness):
    overrides = method | {
        "synthetic.gan.hardness_unit": unit,
        "synthetic.gan.loss": loss,
        "synthetic.gan.gradient_penalty": 1.0,
    }
    reference = scene(overrides, hardness=hardness)
    encoder, generator, (at_contrast, at_realism) = two_passes(reference)
    actual = scene(overrides, hardness=hardness)
    statistics = actual.step()
    assert_close([parameter.grad for parameter in learners(actual.networks)], encoder)
    assert_close(gradients(actual.networks.generator), generator)
    assert_close(gradients(actual.networks.discriminator), gradients(reference.networks.discriminator))
    if hardness:
        torch.testing.assert_close(statistics["gan/contrast_gradient"], at_contrast.norm())
        torch.testing.assert_close(statistics["gan/realism_gradient"], at_realism.norm())


def test_generator_and_encoder_pull_the_contrastive_loss_in_opposite_directions():
    state = scene({"synthetic.gan.hardness_unit": "weight"}, hardness=1e5, learning_rate=0.0)  # realism drowns

    def loss(networks):
        with torch.no_grad():
            return contrast(state, *sample(state, networks), networks).item()

    before = copy.deepcopy(state.networks)
    state.step()
    start = loss(before)
    for name, expected_sign in (("generator", 1), ("encoder", -1)):
        moved = copy.deepcopy(before)
        found = gradients(getattr(state.networks, name))
        length = torch.stack([gradient.norm() for gradient in found]).norm()
        with torch.no_grad():
            for parameter, gradient in zip(getattr(moved, name).parameters(), found, strict=True):
                parameter -= 0.02 * gradient / length
        assert expected_sign * (loss(moved) - start) > 1e-4


def test_generators_step_teaches_neither_discriminator_nor_averaged_generator():
    state = scene(hardness=1.0)
    fake, fake_ema = sample(state)
    assert not fake_ema.requires_grad
    (
        contrast(state, fake, fake_ema)
        + generator_objective(state.networks.discriminator, shown(state, fake), state.config.gan)
    ).backward()
    assert all(gradient is None for gradient in gradients(state.networks.discriminator))
    assert all(gradient is None for gradient in gradients(state.networks.generator_ema))
    assert all(gradient.norm() > 0 for gradient in gradients(state.networks.generator))
    assert all(parameter.requires_grad for parameter in state.networks.discriminator.parameters())


def test_discriminators_step_teaches_no_one_else():
    state = scene()
    fake, _ = sample(state)
    discriminator_objective(state.networks.discriminator, shown(state, fake), state.config.gan)[0].backward()
    assert all(gradient is None for gradient in gradients(state.networks.generator))
    assert all(gradient is None for gradient in gradients(state.networks.encoder))


def test_averaged_generator_follows_with_the_step_s_decay():
    state = scene(pair_decay=0.75)
    old = [parameter.clone() for parameter in state.networks.generator_ema.parameters()]
    state.step()
    new = state.networks.generator.parameters()
    expected = [0.75 * o + 0.25 * n for o, n in zip(old, new, strict=True)]
    assert_close(state.networks.generator_ema.parameters(), expected, rtol=1e-6, atol=1e-7)


def test_follow_is_half_way_after_a_half_life_and_copies_buffers():
    slow, fast = (torch.nn.BatchNorm1d(3) for _ in range(2))
    torch.nn.init.zeros_(slow.weight)
    fast.running_mean.fill_(5.0)
    config = tiny_config({"curriculum.pair_half_life_kimg.start": 0.16})
    decay = config.knobs_at(0.5).pair_decay
    for _ in range(10):  # 160 images
        ema_update(slow, fast, decay)
    torch.testing.assert_close(slow.weight, torch.full((3,), 0.5))
    assert torch.equal(slow.running_mean, fast.running_mean)


def test_real_only_step_equals_simclr_by_hand():
    state = scene({"curriculum.synthetic_fraction.start": 0.0})
    config, networks, at, batch = state.config, state.networks, state.knobs, state.batch
    reference = copy.deepcopy(networks)
    statistics = state.step()

    both = simclr.apply(torch.cat([random_images().pixels[:16] / 255] * 2), batch.draws["base"], 16)
    z = torch.nn.functional.normalize(reference.projector(reference.encoder(2 * both - 1)), dim=1)
    loss = ppcl(z, torch.arange(16).repeat(2), HALFWAY)
    loss.backward()
    torch.testing.assert_close(statistics["loss/contrast"], loss.detach())
    optimizer = torch.optim.SGD(learners(reference), lr=at.learning_rate)
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0
    decay = config.training.weight_decay
    for parameter, updated in zip(learners(reference), learners(networks), strict=True):
        gradient = parameter.grad + (decay * parameter.detach() if parameter.ndim > 1 else 0)
        torch.testing.assert_close(updated.detach(), parameter.detach() - at.learning_rate * gradient)


def test_contrast_equals_one_pass_over_the_blocks_of_all_views():
    state = scene({"views.base.blur_probability": 0.5})
    networks, batch, config = copy.deepcopy(state.networks), state.batch, state.config
    views, _ = state.lab.images(batch, state.knobs)
    fake, fake_ema = views.parts[1:]
    views = state.lab.views["base"](views, batch.draws["base"], {})
    loss = state.lab.losses(Seen(views, state.lab.encoder, state.lab.heads), state.knobs, players=1)[0]
    expected_gradients = torch.autograd.grad(loss, learners(state.networks))

    blocks = torch.cat([batch.real] * 2 + [fake] * 2 + [fake_ema] * 2)
    seen = simclr.apply(blocks, batch.draws["base"], config.view_size)
    z = torch.nn.functional.normalize(networks.projector(networks.encoder(2 * seen - 1)), dim=1)
    by_hand = ppcl(z, batch.groups, HALFWAY)
    torch.testing.assert_close(loss, by_hand)
    assert_close(expected_gradients, torch.autograd.grad(by_hand, learners(networks)), atol=1e-5)


def test_everything_random_in_a_step_depends_on_seed_and_step_alone():
    def drawn(seed, step):
        config = tiny_config({"training.seed": seed})
        batch = batch_of(Lab(config, untrained_gan(config), CPU), config.knobs_at(0.5), step)
        draw = batch.asked["gan"][0]
        augmentations = draw.augmentation.rows(slice(4)), draw.augmentation.rows(slice(4, 8))
        return draw.latents, *(each.top for each in (batch.draws["base"], *augmentations))

    first = drawn(0, 0)
    assert all(torch.equal(one, other) for one, other in zip(first, drawn(0, 0), strict=True))
    for key in ((0, 1), (1, 0)):
        assert not any(torch.equal(one, other) for one, other in zip(first, drawn(*key), strict=True))
    assert not torch.equal(first[2], first[3])


def test_views_know_which_image_of_the_data_they_show():
    state = scene()
    real, latents = len(state.batch.real), len(state.asked[0].latents)
    assert state.batch.images.tolist() == [*range(real)] * 2 + [-1] * 4 * latents
    views, _ = state.lab.images(state.batch, state.knobs)
    assert views.images[:, 0].tolist() == state.batch.images.tolist()


@pytest.mark.parametrize("per_image", [2, 4])
@pytest.mark.parametrize(("pair", "per_pair", "per_latent"), [(True, 4, 4), (True, 2, 2), (False, 4, 2), (False, 2, 2)])
def test_groups_hold_the_views_of_one_image_or_one_latent(pair, per_pair, per_latent, per_image):
    overrides = {
        "synthetic.gan.pair": pair,
        "synthetic.gan.views_per_pair": per_pair,
        "training.views_per_image": per_image,
    }
    config = tiny_config(overrides)
    mix = config.mix_at(0.5)
    groups, rows = groups_and_order(mix, config.training.views_per_image, {"gan": config.gan})
    assert rows.tolist() == list(range(32))
    sizes = groups.bincount().tolist()
    assert sizes == [per_image] * mix.real + [per_latent] * mix.latents


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_take_disjoint_rows_that_make_up_the_batch_and_keep_their_groups(processes, monkeypatch):
    config = tiny_config({"compute.workers_per_trial": processes})
    mix = config.mix_at(0.5)
    whole, _ = groups_and_order(mix, config.training.views_per_image, {"gan": config.gan})
    monkeypatch.setattr(distributed, "world_size", lambda: processes)
    seen = []
    for rank in range(processes):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        groups, rows = groups_and_order(mix, config.training.views_per_image, {"gan": config.gan})
        assert torch.equal(whole[rows], groups)
        seen += rows.tolist()
    assert sorted(seen) == list(range(32))


def test_the_average_shares_its_latents_with_the_generator():
    state = scene()
    state.networks.generator_ema.load_state_dict(state.networks.generator.state_dict())
    fake, fake_ema = sample(state)
    assert torch.equal(fake.detach(), fake_ema)


def test_statistics_say_when_synthetic_features_equal_real_ones_and_when_they_collapse():
    draw = torch.Generator().manual_seed(0)
    images, embeddings = torch.randn(4, 5, generator=draw), torch.ones(32, 1)
    features = images.repeat(4, 1)  # two views of eight real images, four views of four latents
    views = {"real": slice(0, 16), "rows": slice(16, 32), "views_per_latent": 4, "views_per_image": 2}
    of = partial(of_synthetic, embeddings=embeddings, **views)
    statistics = of(features.repeat(2, 1))
    assert {name: round(value.item(), 6) for name, value in statistics.items()} == {
        "pair_similarity": 1,
        "realism_gap": 0,
        "diversity": 1,
    }
    collapsed = torch.cat([features, features.mean(dim=0).expand(16, 5)])
    statistics = of(collapsed)
    assert statistics["diversity"].item() == pytest.approx(0, abs=1e-6)
    assert statistics["realism_gap"].item() == pytest.approx(1, abs=1e-5)


def test_what_views_add_to_one_image_is_no_diversity():
    state = scene({"training.batch_images": 512})
    count = len(state.asked[0].latents)
    views = torch.randn(4 * count, 5, generator=torch.Generator().manual_seed(0))  # of one image: noise of their own
    latents = 0.5 * torch.randn(count, 5, generator=torch.Generator().manual_seed(1))
    real = torch.randn(2 * len(state.batch.real), 5, generator=torch.Generator().manual_seed(2))
    for synthetic, expected in ((views, 0.0), (views + latents.repeat(4, 1), 0.25)):
        embeddings = torch.ones(len(real) + len(synthetic), 1)
        rows = slice(len(real), len(embeddings))
        statistics = of_synthetic(torch.cat([real, synthetic]), embeddings, slice(0, len(real)), rows, 4, 2)
        assert statistics["diversity"].item() == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("per_pair", [2, 4])
def test_pair_similarity_compares_views_of_the_generator_with_views_of_its_average(per_pair):
    state = scene({"synthetic.gan.views_per_pair": per_pair})
    latents = len(state.asked[0].latents)
    assert latents == 16 // per_pair
    own = torch.eye(latents)  # an embedding of its own for every latent
    for of_average, expected in ((own, 1.0), (own.roll(1, dims=0), 0.0)):
        blocks = [own] * (per_pair // 2) + [of_average] * (per_pair // 2)
        embeddings = torch.cat([torch.ones(16, latents), *blocks])
        statistics = of_synthetic(torch.randn(32, 3), embeddings, slice(0, 16), slice(16, 32), per_pair, per_pair // 2)
        assert statistics["pair_similarity"].item() == expected


def test_a_pair_of_one_view_each_has_one_view_of_either_image():
    state = scene({"synthetic.gan.views_per_pair": 2})
    seen = []
    state.networks.encoder.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs[0]))
    state.step()
    latents = len(state.asked[0].latents)
    assert [len(part) for part in seen] == [2 * len(state.batch.real), latents, latents]


def test_frozen_restores_what_required_a_gradient():
    module = torch.nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    with frozen(module):
        assert not module.weight.requires_grad
    assert module.weight.requires_grad
    assert not module.bias.requires_grad


def test_generator_and_views_may_have_sizes_of_their_own():
    state = scene({"synthetic.gan.image_size": 8, "views.base.size": 12}, hardness=1.0)
    statistics = state.step()
    assert all(value.isfinite() for value in statistics.values())
    assert statistics["gan/contrast_gradient"] > 0
