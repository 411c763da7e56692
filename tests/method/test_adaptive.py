"""Learnt temperatures: the loss is that of a loop over pairs, begins as PPCL, and is one over two processes."""

import math

import pytest
import torch
from small_trainer import tiny_config, trainer_of, unit
from torch import nn

from synthcl.core import distributed
from synthcl.core.errors import UserError
from synthcl.method.objectives.adaptive import Adaptive, AdaptiveConfig, between, spread_price
from synthcl.method.objectives.ppcl import ppcl
from synthcl.method.scene import Seen, Views

NOW = {"weight": 1.0, "temperature": 0.3}
GROUPS = [0, 1, 2, 0, 1, 2, 3, 4, 3, 4, 0, 5]
"""two views of most images, three of one, and one of another"""


def see(vectors, groups, weights=None) -> Seen:
    members = groups.view(len(vectors), -1)
    views = Views((torch.zeros(len(vectors), 1, 1, 1),), (len(vectors),), {}, members, weights)
    return Seen(views, lambda parts: vectors, {"main": nn.Identity()})


def learnt(dim: int, **fields) -> Adaptive:
    """A term whose network tells views apart."""
    torch.manual_seed(0)
    term = AdaptiveConfig(hidden=6, **fields).build(dim)
    for parameter in term.parameters():
        nn.init.normal_(parameter)
    return term


def temperature_loop(term: Adaptive, z, i, j, lowest, highest, middle):
    a, b = (term.warmth(z[k].float()).item() for k in (i, j))
    begin = math.log((middle - lowest) / (highest - middle))
    return lowest + (highest - lowest) / (1 + math.exp(-(begin + a + b)))


@pytest.mark.parametrize("penalty", [0.0, 0.1])
def test_the_loss_is_that_of_a_loop_over_pairs(penalty):
    z, term, total = unit(12, 5, "z").double(), learnt(5, penalty=penalty, lowest=0.1, highest=0.8), 0.0
    t = [[temperature_loop(term, z, i, j, 0.1, 0.8, 0.3) for j in range(12)] for i in range(12)]
    assert max(map(max, t)) / min(map(min, t)) > 2
    for i in range(12):
        mates = [j for j in range(12) if j != i and GROUPS[j] == GROUPS[i]]
        normaliser = math.log(sum(math.exp(z[i] @ z[j] / t[i][j]) for j in range(12) if j != i))
        for j in mates:
            price = penalty * (1 / t[i][j] + 5 / 2 * math.log(t[i][j]))
            total += (normaliser - float(z[i] @ z[j]) / t[i][j] + price) / len(mates)
    assert term(see(z.float(), torch.tensor(GROUPS)), NOW).item() == pytest.approx(total / 12, rel=1e-5)


def test_mixed_views_pay_for_each_of_their_images():
    z, term = unit(4, 5, "z"), learnt(5, penalty=0.1)
    members = torch.tensor([[0, 1], [1, 0], [0, 1], [1, 0]])
    whole = term(see(z, torch.tensor([0, 1, 0, 1])), NOW)
    clean = term(see(z, members, torch.tensor([[1.0, 0.0]] * 4)), NOW)
    torch.testing.assert_close(clean, whole)
    mixed = term(see(z, members, torch.tensor([[0.7, 0.3]] * 4)), NOW)
    free = learnt(5, penalty=0.0)(see(z, members, torch.tensor([[0.7, 0.3]] * 4)), NOW)
    pairs = term.warmth(z)[:, 0]
    price = 0.1 * spread_price(between(0.3, pairs[:, None] + pairs, 0.02, 1.0), 5)
    expected = 0.0
    for i in range(4):  # the weights that the others have in group g, of i's own ones
        for own, g in ((0.7, i % 2), (0.3, 1 - i % 2)):
            shared = {j: 0.7 if j % 2 == g else 0.3 for j in range(4) if j != i}
            expected += own * sum(w * price[i, j] for j, w in shared.items()) / sum(shared.values()) / 4
    torch.testing.assert_close(mixed - free, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bias", [0.0, -0.4, 0.7])
def test_where_all_views_are_alike_it_is_ppcl_at_one_temperature_and_a_constant(bias):
    z, groups, term = unit(12, 5, "z"), torch.tensor(GROUPS), AdaptiveConfig(penalty=0.1).build(5)
    term.warmth[-1].bias.data.fill_(bias)
    at = float(between(0.3, torch.tensor(2 * bias), 0.02, 1.0))
    assert (at == pytest.approx(0.3)) == (bias == 0)  # which is how a run begins
    price = 0.1 * (1 / at + 5 / 2 * math.log(at)) * 11 / 12  # one view has no positive
    torch.testing.assert_close(term(see(z, groups), NOW), ppcl(z, groups, at) + price)


@pytest.mark.parametrize("dim", [8, 64])
@pytest.mark.parametrize("cosine", [-0.3, 0.5, 0.9])
def test_a_lone_positive_pays_least_at_the_variance_of_its_pair(cosine, dim):
    best = 2 * (1 - cosine) / dim
    t = torch.tensor([0.98 * best, best, 1.02 * best], dtype=torch.float64, requires_grad=True)
    pull = -cosine / t + spread_price(t, dim)
    (slope,) = torch.autograd.grad(pull.sum(), t)
    assert slope[0] < 0 < slope[2]
    assert abs(slope[1]) < 1e-6 * abs(slope[0])
    z = torch.distributions.MultivariateNormal(torch.zeros(dim).double(), best * torch.eye(dim).double())
    apart = torch.zeros(dim, dtype=torch.float64)
    apart[0] = math.sqrt(2 * (1 - cosine))  # as far as two unit vectors of this cosine are
    assert float(pull[1]) + dim / 2 * math.log(2 * math.pi) == pytest.approx(-float(z.log_prob(apart)))


def test_temperatures_are_those_of_a_pair_stay_in_their_range_and_never_break_the_loss():
    z, groups, term = unit(12, 5, "z").requires_grad_(), torch.tensor(GROUPS), learnt(5, lowest=0.05, highest=0.5)
    for parameter in term.parameters():
        parameter.data.mul_(100)
    loss = term(see(z, groups), NOW)
    assert all(one.isfinite().all() for one in torch.autograd.grad(loss, [z, *term.parameters()]))
    term.after(see(z, groups), NOW)
    found = term.measures(see(z, groups))
    assert 0.05 <= found["temperature/main"] <= 0.5
    assert found["temperature/main/spread"] > 0.05


def test_it_learns_that_views_which_cannot_be_told_apart_are_warm():
    base = nn.functional.normalize(torch.cat([torch.eye(8), torch.eye(8)]), dim=1)
    noise = unit(16, 8, "noise")
    near = torch.arange(16) % 8 < 4
    z = nn.functional.normalize(base + torch.where(near, 0.1, 1.2)[:, None] * noise, dim=1)
    term, groups = AdaptiveConfig(penalty=0.0).build(8), torch.arange(8).repeat(2)
    optimizer = torch.optim.Adam(term.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        term(see(z, groups), NOW).backward()
        optimizer.step()
    with torch.no_grad():
        warm = term.warmth(z)[:, 0]
    assert warm[~near].mean() > warm[near].mean() + 0.2


def test_several_heads_have_temperatures_of_their_own():
    config = tiny_config(
        {
            "heads.second": {"kind": "mlp", "hidden": 16, "dim": 8},
            "terms.contrast": {"kind": "adaptive", "weight": 0.5, "hidden": 8},
            "terms.second": {"kind": "adaptive", "weight": 0.5, "hidden": 8, "head": "second"},
        }
    )
    trainer = trainer_of(config)
    history = trainer.advance(4)
    first, second = (trainer.lab.terms[name] for name in ("contrast", "second"))
    assert not torch.equal(first.warmth[0].weight, second.warmth[0].weight)
    assert history[0]["temperature/main"] != history[0]["temperature/second"]
    assert all(history[3][f"temperature/{head}/spread"] > 0 for head in ("main", "second"))
    assert "plugins" in trainer.lab.state_dict()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"highest": 0.2}, r"temperature goes from 0\.2 to 0\.2; .*below highest 0\.2"),
        ({"lowest": 0.3}, r"above lowest 0\.3"),
        ({"temperature": {"kind": "linear", "start": 0.5, "end": 2.0}}, r"from 0\.5 to 2; .*highest 1"),
    ],
)
def test_a_temperature_outside_its_range_is_refused(fields, message):
    with pytest.raises(UserError, match=message):
        tiny_config({"terms.contrast": {"kind": "adaptive"} | fields})


def of_half(vectors, groups) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Loss and gradients of this process's rows, with soft positives, too."""
    rows = distributed.rows(len(vectors))
    vectors = vectors[rows].clone().requires_grad_()
    term = learnt(5, penalty=0.1, soft_positives=0.5)
    loss = term(see(vectors, groups[rows]), NOW)
    loss.backward()
    distributed.average_gradients(term.parameters())
    return distributed.mean(loss.detach()), [vectors.grad, *(parameter.grad for parameter in term.parameters())]


CASE = unit(12, 5, "case"), torch.tensor([0, 1, 2, 3, 3, 2, 1, 0, 0, 1, 2, 0])


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(of_half(*CASE), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_are_one_in_value_and_gradient(tmp_path):
    torch.multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    (loss, first), (again, second) = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    value, alone = of_half(*CASE)
    assert torch.equal(loss, again)
    torch.testing.assert_close(loss, value)
    of_vectors = torch.cat([first[0], second[0]]) / 2  # the mean over processes, as parameters have it
    torch.testing.assert_close(of_vectors, alone[0], rtol=1e-4, atol=1e-6)
    for one, other, whole in zip(first[1:], second[1:], alone[1:], strict=True):
        assert torch.equal(one, other)
        torch.testing.assert_close(one, whole, rtol=1e-4, atol=1e-6)
        assert whole.norm() > 0
