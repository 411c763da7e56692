"""Bandits follow their equations, find the better arm, and a table of their shares replays a run bit for bit."""

from __future__ import annotations

import math
import random

import pytest
import torch
import torch.nn.functional as F
from small_trainer import FOLDER, tiny_config, trainer_of
from torch import Tensor, nn

from synthcl.core.errors import UserError
from synthcl.method.curriculum.bandit import Bandit, State
from synthcl.method.curriculum.exp3 import Exp3
from synthcl.method.curriculum.ucb1 import Ucb1
from synthcl.method.objectives.ppcl import ppcl
from synthcl.method.scene import Seen, Views
from synthcl.runs.checkpoint import require_same_run
from synthcl.training.rewards import rewards

ARMS = ["real", "gan", "mine"]
UNIFORM = dict.fromkeys(ARMS, 1 / 3)
FLOOR = {"curriculum.mix": {"kind": "exp3", "floor": 0.25}}


def played(bandit: Bandit, worth: dict[str, float], turns: int, steps: int = 1) -> tuple[list[dict], State]:
    """All shares of a bandit whose arms are paid 1 or 0 with these chances."""
    chance, shares, state, history = random.Random(0), {arm: 1 / len(worth) for arm in worth}, {}, []
    for _ in range(turns):
        paid = {arm: float(chance.random() < p) for arm, p in worth.items()}
        shares, state = bandit.decide(shares, paid, steps, state)
        history.append(shares)
    return history, state


@pytest.mark.parametrize("turns", [1, 7, 300])
def test_exp3_is_its_equation(turns: int) -> None:
    chance, bandit = random.Random(1), Exp3(floor=0.02, enough=0.5)
    shares, state, totals = UNIFORM, {}, dict.fromkeys(ARMS, 0.0)
    for _ in range(turns):
        rewards = {arm: chance.uniform(-0.3, 0.9) for arm in ARMS}
        shares, state = bandit.decide(shares, rewards, 3, state)
        totals = {arm: total + 3 * min(rewards[arm], 0.5) / 0.5 for arm, total in totals.items()}
    t = 3 * turns
    now, before = (min(1 / 3, math.sqrt(math.log(3) / (3 * (10 * at + 1)))) for at in (t, t - 1))
    least = max(0.02, now)
    powers = {arm: math.exp(before * total) for arm, total in totals.items()}
    for arm in ARMS:
        assert shares[arm] == pytest.approx((1 - 3 * least) * powers[arm] / sum(powers.values()) + least)


@pytest.mark.parametrize("bandit", [Exp3(floor=0.05), Ucb1(floor=0.05)], ids=["exp3", "ucb1"])
def test_shares_add_up_to_1_keep_the_floor_and_go_to_the_better_arm(bandit: Bandit) -> None:
    history, _ = played(bandit, {"real": 0.1, "gan": 0.9, "mine": 0.1}, 600, steps=10)
    for shares in history:
        assert sum(shares.values()) == pytest.approx(1)
        assert min(shares.values()) >= 0.05 - 1e-12
    mean = sum(shares["gan"] for shares in history[-100:]) / 100
    assert mean > 0.8  # 0.9 is all but the floors
    if isinstance(bandit, Exp3):
        assert history[-1]["gan"] == pytest.approx(0.9, abs=1e-3)


def test_with_equal_pay_exp3_stays_uniform_and_ucb1_takes_turns() -> None:
    shares, state = UNIFORM, {}
    for _ in range(50):
        shares, state = Exp3(floor=0.1).decide(shares, dict.fromkeys(ARMS, 0.4), 5, state)
        assert shares == pytest.approx(UNIFORM)
    history = []
    shares, state = UNIFORM, {}
    for _ in range(9):
        shares, state = Ucb1(floor=0.1).decide(shares, dict.fromkeys(ARMS, 0.4), 5, state)
        history.append(max(shares, key=lambda arm: shares[arm]))
    assert history == 3 * ARMS


def test_ucb1_plays_every_arm_once_and_then_the_largest_bound() -> None:
    bandit, worth = Ucb1(floor=0.1, exploration=0.5), {"real": 0.5, "gan": 0.2, "mine": 0.4}
    shares, state, counts, turns = {"real": 0.2, "gan": 0.2, "mine": 0.6}, {}, dict.fromkeys(ARMS, 0), []
    for turn in range(40):
        shares, state = bandit.decide(shares, worth, 5, state)
        bounds = {
            arm: worth[arm] + 0.5 * math.sqrt(2 * math.log(turn) / n) if n else math.inf for arm, n in counts.items()
        }
        turns.append(max(ARMS, key=lambda arm: bounds[arm]))
        assert shares == pytest.approx({arm: 0.8 if arm == turns[-1] else 0.1 for arm in ARMS})
        counts[turns[-1]] += 1
    assert turns[:3] == ARMS
    assert {arm: state[f"played {arm}"] + (arm == turns[-1]) for arm in ARMS} == counts


@pytest.mark.parametrize("bandit", [Exp3(), Ucb1()], ids=["exp3", "ucb1"])
def test_a_decision_is_pure_and_an_arm_that_was_not_measured_is_not_paid(bandit: Bandit) -> None:
    _, state = played(bandit, {"real": 0.3, "gan": 0.6}, 5)
    kept, arguments = {**state}, ({"real": 0.7, "gan": 0.3}, {"gan": 0.5, "real": math.nan}, 4, state)
    assert bandit.decide(*arguments) == bandit.decide(*arguments)
    assert state == kept
    _, after = bandit.decide(*arguments)
    assert {name: after[name] for name in after if name.endswith("real")} == {
        name: state[name] for name in state if name.endswith("real")
    }


def seen_of(vectors: Tensor, groups: Tensor, spans: dict[str, slice]) -> Seen:
    views = Views((torch.zeros(len(vectors), 1, 1, 1),), (len(vectors),), spans, groups[:, None])
    return Seen(views, lambda parts: vectors, {"main": nn.Identity()})


def test_an_arm_is_paid_the_cosine_of_its_gradient_with_those_of_two_halves_of_the_real_images() -> None:
    features = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
    groups = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 4, 5, 4, 5, 4, 5])
    seen = seen_of(features, groups, {"real": slice(0, 8), "gan": slice(8, 16)})
    layer = nn.Linear(6, 6, bias=False)
    nn.init.zeros_(layer.weight)

    def gradient(rows: list[int]) -> Tensor:
        anchors = torch.zeros(16)
        anchors[rows] = 1.0
        embeddings = F.normalize(features + layer(features), dim=1)
        loss = ppcl(embeddings, groups, 0.3, anchors=anchors)
        return F.normalize(torch.autograd.grad(loss, layer.weight)[0].flatten(), dim=0)

    first, second, gan = gradient([0, 2, 4, 6]), gradient([1, 3, 5, 7]), gradient([*range(8, 16)])
    found = rewards(seen, 2, 0.3)
    assert found["reward/real"].item() == pytest.approx((first @ second).item(), abs=1e-5)
    assert found["reward/gan"].item() == pytest.approx(((first @ gan + second @ gan) / 2).item(), abs=1e-5)
    assert {*found} == {"reward/real", "reward/gan"}


def table_of(history: list[dict[str, float]], images: int) -> dict:
    seen = [0, *(point["images"] for point in history[:-1])]
    start = "knob/mix."
    shares = [{name.removeprefix(start): point[name] for name in point if name.startswith(start)} for point in history]
    return {"kind": "table", "points": [[at / images, share] for at, share in zip(seen, shares, strict=True)]}


@pytest.mark.parametrize("kind", ["exp3", "ucb1"])
def test_a_bandit_moves_the_mix_at_logged_points_and_its_table_replays_the_run(kind: str) -> None:
    settings = {"training.log_kimg": 0.064, "training.batch_images": 32, "training.kimg": 0.256, **FOLDER}
    config = tiny_config(settings | {"curriculum.mix": {"kind": kind, "floor": 0.15}})
    trainer = trainer_of(config)
    history = trainer.advance(8)
    assert len({point["knob/mix.real"] for point in history}) > 1
    assert all(f"reward/{arm}" in point for arm in ("real", "gan", "mine") for point in history)
    for point in history:
        assert point["knob/synthetic_fraction"] == pytest.approx(1 - point["knob/mix.real"], abs=0.1)
    replayed = trainer_of(tiny_config(settings | {"curriculum.mix": table_of(history, 256)}))
    for one, other in zip(history, replayed.advance(8), strict=True):
        assert other == {name: one[name] for name in one if not name.startswith(("knob/mix.", "reward/"))}
    for name, value in trainer.lab.encoder.state_dict().items():
        assert torch.equal(value, replayed.lab.encoder.state_dict()[name])


def test_decisions_of_a_run_in_two_legs_are_those_of_one_and_a_rollback_takes_them_back() -> None:
    config = tiny_config({**FLOOR, "training.log_kimg": 0.032})
    whole, first = trainer_of(config), trainer_of(config)
    history = whole.advance(8)
    first.advance(4)
    good, decided = first.state_dict(), first.shares
    second = trainer_of(config)
    second.load_state_dict(good)
    assert second.advance(8) == history[2:]
    assert (second.shares, second.bandit) == (whole.shares, whole.bandit)
    second.go_back(good)
    assert second.shares == decided != whole.shares


def test_a_run_on_real_images_alone_has_no_bandit() -> None:
    alone = tiny_config({"curriculum.synthetic_fraction": 0.0})
    with_it = alone.with_overrides(FLOOR)
    assert with_it.bandit is None
    assert trainer_of(with_it).advance(3) == trainer_of(alone).advance(3)


@pytest.mark.parametrize(("field", "value"), [("training.log_kimg", 0.032), ("evaluation.rungs", [0.5, 1.0])])
def test_a_run_with_a_bandit_is_resumed_with_the_same_logged_points(field: str, value: object) -> None:
    config = tiny_config(FLOOR)
    with pytest.raises(UserError, match=field):
        require_same_run({"config": config.model_dump(mode="json")}, config.with_overrides({field: value}), "run.pt")


def test_a_run_needs_the_images_of_the_step_with_most_real_ones() -> None:
    config = tiny_config({**FLOOR, "training.batch_images": 64})
    assert config.mix_at(0.0).real == 32
    with pytest.raises(UserError, match="gives 40 unlabelled images, fewer than the 48 of a step"):
        trainer_of(config)


def test_a_mix_begins_by_its_kind_alone_and_keeps_what_its_kinds_share() -> None:
    config = tiny_config({"curriculum.mix.kind": "exp3", "curriculum.mix.floor": 0.25})
    assert config.bandit == Exp3(floor=0.25)
    assert config.with_overrides({"curriculum.mix.kind": "ucb1"}).bandit == Ucb1(floor=0.25)
    assert config.with_overrides({"curriculum.mix": None}).bandit is None
    with pytest.raises(UserError, match="there is no field"):
        tiny_config({"curriculum.mix.floor": 0.25})


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"curriculum.mix": {"kind": "exp3", "floor": 0.01}}, "rounds to too few of gan"),
        ({"curriculum.mix": {"kind": "ucb1", "floor": 0.45}, **FOLDER}, "of 3 arms leaves nothing to decide"),
        (FLOOR | {"curriculum.synthetic_fraction": {"kind": "linear", "start": 0, "end": 0.5}}, "kind linear; give a"),
        ({"curriculum.mix": {"kind": "table", "points": [[0, {"real": 1.0}]]}}, r"share of each of \['gan', 'real'\]"),
        ({"curriculum.mix": {"kind": "table", "points": [[0, {"real": 0.5, "gan": 0.4}]]}}, "add up to 1"),
        ({"curriculum.mix": {"kind": "table", "points": [[0.5, {"real": 0.5, "gan": 0.5}]]}}, "must begin at 0"),
        (FLOOR | {"synthetic.gan.pool": 5}, "fewer latents than the 6 that curriculum.mix may give"),
    ],
)
def test_a_mix_that_cannot_be_is_refused(overrides: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        tiny_config(overrides)
