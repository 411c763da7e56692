"""Soft positives: weights are those of a double loop, and the loss weighs the positives of a view by them."""

import math

import pytest
import torch
from small_trainer import FOLDER, tiny_config, trainer_of, unit
from torch import nn

from synthcl.config.positives import largest_group, require_positives_to_weigh
from synthcl.core.errors import UserError
from synthcl.method.objectives.ppcl import PpclConfig, ppcl
from synthcl.method.objectives.soft_positives import soft_positives
from synthcl.method.scene import Seen, Views

NOW = {"weight": 1.0, "temperature": 0.3}
GROUPS = [0, 0, 0, 1, 1, 1, 1, 2, 2, 3]
"""three views, four, two and one"""
GAN_ALONE = {"curriculum.synthetic_fraction": 1.0}
REAL_ALONE = {"curriculum.synthetic_fraction": 0.0, "curriculum.hardness": 0.0}


def weights_loop(z, temperature):
    """w_i over the largest of its group."""
    z, near = z.double(), []
    for i in range(len(z)):
        mates = [j for j in range(len(z)) if j != i and GROUPS[j] == GROUPS[i]]
        near.append(sum(math.exp(z[i] @ z[j] / temperature) for j in mates))
    return [near[i] / max([near[j] for j in range(len(z)) if GROUPS[j] == GROUPS[i]] + [1e-9]) for i in range(len(z))]


def term_loss(z, groups, **fields):
    views = Views((torch.zeros(len(z), 1, 1, 1),), (len(z),), {}, torch.tensor(groups)[:, None])
    return PpclConfig(**fields).build(z.shape[1])(Seen(views, lambda parts: z, {"main": nn.Identity()}), NOW)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_weights_are_those_of_a_double_loop_and_tell_no_two_views_apart(temperature):
    z = unit(10, 5, "z").requires_grad_()
    found = soft_positives(z, torch.tensor(GROUPS)[:, None], None, temperature)
    assert not found.requires_grad
    expected = torch.tensor(weights_loop(z.detach(), temperature), dtype=torch.float32)
    torch.testing.assert_close(found[:, 0], expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[7:9, 0], torch.ones(2))
    assert found[9, 0] == 0


def test_weights_of_mixed_views_are_those_of_a_loop_over_memberships():
    z, members = unit(6, 5, "z").double(), torch.tensor([[0, 1], [0, 2], [0, 1], [1, 0], [1, 2], [2, 1]])
    weights = torch.tensor([[0.7, 0.3], [0.9, 0.1], [1.0, 0.0], [0.6, 0.4], [0.8, 0.2], [1.0, 0.0]])
    found = soft_positives(z.float(), members, weights, 0.5)
    near = torch.zeros(6, 2)
    for i in range(6):
        for a in range(2):
            for j in {*range(6)} - {i}:
                belongs = sum(float(weights[j, b]) for b in range(2) if members[j, b] == members[i, a])
                near[i, a] += belongs * math.exp(z[i] @ z[j] / 0.5)
    for i in range(6):
        for a in range(2):
            there = [near[j, b] for j in range(6) for b in range(2) if members[j, b] == members[i, a] and weights[j, b]]
            torch.testing.assert_close(found[i, a], near[i, a] / max(there), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_the_loss_weighs_the_positives_of_a_view(temperature):
    z, total = unit(10, 5, "z"), 0.0
    w, q = weights_loop(z, temperature), z.double()
    for i in range(10):
        others = [j for j in range(10) if j != i]
        mates = [j for j in others if GROUPS[j] == GROUPS[i]]
        normaliser = math.log(sum(math.exp(q[i] @ q[j] / 0.3) for j in others))
        total += sum(w[j] * (normaliser - float(q[i] @ q[j]) / 0.3) for j in mates) / (sum(w[j] for j in mates) or 1)
    assert term_loss(z, GROUPS, soft_positives=temperature).item() == pytest.approx(total / 10, rel=1e-5)


def test_equal_weights_are_ppcl_to_the_bit_and_so_is_none():
    z, groups = unit(10, 5, "z"), torch.tensor(GROUPS)
    plain = ppcl(z, groups, 0.3)
    assert torch.equal(ppcl(z, groups, 0.3, soft=torch.ones(10, 1)), plain)
    assert torch.equal(term_loss(z, GROUPS), ppcl(nn.functional.normalize(z, dim=1), groups, 0.3))
    torch.testing.assert_close(ppcl(z, groups, 0.3, soft=torch.full((10, 1), 0.3)), plain)  # of any size
    members, weights = torch.stack([groups, 3 - groups], dim=1), torch.rand(10, 2)
    mixed = ppcl(z, members, 0.3, weights)
    assert torch.equal(ppcl(z, members, 0.3, weights, soft=torch.ones(10, 2)), mixed)
    equally_far = torch.eye(5).repeat(3, 1)  # three views coincide
    found = term_loss(equally_far, [*range(5)] * 3, soft_positives=0.05)
    torch.testing.assert_close(found, term_loss(equally_far, [*range(5)] * 3))


def test_two_views_have_no_weights_to_differ_in():
    z, groups = unit(10, 5, "z"), [*range(5)] * 2
    torch.testing.assert_close(term_loss(z, groups, soft_positives=0.1), term_loss(z, groups))


def test_a_view_of_weight_0_pulls_nobody_and_is_pulled_as_an_anchor():
    soft = torch.ones(10, 1)
    soft[3] = 0.0
    z = unit(10, 5, "z").requires_grad_()
    groups, anchors = torch.tensor(GROUPS), torch.zeros(10)
    anchors[4] = 10.0  # of the same group of four
    found = ppcl(z, groups, 0.3, anchors=anchors, soft=soft)
    similarity = z[4] @ z.T / 0.3
    rest = torch.tensor([j for j in range(10) if j != 4])
    expected = similarity[rest].logsumexp(dim=0) - similarity[[5, 6]].mean()  # a negative it still is
    torch.testing.assert_close(found, expected)
    (gradient,), (wanted,) = (torch.autograd.grad(one, z, retain_graph=True) for one in (found, expected))
    torch.testing.assert_close(gradient, wanted)
    for weight in (1e-3, 1e-6):  # and it is the limit
        soft[3] = weight
        near = ppcl(z, groups, 0.3, anchors=anchors, soft=soft)
        torch.testing.assert_close(near, expected, rtol=2 * weight, atol=10 * weight)
    anchors = torch.zeros(10)
    anchors[3], soft[3] = 10.0, 0.0
    own = z[3] @ z.T / 0.3
    rest = torch.tensor([j for j in range(10) if j != 3])
    torch.testing.assert_close(
        ppcl(z, groups, 0.3, anchors=anchors, soft=soft), own[rest].logsumexp(dim=0) - own[[4, 5, 6]].mean()
    )


def test_a_run_with_groups_of_four_learns_from_them_and_one_with_pairs_is_as_before():
    for overrides, differs in (({"training.views_per_image": 4}, True), ({}, False)):
        config = tiny_config(REAL_ALONE | overrides)
        plain, soft = (
            trainer_of(each).advance(2)[1]["loss/contrast"]
            for each in (config, config.with_overrides({"terms.contrast.soft_positives": 0.1}))
        )
        assert math.isfinite(soft)
        assert (soft != pytest.approx(plain, rel=1e-4)) == differs


@pytest.mark.parametrize(
    ("overrides", "size"),
    [
        ({}, 4),  # of a pair's latent
        (REAL_ALONE, 2),
        (REAL_ALONE | {"training.views_per_image": 4}, 4),
        ({"synthetic.gan.pair": False}, 2),
        (GAN_ALONE | {"synthetic.gan.views_per_pair": 2, "training.views_per_image": 4}, 2),
        (REAL_ALONE | {"views.mix": {"kind": "mixup", "share": 1.0}}, 4),
        ({"synthetic.gan": None, "synthetic.twins": {"kind": "folder", "path": "more", "pairs": "names"}}, 3),
        (FOLDER | {"synthetic.gan": None, "synthetic.mine.views_per_image": 8}, 8),
    ],
)
def test_weights_that_cannot_differ_are_refused(overrides, size):
    config = tiny_config(overrides)
    assert largest_group(config) == size
    require_positives_to_weigh(config)  # which asks for none
    soft = config.with_overrides({"terms.contrast.soft_positives": 0.5})
    if size > 2:
        require_positives_to_weigh(soft)
        return
    with pytest.raises(UserError, match=r"terms\.contrast\.soft_positives 0\.5 weighs .*views_per_image to 3 or more"):
        require_positives_to_weigh(soft)
