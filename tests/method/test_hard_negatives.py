"""Harder negatives than the batch has: mixtures against a loop, Gaussian clouds against their sampled expectation."""

import math

import pytest
import torch
from small_trainer import unit
from test_negatives import GROUPS, views_of
from torch import nn
from torch.quasirandom import SobolEngine

from synthcl.method.objectives.implicit import ImplicitConfig, within_groups
from synthcl.method.objectives.mochi import MochiConfig, Spread, mixed
from synthcl.method.objectives.negatives import negatives
from synthcl.method.objectives.pairs import together
from synthcl.method.objectives.ppcl import PpclConfig, ppcl
from synthcl.method.scene import Seen, Views

NOW = {"weight": 1.0, "temperature": 0.3, "strength": 1.0}
T = 0.3


def see(vectors, views: Views) -> Seen:
    return Seen(views, lambda parts: vectors, {"main": nn.Identity()})


def plain(vectors, views: Views, **fields):
    return PpclConfig(**fields).build(vectors.shape[1])(see(vectors, views), NOW)


# ---- mochi


def drawn(number: int, dimensions: int) -> list[list[float]]:
    return SobolEngine(dimensions).fast_forward(1).draw(number).tolist()


def points_loop(q, ranked, between, towards, beyond, reach):
    """Mixtures of negatives that are ranked by their similarity with q, as the paper writes them."""
    count, points = len(ranked), []
    for u, v, a in drawn(between, 3):
        i = int(u * count)
        j = (i + 1 + int(v * (count - 1))) % count
        points.append(a * ranked[i] + (1 - a) * ranked[j])
    for u, b in drawn(towards, 2):
        points.append(reach * b * q + (1 - reach * b) * ranked[int(u * count)])
    for u, c in drawn(beyond, 2):
        n = ranked[int(u * count)]
        points.append(q + (1 + c / 2) * (n - q))
    return [point / point.norm() for point in points]


@pytest.mark.parametrize("within_source", [False, True])
def test_the_loss_of_mixtures_is_that_of_a_loop(within_source):
    z, views = unit(12, 4, "z").double(), views_of(GROUPS)
    rivals, total = negatives(views, within_source), 0.0
    for i in range(12):
        ranked = sorted((z[j] for j in range(12) if rivals[i, j]), key=lambda n: -float(z[i] @ n))[:5]
        points = points_loop(z[i], ranked, 4, 3, 2, 0.4) if ranked else []
        mates = [j for j in range(12) if j != i and GROUPS[j] == GROUPS[i]]
        seen = [z[j] for j in range(12) if j in mates or rivals[i, j]] + points
        normaliser = math.log(sum(math.exp(z[i] @ n / T) for n in seen))
        total += normaliser - sum(float(z[i] @ z[j]) / T for j in mates) / len(mates)
    term = MochiConfig(hardest=5, between=4, towards=3, beyond=2, reach=0.4, within_source=within_source).build(4)
    assert term(see(z.float(), views), NOW).item() == pytest.approx(total / 12, rel=1e-5)


def test_mixtures_are_of_unit_length_and_those_towards_the_view_are_harder_than_what_they_come_from():
    q, keys = unit(6, 4, "q"), unit(20, 4, "keys")
    hardest = (q @ keys.T).topk(3, dim=1).values
    spread = [torch.tensor(drawn(8, dimensions)) for dimensions in (3, 2, 2)]
    points, there = mixed(q, keys, torch.ones(6, 20, dtype=torch.bool), 3, 0.5, Spread(*spread))
    torch.testing.assert_close(points.norm(dim=2), torch.ones(6, 24))
    assert there.all()
    cosines = (points @ q[:, :, None]).squeeze(2)
    ranks = (3 * spread[1][:, 0]).long()
    assert (cosines[:, 8:16] >= hardest[:, ranks] - 1e-6).all()
    ranks = (3 * spread[2][:, 0]).long()
    assert (cosines[:, 16:] <= hardest[:, ranks] + 1e-6).all()


@pytest.mark.parametrize("nothing", [{"between": 0, "towards": 0}, {"strength": 0.0}])
def test_without_mixtures_it_is_ppcl_to_the_bit_and_with_them_never_less(nothing):
    z, views = unit(12, 4, "z"), views_of(GROUPS)
    term = MochiConfig(**nothing).build(4)
    assert torch.equal(term(see(z, views), NOW | {key: v for key, v in nothing.items() if key in NOW}), plain(z, views))
    losses = [MochiConfig(hardest=4).build(4)(see(z, views), NOW | {"strength": s}) for s in (1e-6, 0.1, 0.5, 1.0)]
    assert sorted(losses) == losses
    assert losses[0].item() == pytest.approx(plain(z, views).item(), rel=1e-4)
    assert losses[0] >= plain(z, views)


def test_nothing_is_mixed_of_the_own_group_or_another_view_of_the_same_image():
    z, near = unit(12, 4, "z"), unit(1, 4, "near")
    groups = [0, 1, 2, 0, 1, 2, 3, 4, 3, 4, 5, 5]
    images = [7, 8, 9, 7, 8, 9, -1, -1, -1, -1, 7, 7]  # group 5 shows the image of group 0 again
    z[[0, 3, 10, 11]] = nn.functional.normalize(near + 0.05 * unit(4, 4, "little"), dim=1)  # by far the hardest of them
    views = views_of(groups)._replace(images=torch.tensor(images)[:, None])
    term = MochiConfig(hardest=2, between=4, towards=0).build(4)
    found = term(see(z, views), NOW).item()
    total = 0.0
    for i in range(12):
        usable = [j for j in range(12) if groups[j] != groups[i] and (images[j] != images[i] or images[i] == -1)]
        ranked = sorted((z[j] for j in usable), key=lambda n: -float(z[i] @ n))[:2]
        points = points_loop(z[i], ranked, 4, 0, 0, 0.5)
        mates = [j for j in range(12) if j != i and groups[j] == groups[i]]
        normaliser = math.log(sum(math.exp(z[i] @ n / T) for n in [*z[:i], *z[i + 1 :], *points]))
        total += normaliser - sum(float(z[i] @ z[j]) / T for j in mates) / len(mates)
    assert found == pytest.approx(total / 12, rel=1e-5)


def test_mixtures_push_the_view_and_take_no_gradient_themselves():
    vectors, views = unit(12, 4, "z").requires_grad_(), views_of(GROUPS)
    z = nn.functional.normalize(vectors, dim=1)
    term = MochiConfig(hardest=5, between=4, towards=3).build(4)
    spread = [torch.tensor(drawn(*shape)) for shape in ((4, 3), (3, 2))]
    spread = Spread(*spread, torch.zeros(0, 2))
    still, _ = mixed(z.detach(), z.detach(), negatives(views), 5, 0.5, spread)
    further = (z[:, None] * still).sum(dim=2) / T
    expected = ppcl(z, views.members, T, further=further)
    found = term(see(vectors, views), NOW)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(loss, vectors)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_a_view_with_few_negatives_mixes_those_and_one_without_any_mixes_none():
    z = unit(4, 4, "z")
    spans = {"real": slice(0, 4)}
    views = Views((torch.zeros(4, 1, 1, 1),), (4,), spans, torch.tensor([0, 0, 0, 0])[:, None])
    term = MochiConfig().build(4)
    torch.testing.assert_close(term(see(z, views), NOW), plain(z, views))
    views = views._replace(members=torch.tensor([0, 0, 0, 1])[:, None])
    copies = term(see(z, views), NOW)  # mixtures of one negative are that negative, or lie on the way to it
    assert copies.isfinite()
    assert copies > plain(z, views)


# ---- implicit


def made_by(covariance, **fields):
    term = ImplicitConfig(**fields).build(len(covariance))
    term.covariance.copy_(covariance)
    return term


def covariance_of(dim: int) -> torch.Tensor:
    root = unit(dim, dim, "root")
    return 0.02 * root @ root.T


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_the_loss_is_that_of_infinitely_many_negatives_around_each(strength):
    z, views, covariance = unit(12, 4, "z"), views_of(GROUPS), covariance_of(4)
    noise = torch.distributions.MultivariateNormal(torch.zeros(4, dtype=torch.float64), strength * covariance.double())
    torch.manual_seed(0)
    samples = noise.sample((200_000,))
    q, rivals, total = z.double(), negatives(views), 0.0
    for i in range(12):
        mates = [j for j in range(12) if j != i and GROUPS[j] == GROUPS[i]]
        of_clouds = 0.0
        for j in range(12):
            if rivals[i, j]:
                drawn_mean = ((q[j] + samples) @ q[i] / T).exp().mean()
                closed = math.exp(q[i] @ q[j] / T + strength * q[i] @ covariance.double() @ q[i] / (2 * T**2))
                assert closed == pytest.approx(float(drawn_mean), rel=0.01)
                of_clouds += float(drawn_mean)
        normaliser = math.log(of_clouds + sum(math.exp(q[i] @ q[j] / T) for j in mates))
        total += normaliser - sum(float(q[i] @ q[j]) / T for j in mates) / len(mates)
    found = made_by(covariance)(see(z, views), NOW | {"strength": strength})
    assert found.item() == pytest.approx(total / 12, rel=0.01)
    assert found > plain(z, views)


def test_without_covariance_or_strength_it_is_ppcl():
    z, views = unit(12, 4, "z"), views_of(GROUPS)
    for fields in ({}, {"within_source": True}):
        expected = plain(z, views, **fields)
        assert torch.equal(made_by(covariance_of(4), **fields)(see(z, views), NOW | {"strength": 0.0}), expected)
        torch.testing.assert_close(made_by(torch.zeros(4, 4), **fields)(see(z, views), NOW), expected)


def test_the_gradient_of_the_clouds_is_their_slope():
    vectors, views, term = unit(12, 4, "z").requires_grad_(), views_of(GROUPS), made_by(covariance_of(4))
    (gradient,) = torch.autograd.grad(term(see(vectors, views), NOW), vectors)
    direction = unit(12, 4, "direction")
    with torch.no_grad():
        up, down = (term(see(vectors + sign * 1e-2 * direction, views), NOW) for sign in (1, -1))
    torch.testing.assert_close((up - down) / 2e-2, (gradient * direction).sum(), rtol=1e-2, atol=1e-4)


def test_the_covariance_is_that_of_residuals_within_groups():
    z, groups = unit(12, 4, "z"), torch.arange(4).repeat(3)
    expected = torch.zeros(4, 4, dtype=torch.float64)
    for group in range(4):
        away = (z[groups == group] - z[groups == group].mean(dim=0)).double()
        expected += away.T @ away / (12 - 4)
    found = within_groups(z, together(groups[:, None], None))
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-7)
    assert torch.equal(found, found.T)
    assert torch.linalg.eigvalsh(found).min() > -1e-7
    assert not within_groups(z, torch.zeros(12, 12)).any()


def test_the_running_covariance_begins_with_the_first_step_and_half_of_it_is_new_after_a_half_life():
    term, groups = ImplicitConfig(half_life_kimg=0.006).build(4), torch.arange(6).repeat(2)[:, None]
    views = views_of(GROUPS)._replace(members=groups)
    first, second = unit(12, 4, "first"), unit(12, 4, "second")  # of 6 images
    term.after(see(first, views), NOW)
    of_first, of_second = (within_groups(z, together(groups, None)) for z in (first, second))
    torch.testing.assert_close(term.covariance, of_first)
    term.after(see(second, views), NOW)
    torch.testing.assert_close(term.covariance, (of_first + of_second) / 2)
    assert term.covariance.dtype == torch.float32
    assert torch.equal(term.covariance, term.covariance.T)
    assert {*term.state_dict()} == {"covariance", "begun"}
