"""The losses equal slow loops written from the papers' equations."""

import math

import numpy as np
import pytest
import torch
from small_trainer import tiny_config, unit
from torch import nn

from synthcl.method.objectives.ppcl import nt_xent, ppcl
from synthcl.method.scene import Seen, Views
from synthcl.method.synthetic.gan.losses import discriminator_loss, generator_loss, gradient_penalty

TEMPERATURES = [0.07, 0.2, 1.0, 5.0]


def nt_xent_loop(first: np.ndarray, second: np.ndarray, temperature: float) -> float:
    """Chen et al. 2020, eq. 1: mean over i of -log(exp(s_ij / t) / sum_{k != i} exp(s_ik / t)), j the other view."""
    z, count = np.concatenate([first, second]), len(first)
    total = 0.0
    for i in range(2 * count):
        j = (i + count) % (2 * count)
        normaliser = sum(math.exp(z[i] @ z[k] / temperature) for k in range(2 * count) if k != i)
        total -= math.log(math.exp(z[i] @ z[j] / temperature) / normaliser)
    return total / (2 * count)


def supcon_loop(z: np.ndarray, groups: list[int], temperature: float) -> float:
    """Khosla et al. 2020, eq. 2 (L_out), as a mean over anchors; an anchor without positives adds 0."""
    total = 0.0
    for i in range(len(z)):
        positives = [p for p in range(len(z)) if p != i and groups[p] == groups[i]]
        normaliser = sum(math.exp(z[i] @ z[a] / temperature) for a in range(len(z)) if a != i)
        for p in positives:
            total -= math.log(math.exp(z[i] @ z[p] / temperature) / normaliser) / len(positives)
    return total / len(z)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_ppcl_with_groups_of_two_equals_nt_xent(temperature):
    first, second = unit(6, 5, "first"), unit(6, 5, "second")
    expected = nt_xent_loop(first.double().numpy(), second.double().numpy(), temperature)
    assert nt_xent(first, second, temperature).item() == pytest.approx(expected, rel=1e-5)
    interleaved = torch.stack([first, second], dim=1).flatten(0, 1)
    assert ppcl(interleaved, torch.arange(6).repeat_interleave(2), temperature).item() == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("groups", [[0, 0, 0, 1, 1, 2, 2, 2, 2, 1], [5] * 10, [0, 0, 1, 2, 2, 3, 3, 3, 3, 9]])
def test_ppcl_with_class_labels_equals_supcon(groups, temperature):
    z = unit(10, 5, "z")
    expected = supcon_loop(z.double().numpy(), groups, temperature)
    assert ppcl(z, torch.tensor(groups), temperature).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("progress", "temperature"), [(0.0, 0.5), (0.25, 0.4), (1.0, 0.1)])
def test_the_term_is_the_equation_at_the_temperature_of_its_progress(progress, temperature):
    config = tiny_config({"terms.contrast.temperature": {"kind": "linear", "start": 0.5, "end": 0.1}})
    z, groups = unit(10, 5, "z"), [0, 0, 0, 1, 1, 2, 2, 2, 2, 1]
    members = torch.tensor(groups)[:, None]
    views = Views(parts=(z[:, None, None],), counts=(10,), spans={}, members=members, images=members)
    seen = Seen(views, lambda parts: (parts[0][:, 0, 0] + 1) / 2, {"main": nn.Identity()})  # [0, 1] became [-1, 1]
    loss = config.terms["contrast"].build(8)(seen, config.knobs_at(progress).own("terms.contrast"))
    assert loss.item() == pytest.approx(supcon_loop(z.double().numpy(), groups, temperature), rel=1e-5)


def test_ppcl_gradient_equals_finite_differences_of_the_equation():
    groups, temperature, step = [0, 0, 1, 1, 1, 1, 2], 0.3, 1e-6
    z = unit(7, 4, "z").requires_grad_()
    ppcl(z, torch.tensor(groups), temperature).backward()
    point, expected = z.detach().double().numpy(), np.zeros((7, 4))
    for index in np.ndindex(7, 4):
        shift = np.zeros((7, 4))
        shift[index] = step
        higher, lower = (supcon_loop(point + sign * shift, groups, temperature) for sign in (1, -1))
        expected[index] = (higher - lower) / (2 * step)
    np.testing.assert_allclose(z.grad.numpy(), expected, atol=2e-6)


def test_temperature_scales_similarities():
    z, groups = unit(8, 5, "z"), torch.arange(4).repeat(2)
    assert ppcl(z, groups, 0.25).item() == pytest.approx(ppcl(2 * z, groups, 1.0).item(), rel=1e-6)
    assert ppcl(z, groups, 1e6).item() == pytest.approx(math.log(7), rel=1e-4)  # all similarities equal


def test_ppcl_does_not_depend_on_the_order_of_views_or_the_names_of_groups():
    z, groups = unit(9, 5, "z"), torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 2])
    order = torch.tensor([4, 0, 8, 2, 6, 1, 3, 7, 5])
    expected = ppcl(z, groups, 0.2)
    torch.testing.assert_close(ppcl(z[order], groups[order], 0.2), expected)
    torch.testing.assert_close(ppcl(z, 100 - 7 * groups, 0.2), expected)


def test_a_view_alone_in_its_group_adds_nothing_but_still_repels():
    z, groups = unit(5, 4, "z").requires_grad_(), torch.tensor([0, 0, 1, 1, 2])
    loss = ppcl(z, groups, 0.5)
    loss.backward()
    assert loss.item() == pytest.approx(supcon_loop(z.detach().double().numpy(), groups.tolist(), 0.5), rel=1e-5)
    assert z.grad[4].norm() > 1e-3
    assert ppcl(z, torch.arange(5), 0.5).item() == 0


def test_ppcl_of_perfect_pairs_is_analytic():
    z = torch.eye(4).repeat(2, 1)  # each image's views coincide, images are orthogonal
    expected = math.log(1 + 6 * math.exp(-1 / 0.2))
    assert nt_xent(z[:4], z[4:], 0.2).item() == pytest.approx(expected, rel=1e-5)


def test_ppcl_stays_finite_at_the_lowest_temperatures():
    z = unit(8, 4, "z").requires_grad_()
    loss = ppcl(z, torch.arange(4).repeat(2), 1e-3)  # exp(1000) overflows
    loss.backward()
    assert loss.isfinite()
    assert z.grad.isfinite().all()


def test_ppcl_keeps_its_precision_under_autocast():
    z, groups = unit(32, 16, "z"), torch.arange(16).repeat(2)
    expected = ppcl(z, groups, 0.05)
    with torch.autocast("cpu", torch.bfloat16):
        loss = ppcl(z, groups, 0.05)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)


def soft_loop(z: np.ndarray, members: list[list[int]], weights: list[list[float]], anchors: list[float], t: float):
    """The equation of mixed views: every membership of an anchor is normalised by itself."""
    count, total = len(z), 0.0
    for i in range(count):
        others = [j for j in range(count) if j != i]
        log_z = math.log(sum(math.exp(z[i] @ z[k] / t) for k in others))
        for a, group in enumerate(members[i]):
            belonging = {j: sum(w for g, w in zip(members[j], weights[j], strict=True) if g == group) for j in others}
            if not (mass := sum(belonging.values())):
                continue
            share = weights[i][a] / sum(weights[i])
            attraction = sum(w * (z[i] @ z[j] / t - log_z) for j, w in belonging.items()) / mass
            total -= anchors[i] * share * attraction
    return total / count


MIXED = [[0, 1], [1, 0], [0, 0], [1, 1], [2, 0], [2, 3]]
"""views 0 and 1 are mixed with each other, 2 and 3 are clean, 5 is half of an image that no other view shows"""
SHARES = [[0.7, 0.3], [0.6, 0.4], [1.0, 0.0], [1.0, 0.0], [0.9, 0.1], [0.5, 0.5]]
ANCHORS = [1.5, 0.5, 1.0, 1.0, 0.25, 1.75]


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_ppcl_of_mixed_views_equals_the_double_loop(temperature):
    z = unit(6, 4, "mixed")
    weights, anchors = torch.tensor(SHARES), torch.tensor(ANCHORS)
    expected = soft_loop(z.double().numpy(), MIXED, SHARES, ANCHORS, temperature)
    found = ppcl(z, torch.tensor(MIXED), temperature, weights, anchors)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_whole_memberships_given_as_weights_are_the_plain_loss_and_its_gradient():
    groups = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 7])
    found = []
    for weights in (None, torch.ones(10, 1), torch.full((10, 1), 0.25)):  # alike below 1: each is a share of its sum
        z = unit(10, 4, "whole").requires_grad_()
        loss = ppcl(z, groups[:, None], 0.2, weights)
        found.append((loss.detach(), *torch.autograd.grad(loss, z)))
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])


def test_a_second_membership_of_weight_0_changes_nothing():
    z, groups = unit(8, 4, "nothing"), torch.arange(4).repeat(2)
    members = torch.stack([groups, groups.roll(1)], dim=1)
    weights = torch.tensor([[1.0, 0.0]]).expand(8, 2)
    torch.testing.assert_close(ppcl(z, members, 0.2, weights), ppcl(z, groups, 0.2))


def test_mixed_queries_against_one_clean_key_each_are_i_mix():
    """i-Mix: lambda CE(own key) + (1 - lambda) CE(partner's key), here with one anchor and both keys."""
    z, temperature, own = unit(3, 4, "i-mix"), 0.2, 0.7
    members, weights = torch.tensor([[0, 1], [0, 0], [1, 1]]), torch.tensor([[own, 1 - own], [1.0, 0.0], [1.0, 0.0]])
    logits = z[:1] @ z[1:].T / temperature
    cross_entropy = [nn.functional.cross_entropy(logits, torch.tensor([key])).item() for key in (0, 1)]
    only_the_query = torch.tensor([3.0, 0.0, 0.0])
    found = ppcl(z, members, temperature, weights, only_the_query).item()
    assert found == pytest.approx(own * cross_entropy[0] + (1 - own) * cross_entropy[1], rel=1e-5)


def test_anchors_weigh_the_losses_of_single_views():
    z, groups = unit(6, 4, "anchors"), torch.arange(3).repeat(2)
    alone = [ppcl(z, groups, 0.2, anchors=6 * nn.functional.one_hot(torch.tensor(i), 6).float()) for i in range(6)]
    torch.testing.assert_close(torch.stack(alone).mean(), ppcl(z, groups, 0.2))
    mixture = torch.tensor([2.0, 0.5, 0.5, 1.0, 1.0, 1.0])
    expected = sum(weight * loss for weight, loss in zip(mixture, alone, strict=True)) / 6
    torch.testing.assert_close(ppcl(z, groups, 0.2, anchors=mixture), expected)


def test_hinge_losses_equal_hand_values():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0, 1.0])
    # relu(1 - real) = 0, 0.5, 2; relu(1 + fake) = 0, 1, 2
    assert discriminator_loss(real, fake, "hinge").item() == pytest.approx(2.5 / 3 + 1)
    assert generator_loss(fake, None, "hinge").item() == pytest.approx(2 / 3)


def test_relativistic_losses_equal_hand_values_and_oppose_each_other():
    real, fake = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])
    expected = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(2))) / 2
    assert discriminator_loss(real, fake, "relativistic").item() == pytest.approx(expected)
    expected = (math.log(1 + math.exp(1)) + math.log(1 + math.exp(-2))) / 2
    assert generator_loss(fake, real, "relativistic").item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["hinge", "relativistic"])
def test_discriminator_wants_real_above_fake_and_generator_the_reverse(kind):
    real, fake = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    for_real, for_fake = torch.autograd.grad(discriminator_loss(real, fake, kind), [real, fake])
    assert (for_real < 0).all()
    assert (for_fake > 0).all()
    (for_fake,) = torch.autograd.grad(generator_loss(fake, real, kind), fake)
    assert (for_fake < 0).all()


def test_gradient_penalty_of_a_linear_discriminator_is_half_its_squared_weight():
    images = torch.rand(3, 2, 4, 4).requires_grad_()
    linear = nn.Linear(32, 1)
    penalty = gradient_penalty(linear(images.flatten(1)).squeeze(1), images)
    torch.testing.assert_close(penalty, linear.weight.square().sum() / 2)
    penalty.backward()
    torch.testing.assert_close(linear.weight.grad, linear.weight.detach())


def test_gradient_penalty_is_a_mean_over_images():
    images = torch.full((2, 1, 1, 1), 0.5).requires_grad_()
    scale = torch.tensor([1.0, 3.0])
    assert gradient_penalty(scale * images.flatten(), images).item() == pytest.approx((1 + 9) / 2 / 2)
