"""The joint step plays the game the paper describes: every gradient against a reference that differentiates apart."""

import copy
from functools import partial
from typing import NamedTuple

import pytest
import torch
from small_trainer import CPU, random_images, tiny_config, untrained_gan

from synthcl.config.schema import Config
from synthcl.core import distributed
from synthcl.core.updates import ema_update, frozen, update
from synthcl.method.curriculum.knobs import Knobs
from synthcl.method.objectives.ppcl import ppcl
from synthcl.method.synthetic.gan import diffaugment
from synthcl.method.synthetic.gan.objectives import discriminator_objective, generator_objective
from synthcl.method.views import simclr
from synthcl.training.batch import Batch, groups_and_order, make_batch
from synthcl.training.diagnostics import of_synthetic
from synthcl.training.networks import Networks, Optimizers, make_networks, make_optimizers
from synthcl.training.step import contrast, joint_step, sample


class Scene(NamedTuple):
    config: Config
    networks: Networks
    optimizers: Optimizers
    batch: Batch
    knobs: Knobs

    def step(self):
        return joint_step(self.networks, self.optimizers, self.batch, self.knobs, self.config)


def scene(overrides=None, **knobs) -> Scene:
    config = tiny_config(overrides)
    networks = make_networks(config, untrained_gan(config), CPU)
    mix = config.mix_at(0.5)
    pixels = random_images().pixels
    at = config.knobs_at(0.5)._replace(**knobs)
    batch = make_batch(config, at, mix, 3, pixels[: mix.real], pixels[mix.real : mix.real + mix.latents], CPU)
    with torch.no_grad():  # the averaged generator has fallen behind
        for parameter in networks.generator_ema.parameters():
            parameter.mul_(0.9)
    return Scene(config, networks, make_optimizers(config, networks), batch, at)


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
    return diffaugment.augment(state.batch.real_for_d, fake, state.batch.augmentation)


def two_passes(state: Scene):
    """Gradients of encoder and G from two separate differentiations, with D after its own update."""
    networks, batch, config = state.networks, state.batch, state.config
    fake, fake_ema = sample(networks, batch, config.method)
    seen = shown(state, fake)
    update(discriminator_objective(networks.discriminator, seen, config.gan)[0], state.optimizers.discriminator)
    contrasted = contrast(networks, batch, fake, fake_ema, config)[0]
    realism_loss = generator_objective(networks.discriminator, seen, config.gan)
    weights = list(networks.generator.parameters())
    encoder = torch.autograd.grad(contrasted, learners(networks), retain_graph=True)
    at_contrast, *contrastive = torch.autograd.grad(contrasted, [fake, *weights], retain_graph=True)
    at_realism, *realism = torch.autograd.grad(realism_loss, [fake, *weights])
    scale = state.knobs.hardness
    if config.method.hardness_unit == "gradient_ratio":
        scale = scale * at_realism.norm() / at_contrast.norm()
    return encoder, [r - scale * c for r, c in zip(realism, contrastive, strict=True)], (at_contrast, at_realism)


@pytest.mark.parametrize("method", [{}, {"method.views_per_pair": 2}, {"method.pair": False}])
@pytest.mark.parametrize("unit", ["weight", "gradient_ratio"])
@pytest.mark.parametrize("loss", ["hinge", "relativistic"])
@pytest.mark.parametrize("hardness", [0.0, 0.5, 3.0])
def test_one_backward_pass_gives_both_players_the_gradients_of_two(method, unit, loss, hardness):
    overrides = method | {"method.hardness_unit": unit, "gan.loss": loss, "gan.gradient_penalty": 1.0}
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
    state = scene({"method.hardness_unit": "weight"}, hardness=1e5, learning_rate=0.0)  # realism drowns

    def loss(networks):
        with torch.no_grad():
            fake, fake_ema = sample(networks, state.batch, state.config.method)
            return contrast(networks, state.batch, fake, fake_ema, state.config)[0].item()

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
    fake, fake_ema = sample(state.networks, state.batch, state.config.method)
    assert not fake_ema.requires_grad
    (
        contrast(state.networks, state.batch, fake, fake_ema, state.config)[0]
        + generator_objective(state.networks.discriminator, shown(state, fake), state.config.gan)
    ).backward()
    assert all(gradient is None for gradient in gradients(state.networks.discriminator))
    assert all(gradient is None for gradient in gradients(state.networks.generator_ema))
    assert all(gradient.norm() > 0 for gradient in gradients(state.networks.generator))
    assert all(parameter.requires_grad for parameter in state.networks.discriminator.parameters())


def test_discriminators_step_teaches_no_one_else():
    state = scene()
    fake, _ = sample(state.networks, state.batch, state.config.method)
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
    config = tiny_config({"curriculum.synthetic_fraction.start": 0.0})
    networks = make_networks(config, None, CPU)
    at, mix, pixels = config.knobs_at(0.5), config.mix_at(0.5), random_images().pixels[:16]
    batch = make_batch(config, at, mix, 0, pixels, pixels[:0], CPU)
    reference = copy.deepcopy(networks)
    optimizers = make_optimizers(config, networks)
    statistics = joint_step(networks, optimizers, batch, at, config)

    both = simclr.apply(torch.cat([pixels / 255] * 2), batch.draw, 16)
    z = reference.projector(reference.encoder(2 * both - 1))
    loss = ppcl(z, torch.arange(16).repeat(2), config.training.temperature)
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
    state = scene({"views.blur_probability": 0.5})
    networks, batch, config = copy.deepcopy(state.networks), state.batch, state.config
    fake, fake_ema = sample(state.networks, batch, config.method)
    loss = contrast(state.networks, batch, fake, fake_ema, config)[0]
    expected_gradients = torch.autograd.grad(loss, [fake, *learners(state.networks)])

    blocks = torch.cat([batch.real] * 2 + [fake] * 2 + [fake_ema] * 2)
    seen = simclr.apply(blocks, batch.draw, config.view_size)
    by_hand = ppcl(networks.projector(networks.encoder(2 * seen - 1)), batch.groups, config.training.temperature)
    torch.testing.assert_close(loss, by_hand)
    assert_close(expected_gradients, torch.autograd.grad(by_hand, [fake, *learners(networks)]), atol=1e-5)


def test_everything_random_in_a_step_depends_on_seed_and_step_alone():
    def drawn(seed, step):
        config = tiny_config({"training.seed": seed})
        at, mix, pixels = config.knobs_at(0.5), config.mix_at(0.5), random_images().pixels
        batch = make_batch(config, at, mix, step, pixels[:8], pixels[8:12], CPU)
        return batch.latents, *(
            draw.top for draw in (batch.draw, batch.augmentation.rows(slice(4)), batch.augmentation.rows(slice(4, 8)))
        )

    first = drawn(0, 0)
    assert all(torch.equal(one, other) for one, other in zip(first, drawn(0, 0), strict=True))
    for key in ((0, 1), (1, 0)):
        assert not any(torch.equal(one, other) for one, other in zip(first, drawn(*key), strict=True))
    assert not torch.equal(first[2], first[3])


@pytest.mark.parametrize("per_image", [2, 4])
@pytest.mark.parametrize(("pair", "per_pair", "per_latent"), [(True, 4, 4), (True, 2, 2), (False, 4, 2), (False, 2, 2)])
def test_groups_hold_the_views_of_one_image_or_one_latent(pair, per_pair, per_latent, per_image):
    overrides = {"method.pair": pair, "method.views_per_pair": per_pair, "method.views_per_image": per_image}
    config = tiny_config(overrides)
    mix = config.mix_at(0.5)
    groups, rows = groups_and_order(mix, config)
    assert rows.tolist() == list(range(32))
    sizes = groups.bincount().tolist()
    assert sizes == [per_image] * mix.real + [per_latent] * mix.latents


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_take_disjoint_rows_that_make_up_the_batch_and_keep_their_groups(processes, monkeypatch):
    config = tiny_config({"compute.workers_per_trial": processes})
    mix = config.mix_at(0.5)
    whole, _ = groups_and_order(mix, config)
    monkeypatch.setattr(distributed, "world_size", lambda: processes)
    seen = []
    for rank in range(processes):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        groups, rows = groups_and_order(mix, config)
        assert torch.equal(whole[rows], groups)
        seen += rows.tolist()
    assert sorted(seen) == list(range(32))


def test_the_average_shares_its_latents_with_the_generator():
    state = scene()
    state.networks.generator_ema.load_state_dict(state.networks.generator.state_dict())
    fake, fake_ema = sample(state.networks, state.batch, state.config.method)
    assert torch.equal(fake.detach(), fake_ema)


def test_statistics_say_when_synthetic_features_equal_real_ones_and_when_they_collapse():
    draw = torch.Generator().manual_seed(0)
    images, embeddings = torch.randn(4, 5, generator=draw), torch.ones(32, 1)
    features = images.repeat(4, 1)  # two views of eight real images, four views of four latents
    of = partial(of_synthetic, embeddings=embeddings, real_views=16, latents=4, paired=True)
    statistics = of(features.repeat(2, 1))
    assert {name: round(value.item(), 6) for name, value in statistics.items()} == {
        "synthetic/pair_similarity": 1,
        "synthetic/realism_gap": 0,
        "synthetic/diversity": 1,
    }
    collapsed = torch.cat([features, features.mean(dim=0).expand(16, 5)])
    statistics = of(collapsed)
    assert statistics["synthetic/diversity"].item() == pytest.approx(0, abs=1e-6)
    assert statistics["synthetic/realism_gap"].item() == pytest.approx(1, abs=1e-5)


def test_what_views_add_to_one_image_is_no_diversity():
    state = scene({"training.batch_images": 512})
    count = len(state.batch.latents)
    views = torch.randn(4 * count, 5, generator=torch.Generator().manual_seed(0))  # of one image: noise of their own
    latents = 0.5 * torch.randn(count, 5, generator=torch.Generator().manual_seed(1))
    real = torch.randn(2 * len(state.batch.real), 5, generator=torch.Generator().manual_seed(2))
    for synthetic, expected in ((views, 0.0), (views + latents.repeat(4, 1), 0.25)):
        embeddings = torch.ones(len(real) + len(synthetic), 1)
        statistics = of_synthetic(torch.cat([real, synthetic]), embeddings, len(real), count, paired=True)
        assert statistics["synthetic/diversity"].item() == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("per_pair", [2, 4])
def test_pair_similarity_compares_views_of_the_generator_with_views_of_its_average(per_pair):
    state = scene({"method.views_per_pair": per_pair})
    latents = len(state.batch.latents)
    assert latents == 16 // per_pair
    own = torch.eye(latents)  # an embedding of its own for every latent
    for of_average, expected in ((own, 1.0), (own.roll(1, dims=0), 0.0)):
        blocks = [own] * (per_pair // 2) + [of_average] * (per_pair // 2)
        embeddings = torch.cat([torch.ones(16, latents), *blocks])
        statistics = of_synthetic(torch.randn(32, 3), embeddings, 16, latents, paired=True)
        assert statistics["synthetic/pair_similarity"].item() == expected


def test_a_pair_of_one_view_each_has_one_view_of_either_image():
    state = scene({"method.views_per_pair": 2})
    seen = []
    encoder = state.networks.encoder
    state.networks.encoder = lambda parts: (seen.extend(parts), encoder(parts))[1]
    contrast(state.networks, state.batch, *sample(state.networks, state.batch, state.config.method), state.config)
    latents = len(state.batch.latents)
    assert [len(part) for part in seen] == [2 * len(state.batch.real), latents, latents]


def test_frozen_restores_what_required_a_gradient():
    module = torch.nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    with frozen(module):
        assert not module.weight.requires_grad
    assert module.weight.requires_grad
    assert not module.bias.requires_grad


def test_generator_and_views_may_have_sizes_of_their_own():
    state = scene({"gan.image_size": 8, "views.size": 12}, hardness=1.0)
    assert state.batch.real_for_d.shape[-1] == 8
    statistics = state.step()
    assert all(value.isfinite() for value in statistics.values())
    assert statistics["gan/contrast_gradient"] > 0
