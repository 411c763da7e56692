"""Who repels whom: views of other groups, and with `within_source` those of the own source alone."""

import math

import pytest
import torch
from small_trainer import unit
from torch import nn

from synthcl.method.objectives.negatives import negatives, of_another_source, share_a_group
from synthcl.method.objectives.ppcl import PpclConfig, ppcl
from synthcl.method.scene import Seen, Views

NOW = {"weight": 1.0, "temperature": 0.3}
SPANS = {"real": slice(0, 6), "gan": slice(6, 10), "mine": slice(10, 12)}
SOURCE = [0] * 6 + [1] * 4 + [2] * 2
GROUPS = [0, 1, 2, 0, 1, 2, 3, 4, 3, 4, 0, 2]
"""two views of three real images and of two latents, and a twin of two of the real ones"""


def views_of(members, weights=None, spans=SPANS) -> Views:
    members = torch.tensor(members)
    weights = None if weights is None else torch.tensor(weights)
    return Views((torch.zeros(len(members), 1, 1, 1),), (len(members),), spans, members.view(12, -1), weights)


def see(vectors, views: Views) -> Seen:
    return Seen(views, lambda parts: vectors, {"main": nn.Identity()})


def test_negatives_share_no_group_and_with_within_source_come_from_the_same():
    views = views_of(GROUPS)
    for i in range(12):
        for j in range(12):
            assert share_a_group(views)[i, j] == (GROUPS[i] == GROUPS[j])
            assert of_another_source(views)[i, j] == (SOURCE[i] != SOURCE[j])
            assert negatives(views)[i, j] == (GROUPS[i] != GROUPS[j])
            assert negatives(views, True)[i, j] == (GROUPS[i] != GROUPS[j] and SOURCE[i] == SOURCE[j])


def test_a_mixed_view_is_no_negative_of_any_image_that_it_shows():
    members = [[0, 1], [1, 0], [2, 3], *[[group, 9] for group in GROUPS[3:]]]
    weights = [[0.7, 0.3], [0.6, 0.4], [1.0, 0.0], *[[1.0, 0.0]] * 9]
    found = negatives(views_of(members, weights))
    assert not found[0, 1]
    assert found[0, 2]
    assert not found[0, 3]  # of group 0
    assert not found[0, 4]  # of group 1
    assert found[2, 6]  # which has weight 0 in group 3
    assert found[3, 6]  # both have weight 0 in group 9


def test_within_source_the_loss_is_that_of_a_loop_over_views_of_the_group_and_of_the_source():
    z, t = unit(12, 5, "z").double(), 0.3
    total = 0.0
    for i in range(12):
        mates = [j for j in range(12) if j != i and GROUPS[j] == GROUPS[i]]
        rivals = [j for j in range(12) if GROUPS[j] != GROUPS[i] and SOURCE[j] == SOURCE[i]]
        normaliser = math.log(sum(math.exp(z[i] @ z[j] / t) for j in mates + rivals))
        total += sum(normaliser - float(z[i] @ z[j]) / t for j in mates) / len(mates)
    term = PpclConfig(within_source=True).build(5)
    assert term(see(z.float(), views_of(GROUPS)), NOW).item() == pytest.approx(total / 12, rel=1e-5)


def test_within_source_no_view_feels_one_of_another_source_but_its_twin():
    views, term = views_of(GROUPS), PpclConfig(within_source=True).build(5)
    first, second = unit(12, 5, "first"), unit(12, 5, "second")
    moved = torch.where((torch.arange(12) >= 6)[:, None] & (torch.arange(12) < 10)[:, None], second, first)
    # With another generator, the losses of real views and of their twins stay; so do all gradients of theirs.
    gradients = []
    for vectors in (first, moved):
        vectors = vectors.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(term(see(vectors, views), NOW), vectors)
        gradients.append(gradient[[*range(6), 10, 11]])
    assert torch.equal(*gradients)
    only_real = torch.tensor([2.0] * 6 + [0.0] * 6)  # as anchors
    vectors = first.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(term(see(vectors, views._replace(anchors=only_real)), NOW), vectors)
    assert torch.equal(gradient[6:10], torch.zeros(4, 5))
    assert (gradient[10:].norm(dim=1) > 0).all()  # their twins


def test_off_it_is_todays_number_to_the_bit_and_one_source_alone_makes_no_difference():
    z = unit(12, 5, "z")
    expected = ppcl(nn.functional.normalize(z, dim=1), torch.tensor(GROUPS), 0.3)
    assert torch.equal(PpclConfig().build(5)(see(z, views_of(GROUPS)), NOW), expected)
    alone = PpclConfig(within_source=True).build(5)(see(z, views_of(GROUPS, spans={"real": slice(0, 12)})), NOW)
    torch.testing.assert_close(alone, expected)


def test_a_view_alone_in_its_source_and_its_group_adds_nothing():
    spans = {"real": slice(0, 11), "mine": slice(11, 12)}
    vectors = unit(12, 5, "z").requires_grad_()
    views = views_of([*GROUPS[:11], 7], spans=spans)
    loss = PpclConfig(within_source=True).build(5)(see(vectors, views), NOW)
    loss.backward()
    assert loss.isfinite()
    assert torch.equal(vectors.grad[11], torch.zeros(5))
