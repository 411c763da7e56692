"""VICReg, Barlow Twins and the decoupled term equal slow loops written from their equations."""

import math

import numpy as np
import pytest
import torch
from small_trainer import unit

from synthcl.method.objectives.barlow import barlow
from synthcl.method.objectives.decoupled import decoupled
from synthcl.method.objectives.pairs import together
from synthcl.method.objectives.vicreg import vicreg

MIXED = [[0, 1], [1, 0], [0, 0], [1, 1], [2, 0], [2, 3]]
"""views 0 and 1 are mixed with each other, 2 and 3 are clean, 5 is half of an image that no other view shows"""
SHARES = [[0.7, 0.3], [0.6, 0.4], [1.0, 0.0], [1.0, 0.0], [0.9, 0.1], [0.5, 0.5]]


def cloud(rows: int, dim: int) -> torch.Tensor:
    """Correlated vectors off the origin."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(rows, dim, generator=generator, dtype=torch.float64)
    return 0.4 * z @ torch.randn(dim, dim, generator=generator, dtype=torch.float64) + 3


def pairs_loop(members: list[list[int]], weights: list[list[float]]) -> list[tuple[int, int, float]]:
    """Ordered pairs of views with what they share."""
    found = []
    for i in range(len(members)):
        for j in range(len(members)):
            shared = sum(
                weights[i][a] * weights[j][b]
                for a, group in enumerate(members[i])
                for b, other in enumerate(members[j])
                if group == other
            )
            if i != j and shared:
                found.append((i, j, shared))
    return found


def vicreg_loop(z: np.ndarray, pairs: list[tuple[int, int, float]], coefficients: tuple[float, float, float]) -> float:
    count, dim = z.shape
    total = sum(share for _, _, share in pairs)
    distance = sum(share * np.mean((z[i] - z[j]) ** 2) for i, j, share in pairs) / total
    mean = [sum(z[i, k] for i in range(count)) / count for k in range(dim)]

    def covariance(k: int, m: int) -> float:
        return sum((z[i, k] - mean[k]) * (z[i, m] - mean[m]) for i in range(count)) / (count - 1)

    hinge = sum(max(0.0, 1 - math.sqrt(covariance(k, k) + 1e-4)) for k in range(dim)) / dim
    alike = sum(covariance(k, m) ** 2 for k in range(dim) for m in range(dim) if k != m) / dim
    return coefficients[0] * distance + coefficients[1] * hinge + coefficients[2] * 2 * alike


def barlow_loop(z: np.ndarray, pairs: list[tuple[int, int, float]], redundancy: float) -> float:
    dim = z.shape[1]
    standard = np.stack([(z[:, k] - z[:, k].mean()) / math.sqrt(z[:, k].var() + 1e-5) for k in range(dim)], axis=1)
    total, loss = sum(share for _, _, share in pairs), 0.0
    for k in range(dim):
        for m in range(dim):
            c = sum(share * standard[i, k] * standard[j, m] for i, j, share in pairs) / total
            loss += (1 - c) ** 2 if k == m else redundancy * c**2
    return loss


PLAIN = [[0], [1], [2], [0], [1], [2]]
FOUR = [[0], [1], [0], [1], [0], [0]]
CASES = [(PLAIN, None), (FOUR, None), (MIXED, SHARES)]
each_case = pytest.mark.parametrize(("members", "weights"), CASES, ids=["two views", "four and two", "mixed"])


def both(members, weights):
    """The pairs as the terms have them, and as the loops do."""
    whole = weights or [[1.0] * len(row) for row in members]
    given = None if weights is None else torch.tensor(weights)
    return together(torch.tensor(members), given), pairs_loop(members, whole)


@each_case
def test_pairs_are_of_views_that_share_a_group_and_count_by_what_they_share(members, weights):
    pairs, expected = both(members, weights)
    found = [(i, j, pytest.approx(pairs[i, j].item())) for i, j in pairs.nonzero().tolist()]
    assert sorted(expected) == found


@each_case
def test_vicreg_equals_the_loop(members, weights):
    pairs, expected = both(members, weights)
    z, coefficients = cloud(6, 3), (25.0, 20.0, 1.5)
    found = vicreg(z, pairs.double(), *coefficients).item()
    assert found == pytest.approx(vicreg_loop(z.numpy(), expected, coefficients), rel=1e-6)


@each_case
def test_barlow_equals_the_loop(members, weights):
    pairs, expected = both(members, weights)
    z = cloud(6, 3)
    assert barlow(z, pairs.double(), 0.3).item() == pytest.approx(barlow_loop(z.numpy(), expected, 0.3), rel=1e-6)


def test_vicreg_of_one_point_is_the_hinge_at_its_floor():
    pairs = together(torch.arange(4).repeat(2)[:, None], None)
    assert vicreg(torch.full((8, 5), 3.0), pairs).item() == pytest.approx(25 * 0.99)  # sqrt(1e-4) is 0.01


def test_vicreg_is_the_published_loss_where_both_views_have_the_same_statistics():
    first = cloud(4096, 3).float()
    second = first[torch.randperm(4096, generator=torch.Generator().manual_seed(1))]
    published = 25 * (first - second).square().mean()
    for z in (first, second):  # main_vicreg.py of facebookresearch/vicreg
        covariance = torch.cov(z.T)
        published += 25 * (1 - (z.var(dim=0) + 1e-4).sqrt()).relu().mean() / 2
        published += (covariance.square().sum() - covariance.diagonal().square().sum()) / 3
    pairs = together(torch.arange(4096).repeat(2)[:, None], None)
    torch.testing.assert_close(vicreg(torch.cat([first, second]), pairs), published, rtol=1e-3, atol=0)


def test_barlow_of_whitened_views_is_0_where_they_agree_and_4_a_dimension_where_they_are_opposite():
    z = cloud(64, 4)
    z = z - z.mean(dim=0)
    white = 8 * torch.linalg.qr(z)[0]  # covariance 1 with 64 views
    groups = torch.arange(64).repeat(2)[:, None]
    pairs = together(groups, None).double()
    assert barlow(torch.cat([white, white]), pairs).item() == pytest.approx(0, abs=1e-6)
    assert barlow(torch.cat([white, -white]), pairs).item() == pytest.approx(4 * 4, rel=1e-4)


def test_permuted_features_leave_vicreg_and_barlow_as_they_are():
    z, pairs = cloud(6, 3), both(MIXED, SHARES)[0].double()
    for loss in (vicreg, barlow):
        torch.testing.assert_close(loss(z[:, [2, 0, 1]], pairs), loss(z, pairs))


def test_views_without_a_pair_still_spread_and_give_finite_gradients():
    z = cloud(5, 3).requires_grad_()
    none = together(torch.arange(5)[:, None], None).double()
    for loss in (vicreg, barlow):
        (gradient,) = torch.autograd.grad(loss(z, none), z)
        assert gradient.isfinite().all()
    assert vicreg(z, none).item() == pytest.approx(vicreg_loop(z.detach().numpy(), [(0, 0, 1.0)], (25.0, 25.0, 1.0)))


def decoupled_loop(z, members, weights, t, power, mode) -> list[float]:
    """For each membership of a mixed view, its softmax without the views that show only the other one's image."""
    losses = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        total, loss = sum(weights[i]), 0.0

        def belonging(j, group):
            return sum(w for g, w in zip(members[j], weights[j], strict=True) if g == group)

        for a, group in enumerate(members[i]):
            share = weights[i][a] / total
            rival_groups = {g for g, w in zip(members[i], weights[i], strict=True) if w > 0 and g != group}
            kept = {"both": True, "more": share >= 0.5, "less": share <= 0.5}[mode]
            count = sum(belonging(j, group) for j in others)
            if not (kept and share and rival_groups and count):
                continue
            rivals = [j for j in others if any(belonging(j, g) for g in rival_groups) and not belonging(j, group)]
            normaliser = sum(math.exp(z[i] @ z[k] / t) for k in others if k not in rivals)
            attraction = sum(belonging(j, group) * (z[i] @ z[j] / t) for j in others) / count
            loss += share**power * (math.log(normaliser) - attraction)
        losses.append(loss)
    return losses


@pytest.mark.parametrize("mode", ["both", "more", "less"])
@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_decoupled_term_equals_the_loop(mode, power, temperature):
    z = unit(6, 4, "mixed")
    expected = decoupled_loop(z.double().numpy(), MIXED, SHARES, temperature, power, mode)
    found = decoupled(z, torch.tensor(MIXED), torch.tensor(SHARES), temperature, power, mode)
    assert found.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert any(expected)


def test_views_that_are_not_mixed_add_nothing_to_the_decoupled_term():
    z, groups = unit(6, 4, "clean").requires_grad_(), torch.arange(3).repeat(2)
    for members, weights in ((groups[:, None], torch.ones(6, 1)), (MIXED[2:4] * 3, [[1.0, 0.0]] * 6)):
        losses = decoupled(z, torch.as_tensor(members), torch.as_tensor(weights), 0.2, power=0.0)
        assert losses.tolist() == [0.0] * 6
    (gradient,) = torch.autograd.grad(losses.sum(), z)
    assert not gradient.any()


def test_a_view_that_shows_only_the_rival_feels_nothing_of_the_other_membership():
    z = unit(6, 4, "mixed").requires_grad_()
    losses = decoupled(z, torch.tensor(MIXED), torch.tensor(SHARES), 0.2, mode="more")
    (gradient,) = torch.autograd.grad(losses[0], z)  # view 0 is mostly of group 0
    assert gradient[3].abs().max() == 0  # view 3 is of group 1 alone
    assert all(gradient[j].norm() > 0 for j in (1, 2, 4, 5))


def test_halves_count_in_every_mode():
    members, weights = torch.tensor([[0, 1], [0, 0], [1, 1]]), torch.tensor([[0.5, 0.5], [1.0, 0.0], [1.0, 0.0]])
    z = unit(3, 4, "halves")
    found = [decoupled(z, members, weights, 0.2, mode=mode)[0].item() for mode in ("both", "more", "less")]
    assert found[0] == found[1] == found[2] == pytest.approx(0.0, abs=1e-6)  # each has but its own positive left
    four = torch.cat([z, unit(1, 4, "other")])
    members = torch.cat([members, torch.tensor([[2, 2]])])
    weights = torch.cat([weights, torch.tensor([[1.0, 0.0]])])
    found = [decoupled(four, members, weights, 0.2, mode=mode)[0].item() for mode in ("both", "more", "less")]
    assert found[0] == found[1] == found[2] > 0
