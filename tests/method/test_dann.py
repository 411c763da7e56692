"""Gradient reversal between a classifier of the origin and the encoder, and what a perfect mixture costs."""

import math

import pytest
import torch
from pydantic import ValidationError
from small_trainer import unit
from torch import nn

from synthcl.method.objectives.dann import DannConfig, origin_loss, reverse
from synthcl.method.scene import Seen, Views

NOW = {"weight": 1.0, "reversal": 0.3}
SPANS = {"real": slice(0, 6), "gan": slice(6, 8), "mine": slice(8, 10)}


def see(vectors, spans=SPANS) -> Seen:
    views = Views((torch.zeros(len(vectors), 1, 1, 1),), (len(vectors),), spans, torch.arange(len(vectors))[:, None])
    return Seen(views, lambda parts: vectors, {"main": nn.Identity()})


def test_the_node_is_the_identity_forwards_and_minus_its_factor_backwards():
    vectors, weights = unit(5, 3, "z").requires_grad_(), unit(5, 3, "weights")
    assert torch.equal(reverse(vectors, 0.3), vectors)
    (gradient,) = torch.autograd.grad((reverse(vectors, 0.3) * weights).sum(), vectors)
    torch.testing.assert_close(gradient, -0.3 * weights)


def test_the_classifier_descends_what_the_encoder_ascends():
    torch.manual_seed(0)
    term, vectors = DannConfig(hidden=8).build(4), unit(10, 4, "z").requires_grad_()
    found = term(see(vectors), NOW)
    z = nn.functional.normalize(vectors, dim=1)
    logits = term.classifier(z)[:, 0]
    total = sum(math.log(1 + math.exp(-logits[i])) / 6 for i in range(6))
    total += sum(math.log(1 + math.exp(logits[i])) / 4 for i in range(6, 10))
    assert found.item() == pytest.approx(total / 2, rel=1e-5)
    plain = origin_loss(logits[:6], logits[6:])
    weights = [*term.parameters()]
    of_found, of_plain = (torch.autograd.grad(loss, [vectors, *weights]) for loss in (found, plain))
    torch.testing.assert_close(of_found[0], -0.3 * of_plain[0])
    for one, other in zip(of_found[1:], of_plain[1:], strict=True):
        torch.testing.assert_close(one, other)


def test_the_best_classifier_of_a_perfect_mixture_has_ln_2_however_many_are_real():
    logits = torch.zeros(1, requires_grad=True)
    for real, synthetic in ((6, 6), (9, 2)):
        loss = origin_loss(logits.expand(real), logits.expand(synthetic))
        assert loss.item() == pytest.approx(math.log(2))
        assert torch.autograd.grad(loss, logits)[0].item() == pytest.approx(0, abs=1e-7)
    torch.manual_seed(0)
    term, vectors = DannConfig(hidden=8).build(4), unit(6, 4, "same")
    mixture = see(torch.cat([vectors, vectors[:3], vectors[3:]]), {"real": slice(0, 6), "gan": slice(6, 12)})
    optimizer = torch.optim.Adam(term.parameters(), 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss = term(mixture, NOW)
        loss.backward()
        optimizer.step()
    assert loss.item() == pytest.approx(math.log(2), abs=1e-3)


@pytest.mark.parametrize("spans", [{"real": slice(0, 10)}, {"gan": slice(0, 10)}])
def test_one_origin_alone_adds_nothing(spans):
    vectors = unit(10, 4, "z").requires_grad_()
    loss = DannConfig().build(4)(see(vectors, spans), NOW)
    loss.backward()
    assert loss == 0
    assert not vectors.grad.any()


def test_it_never_plays_and_rises_as_in_the_paper():
    with pytest.raises(ValidationError, match="plays"):
        DannConfig(plays=True)
    for progress in (0.0, 0.1, 0.5, 1.0):
        expected = 2 / (1 + math.exp(-10 * progress)) - 1
        assert DannConfig().reversal.value_at(progress) == pytest.approx(expected)
