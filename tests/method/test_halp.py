"""Hallucinated positives lie between a key and the boundary of its cluster, and the loss is that of a loop."""

import math

import pytest
import torch
from small_trainer import unit
from torch import nn

from synthcl.method.objectives.halp import HalpConfig, hallucinated, moved
from synthcl.method.scene import Seen, Views

NOW = {"weight": 1.0, "temperature": 0.3}


def slerp(k, p, t):
    angle = torch.arccos((k @ p).clamp(-1, 1))
    return (torch.sin((1 - t) * angle) * k + torch.sin(t * angle) * p) / torch.sin(angle)


@pytest.mark.parametrize("dim", [3, 4, 16])
def test_points_at_the_boundary_are_as_near_to_the_other_centre_and_no_point_beyond_is_nearer_to_the_own(dim):
    keys, centres = unit(40, dim, "keys").double(), unit(6, dim, "centres").double()
    points, _ = hallucinated(keys, centres, reach=0.0, levels=1)  # all the way
    torch.testing.assert_close(points.norm(dim=3), torch.ones(40, 6, 1, dtype=torch.float64))
    behind, grid = 0, torch.linspace(0.005, 0.995, 100, dtype=torch.float64)[:, None]
    for i in range(40):
        own = int((keys[i] @ centres.T).argmax())
        for j in {*range(6)} - {own}:
            z, angle = points[i, j, 0], math.acos(keys[i] @ centres[j])
            assert abs(z @ centres[own] - z @ centres[j]) < 1e-6
            t = math.acos(min(1.0, z @ keys[i])) / angle
            assert 0 < t < 1
            behind += angle > math.pi / 2
            on_the_way = slerp(keys[i], centres[j], grid)
            nearer = on_the_way @ (centres[own] - centres[j]) > 0
            assert torch.equal(nearer, grid[:, 0] < t)
    assert behind > 20


def test_what_is_kept_is_nearest_to_the_centre_of_its_key_and_levels_lie_back_by_shares_of_the_reach():
    keys, centres = unit(12, 4, "keys").double(), unit(5, 4, "centres").double()
    points, kept = hallucinated(keys, centres, reach=0.8, levels=4)
    edge, _ = hallucinated(keys, centres, reach=0.0, levels=1)
    assert 0 < kept.sum() < kept.numel()
    for i in range(12):
        own = int((keys[i] @ centres.T).argmax())
        for j in range(5):
            for level in range(4):
                nearest = int((points[i, j, level] @ centres.T).argmax())
                assert kept[i, j, level] == (j != own and nearest == own)
                if j != own:
                    whole, back = (math.acos(keys[i] @ z) for z in (edge[i, j, 0], points[i, j, level]))
                    assert back == pytest.approx((1 - 0.8 * (level + 0.5) / 4) * whole, abs=1e-5)


def test_the_only_centre_has_no_other_and_generates_nothing():
    _, kept = hallucinated(unit(5, 4, "keys"), unit(1, 4, "one"), 0.8, 3)
    assert not kept.any()


def see(vectors, groups) -> Seen:
    views = Views((torch.zeros(len(vectors), 1, 1, 1),), (len(vectors),), {}, groups[:, None])
    return Seen(views, lambda parts: vectors, {"main": nn.Identity()})


def test_the_loss_is_the_mean_similarity_with_what_is_hallucinated_around_the_other_view():
    vectors, groups = unit(8, 4, "z").requires_grad_(), torch.arange(4).repeat(2)
    z = nn.functional.normalize(vectors, dim=1)
    term = HalpConfig(prototypes=5, bank=16, levels=3).build(4)
    term.centres.copy_(unit(5, 4, "centres"))
    term.ready.fill_(True)
    points, kept = hallucinated(z.detach(), term.centres, 0.8, 3)
    total = torch.zeros(())
    for i in range(8):
        other = (i + 4) % 8
        if kept[other].any():
            total = total - (points[other][kept[other]] @ z[i]).mean() / 0.3
    loss = term(see(vectors, groups), NOW)
    torch.testing.assert_close(loss, total / 8)
    (found,), (expected,) = torch.autograd.grad(loss, vectors), torch.autograd.grad(total / 8, vectors)
    torch.testing.assert_close(found, expected)


def test_centres_take_a_step_of_spherical_k_means_and_begin_when_the_bank_is_full():
    keys, centres = unit(9, 3, "keys"), unit(4, 3, "centres")
    after = moved(centres, keys)
    nearest = (keys @ centres.T).argmax(dim=1)
    for j in range(4):
        mine = keys[nearest == j]
        expected = nn.functional.normalize(mine.sum(dim=0), dim=0) if len(mine) else centres[j]
        torch.testing.assert_close(after[j], expected)
    term, groups = HalpConfig(prototypes=4, bank=12).build(3), torch.arange(4).repeat(2)
    for full in (False, True):
        term.after(see(unit(8, 3, "z", str(full)), groups), NOW)
        assert bool(term.ready) is full
    torch.testing.assert_close(term.centres, moved(term.bank.keys[[0, 3, 6, 9]], term.bank.keys))
    before = term.centres.clone()
    term.after(see(unit(8, 3, "more"), groups), NOW)
    torch.testing.assert_close(term.centres, moved(before, term.bank.keys))
