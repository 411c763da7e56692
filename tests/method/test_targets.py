"""Terms whose targets take no gradient, against loops: slow keys, predictions, neighbours, and the bank of them."""

import math

import numpy as np
import pytest
import torch
from small_trainer import CPU, random_images, tiny_config, unit, untrained_gan
from torch import nn

from synthcl.core.updates import ema_update
from synthcl.method.objectives.byol import ByolConfig, distances
from synthcl.method.objectives.keys import Bank, Others, ppcl_to_keys, same_image
from synthcl.method.objectives.moco import MocoConfig
from synthcl.method.objectives.nnclr import NnclrConfig, neighbours
from synthcl.method.objectives.ppcl import ppcl
from synthcl.method.objectives.simsiam import SimsiamConfig
from synthcl.method.scene import Seen, SlowCopy, Views
from synthcl.training.trainer import Trainer

MIXED = [[0, 1], [1, 0], [0, 0], [1, 1], [2, 0], [2, 3]]
SHARES = [[0.7, 0.3], [0.6, 0.4], [1.0, 0.0], [1.0, 0.0], [0.9, 0.1], [0.5, 0.5]]
NOW = {"weight": 1.0, "temperature": 0.3}


def views_of(members, weights=None, images=None) -> Views:
    members = torch.tensor(members)
    weights = None if weights is None else torch.tensor(weights)
    images = None if images is None else torch.tensor(images)
    empty = torch.zeros(len(members), 1, 1, 1)
    return Views((empty,), (len(members),), {}, members.view(len(members), -1), weights, images)


def moco_loop(q, k, members, weights, images, t, queue=(), of_queue=()) -> list[float]:
    """Softmax over all keys but one's own, and over the queue; neither of one's image outside of one's group."""
    losses = []
    for i in range(len(q)):
        mine = {image for image, w in zip(images[i], weights[i], strict=True) if w > 0 and image != -1}

        def share(j, group):
            return sum(w for g, w in zip(members[j], weights[j], strict=True) if g == group)

        of_mine = [g for g, w in zip(members[i], weights[i], strict=True) if w > 0]
        candidates = []
        for j in range(len(k)):
            theirs = {image for image, w in zip(images[j], weights[j], strict=True) if w > 0}
            if j != i and (any(share(j, g) for g in of_mine) or not mine & theirs):
                candidates.append(math.exp(q[i] @ k[j] / t))
        candidates += [math.exp(q[i] @ n / t) for n, image in zip(queue, of_queue, strict=True) if image not in mine]
        normaliser, loss = math.log(sum(candidates)), 0.0
        for g, w in zip(members[i], weights[i], strict=True):
            others = [j for j in range(len(k)) if j != i and share(j, g)]
            count = sum(share(j, g) for j in others)
            if count:
                loss += w * (normaliser - sum(share(j, g) * (q[i] @ k[j] / t) for j in others) / count)
        losses.append(loss)
    return losses


PLAIN = [[0], [1], [2], [0], [1], [2]]
CASES = {
    "two views": (PLAIN, None, [[7], [8], [9], [7], [8], [9]]),
    "an image twice": (PLAIN, None, [[7], [7], [9], [7], [7], [9]]),
    "synthetic": (PLAIN, None, [[7], [-1], [-1], [7], [-1], [-1]]),
    "four and two": ([[0], [1], [0], [1], [0], [0]], None, [[-2], [8], [-2], [8], [-2], [-2]]),
    "mixed": (MIXED, SHARES, [[5, 6], [6, 5], [5, 5], [6, 6], [5, 4], [5, 3]]),
}


@pytest.mark.parametrize("case", CASES)
def test_keys_and_queue_equal_the_loop(case):
    members, weights, images = CASES[case]
    q, k, queue = (unit(6, 4, name) for name in ("q", "k", "queue"))
    of_queue = [7, 8, 5, -1, -2, 3]
    views = views_of(members, weights, images)
    others = Others(queue, same_image(views.images, torch.tensor(of_queue)[:, None]))
    whole = weights or [[1.0]] * 6
    given = [each.double().numpy() for each in (q, k, queue)]
    alone = moco_loop(*given[:2], members, whole, images, 0.3)
    both = moco_loop(*given[:2], members, whole, images, 0.3, given[2], of_queue)
    assert ppcl_to_keys(q, k, views, 0.3).tolist() == pytest.approx(alone, rel=1e-5)
    if weights is None:
        assert ppcl_to_keys(q, k, views, 0.3, others).tolist() == pytest.approx(both, rel=1e-5)
        assert both != pytest.approx(alone)


@pytest.mark.parametrize("case", ["two views", "four and two", "mixed"])
def test_without_a_queue_and_a_lag_moco_is_ppcl_whose_keys_stand_still(case):
    members, weights, _ = CASES[case]
    z = unit(6, 4, "z").requires_grad_()
    views = views_of(members, weights)
    loss = ppcl_to_keys(z, z, views, 0.3).mean()
    torch.testing.assert_close(loss, ppcl(z, views.members, 0.3, views.weights))
    (gradient,) = torch.autograd.grad(loss, z)
    (whole,) = torch.autograd.grad(ppcl(z, views.members, 0.3, views.weights), z)
    assert not torch.allclose(gradient, whole)


def see(vectors, views, slow=None) -> Seen:
    return Seen(views, lambda parts: vectors, {"main": nn.Identity()}, slow)


class Still(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.register_buffer("features", features)

    def forward(self, parts):
        return self.features


def test_moco_looks_at_the_slow_keys_and_remembers_them_without_those_of_the_same_image():
    views = views_of(PLAIN, images=[[7], [8], [9], [7], [8], [9]])
    fast, slow = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    term = MocoConfig(queue=10).build(4)
    seen = see(fast.requires_grad_(), views, SlowCopy(Still(slow), {"main": nn.Identity()}, 0.5))
    q, k = (nn.functional.normalize(each.detach().double(), dim=1).numpy() for each in (fast, slow))
    members, whole, images = PLAIN, [[1.0]] * 6, views.images.tolist()
    first = moco_loop(q, k, members, whole, images, 0.3)
    assert term(seen, NOW).item() == pytest.approx(np.mean(first), rel=1e-5)
    term.after(seen, NOW)
    second = moco_loop(q, k, members, whole, images, 0.3, k, [7, 8, 9, 7, 8, 9])
    assert term(seen, NOW).item() == pytest.approx(np.mean(second), rel=1e-5)
    term.after(seen, NOW)
    assert term.bank.filled.all()
    assert int(term.bank.place) == 2  # twelve keys in ten places
    assert term.bank.images[:, 0].tolist() == [9, 9, 8, 8, 9, 9, 7, 7, 8, 8]  # by group, the oldest first to go


def test_a_bank_keeps_the_last_keys_in_order_of_groups():
    bank, keys = Bank(4, 2), torch.arange(12.0).view(6, 2)
    bank.push(keys, views_of(PLAIN, images=[[7], [8], [9], [7], [8], [9]]))
    assert bank.keys.tolist() == keys[[1, 4, 2, 5]].tolist()  # of groups 0, 0, 1, 1, 2, 2 the last four
    assert bank.images[:, 0].tolist() == [8, 8, 9, 9]
    bank.push(-keys[:2], views_of([[0], [1]], [[1.0], [1.0]], [[1], [2]]))
    assert bank.keys.tolist() == [[-0.0, -1.0], [-2.0, -3.0], *keys[[2, 5]].tolist()]
    assert bank.images[:2, 0].tolist() == [1, 2]
    mixed = views_of([[0, 1], [1, 0]], [[0.6, 0.4], [1.0, 0.0]], [[3, 4], [4, 3]])
    bank.push(keys[:2], mixed)
    assert bank.images[2:].tolist() == [[3, 4, -1, -1], [4, -1, -1, -1]]
    assert Bank(3, 2).hidden(torch.tensor([[1]])).all()  # nothing is there yet


def test_predictions_are_squared_distances_from_the_targets_of_the_group():
    for members, weights in ((PLAIN, None), (MIXED, SHARES)):
        p, t = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1))
        p.requires_grad_()
        found = distances(p, t.requires_grad_(), views_of(members, weights))
        whole, expected = weights or [[1.0]] * 6, []
        q, k = (nn.functional.normalize(each.detach().double(), dim=1) for each in (p, t))
        for i in range(6):
            shares = [
                sum(a * b for g, a in zip(members[i], whole[i], strict=True)
                    for h, b in zip(members[j], whole[j], strict=True) if g == h and j != i)
                for j in range(6)
            ]  # fmt: skip
            total = sum(share * (q[i] - k[j]).square().sum().item() for j, share in enumerate(shares))
            expected.append(total / sum(shares))
        assert found.tolist() == pytest.approx(expected, rel=1e-5)
        gradients = torch.autograd.grad(found.sum(), (p, t), allow_unused=True)
        assert gradients[0].norm() > 0
        assert gradients[1] is None  # targets stand still
    same = torch.eye(3).repeat(2, 1)
    assert distances(same, same, views_of(PLAIN)).tolist() == pytest.approx([0.0] * 6)
    assert distances(same, -same, views_of(PLAIN)).tolist() == pytest.approx([4.0] * 6)


@pytest.mark.parametrize("kind", [ByolConfig, SimsiamConfig])
def test_a_predictor_looks_at_the_head_and_is_held_to_the_other_view(kind):
    fast, slow = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(2))
    term, views = kind(hidden=8).build(4), views_of(PLAIN)
    term.predictor = nn.Linear(4, 4)
    found = term(see(fast, views, SlowCopy(Still(slow), {"main": nn.Identity()}, 0.5)), NOW).item()
    targets = slow if kind is ByolConfig else fast
    cosine = nn.functional.cosine_similarity(term.predictor(fast), targets.roll(3, dims=0)).mean().item()
    assert found == pytest.approx(2 - 2 * cosine if kind is ByolConfig else -cosine, rel=1e-5)


def test_simsiam_passes_a_gradient_through_the_prediction_alone():
    term, views = SimsiamConfig(hidden=8).build(4), views_of(PLAIN)
    term.predictor, z = nn.Identity(), torch.randn(6, 4, generator=torch.Generator().manual_seed(3)).requires_grad_()
    (found,) = torch.autograd.grad(term(see(z, views), NOW), z)
    still = z.detach()
    cosine = nn.functional.cosine_similarity(z, still.roll(3, dims=0)).mean()
    (expected,) = torch.autograd.grad(-cosine, z)
    torch.testing.assert_close(found, expected)


def test_the_neighbour_is_the_nearest_key_of_another_image():
    bank, z = Bank(5, 3), unit(4, 3, "views")
    images = torch.tensor([[0], [1], [2], [-1]])
    torch.testing.assert_close(neighbours(z, bank, images), z)  # an empty bank
    keys = unit(4, 3, "bank")
    of_keys = [0, 1, 1, -1]
    bank.push(keys, views_of([[0], [1], [2], [3]], images=[[image] for image in of_keys]))
    found = neighbours(z, bank, images)
    for i in range(4):
        allowed = [j for j in range(4) if of_keys[j] != images[i, 0] or of_keys[j] == -1]
        best = max(allowed, key=lambda j: float(z[i] @ keys[j]))
        assert torch.equal(found[i], keys[best])


def test_nnclr_attracts_the_neighbour_of_the_other_view():
    views = views_of(PLAIN, images=[[7], [8], [9], [7], [8], [9]])
    term = NnclrConfig(bank=6, hidden=8, temperature=0.3).build(4)
    term.predictor = nn.Identity()
    z = unit(6, 4, "z")
    term.bank.push(unit(6, 4, "earlier"), views_of([[g] for g in range(6)], images=[[g + 5] for g in range(6)]))
    found = neighbours(z, term.bank, views.images)
    expected = moco_loop(z.double().numpy(), found.double().numpy(), PLAIN, [[1.0]] * 6, views.images.tolist(), 0.3)
    assert term(see(z, views), NOW).item() == pytest.approx(np.mean(expected), rel=1e-5)


def trainer_of(overrides) -> Trainer:
    config = tiny_config(overrides)
    return Trainer(config, random_images(), None if config.is_real_only else untrained_gan(config), CPU)


def test_the_slow_encoder_follows_by_its_half_life_and_is_built_for_terms_that_look_at_it():
    assert trainer_of({}).lab.slow is None
    assert trainer_of({"terms.more": {"kind": "moco", "weight": 0.0}}).lab.slow is None
    trainer = trainer_of({"terms.more": {"kind": "moco"}, "training.slow_half_life_kimg": 0.032})
    lab = trainer.lab
    expected = SlowCopy(lab.encoder, lab.heads, 0.0)
    for _ in range(3):
        trainer.advance(trainer.step + 1)
        ema_update(expected.encoder, lab.encoder, 0.5**0.5)  # a step has 16 images
    for one, other in zip(lab.slow.encoder.parameters(), expected.encoder.parameters(), strict=True):
        torch.testing.assert_close(one, other)
        assert one.grad is None
    learned = {id(one) for group in lab.optimizers.encoder.param_groups for one in group["params"]}
    assert not learned & {id(one) for one in lab.slow.parameters()}


def test_a_queue_holds_the_images_of_the_run_and_a_term_of_weight_0_for_now_fills_it():
    late = {"kind": "step", "start": 0.0, "end": 1.0, "ramp_begin": 0.5}
    trainer = trainer_of({"terms.more": {"kind": "moco", "queue": 64, "weight": late}})
    trainer.advance(2)
    bank = trainer.lab.terms["more"].bank
    assert bank.filled.all()
    images = bank.images[:, 0]
    assert (images == -1).sum() == 32  # of G
    assert len(images[images >= 0].unique()) == 16
    torch.testing.assert_close(bank.keys.norm(dim=1), torch.ones(64))
