"""An adversary on feature statistics: the sign of its gradient, whose losses it feels, and that its budget holds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_trainer import tiny_config, trainer_of, whole_and_continued
from torch import Tensor, nn

from synthcl.core import rng
from synthcl.core.errors import UserError
from synthcl.method.encoders import advstyle
from synthcl.method.encoders.advstyle import AdvStyle, AdvStyleConfig, of_mean_square_1
from synthcl.method.encoders.dsu import DsuConfig
from synthcl.method.encoders.style import Stage, Style
from synthcl.training.trainer import Trainer

OWN = {"share": 1.0, "coefficient": 0.5, "learning_rate": 0.01}
ADVSTYLE = {"encoder.style.kind": "advstyle"}
REAL_ONLY = {"curriculum.synthetic_fraction": 0.0}
MAPS = torch.randn(6, 3, 4, 4, generator=rng.generator("maps"), dtype=torch.float64)


def listening(section: Any) -> tuple[nn.Module, Style]:
    stage = nn.Identity()
    return stage, section.build([Stage(stage, 3)]).double()


def changed(stage: nn.Module, style: Style) -> Tensor:
    with style.acting(style.draw(6, OWN, rng.generator("draw")), OWN):
        found: Tensor = stage(MAPS)
    return found


def weights(trainer: Trainer) -> list[Tensor]:
    return [weight.detach().clone() for weight in trainer.lab.style.weights]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(map(torch.equal, first, second))


def test_it_begins_as_dsu_and_its_plain_views_stay_so():
    expected = changed(*listening(DsuConfig()))
    stage, style = listening(AdvStyleConfig(plain=0.4))
    torch.testing.assert_close(changed(stage, style), expected)
    with torch.no_grad():
        style.weights[0].copy_(torch.tensor([2.0, 1.0, 0.0, 1.0, 0.5, -1.0]))
    plain = style.draw(6, OWN, rng.generator("draw")).chosen[:, 0] < 0.4
    alike = torch.isclose(changed(stage, style), expected).flatten(1).all(dim=1)
    assert torch.equal(alike, plain)
    assert 0 < plain.sum() < 6


def test_noise_has_the_budget_of_dsu_whatever_the_weights():
    made = torch.randn(64, generator=rng.generator("weights")) * 7
    assert of_mean_square_1(made).square().mean().item() == pytest.approx(1)
    torch.testing.assert_close(of_mean_square_1(made) / of_mean_square_1(made)[0], made / made[0])
    assert not of_mean_square_1(torch.zeros(4)).any()


def test_the_gradient_of_a_weight_is_minus_its_slope_and_that_of_maps_keeps_its_sign():
    stage, style = listening(AdvStyleConfig(plain=0.0))
    start = torch.tensor([0.5, 1.0, 1.5, 0.8, 1.2, 1.0], dtype=torch.float64)
    target = torch.randn(MAPS.shape, generator=rng.generator("target"), dtype=torch.float64)

    def loss(weight: Tensor) -> Tensor:
        with torch.no_grad():
            style.weights[0].copy_(weight)
        return (changed(stage, style) * target).sum()

    (found,) = torch.autograd.grad(loss(start), style.weights[0])
    steps = 1e-6 * torch.eye(6, dtype=torch.float64)
    slopes = torch.stack([(loss(start + step) - loss(start - step)) / 2e-6 for step in steps])
    torch.testing.assert_close(found, -slopes.detach(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("beside", [REAL_ONLY, {}, {"terms.spread": {"kind": "vicreg", "weight": 0.5}}])
def test_it_ascends_the_terms_that_play_and_no_other(beside, monkeypatch):
    trainer = trainer_of(tiny_config(ADVSTYLE | beside))
    trainer.advance(1)
    descending = trainer_of(tiny_config(ADVSTYLE | {name: of for name, of in beside.items() if name != "terms.spread"}))
    monkeypatch.setattr(advstyle, "reverse", lambda weights, factor: weights)
    descending.advance(1)
    for one, other in zip(trainer.lab.style.weights, descending.lab.style.weights, strict=True):
        torch.testing.assert_close(one.grad, -other.grad, rtol=1e-3, atol=1e-6)
        assert one.grad.norm() > 0
    if "terms.spread" not in beside:  # nobody else feels the node
        for one, other in zip(trainer.lab.encoder.parameters(), descending.lab.encoder.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad)


def test_it_learns_by_an_optimiser_of_its_own_until_its_rate_is_0_and_acts_all_the_same():
    stop = {"kind": "step", "start": 0.01, "end": 0.0, "ramp_begin": 0.5}
    trainer = trainer_of(tiny_config(ADVSTYLE | {"encoder.style.learning_rate": stop} | REAL_ONLY))
    assert list(trainer.lab.all_optimizers) == ["encoder", "encoder.style"]
    moved, found = [], weights(trainer)
    for step in range(8):
        (point,) = trainer.advance(step + 1)
        assert point["knob/encoder.style.learning_rate"] == (0.01 if step < 4 else 0.0)
        moved.append(not same(found, weights(trainer)))
        found = weights(trainer)
    assert moved == [True] * 4 + [False] * 4
    assert point["loss/contrast"] != trainer_of(tiny_config(REAL_ONLY)).advance(8)[-1]["loss/contrast"]


def test_it_stands_still_in_steps_in_which_no_term_plays():
    late = {"kind": "step", "start": 0.0, "end": 1.0, "ramp_begin": 0.5}
    still = {"terms.contrast.weight": late, "terms.spread": {"kind": "vicreg", "weight": 0.1}}
    trainer = trainer_of(tiny_config(ADVSTYLE | still | REAL_ONLY))
    first = weights(trainer)
    trainer.advance(4)
    assert same(first, weights(trainer))
    trainer.advance(5)
    assert not same(first, weights(trainer))


def test_a_run_that_stopped_goes_on_with_its_weights_and_their_optimiser():
    whole, second = whole_and_continued(tiny_config(ADVSTYLE), stop=3, steps=6)
    assert isinstance(second.lab.style, AdvStyle)
    assert same(weights(whole), weights(second))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"encoder.style.learning_rate": -1e-3}, "greater than or equal to 0"),
        ({"encoder.style.plain": 1.5}, "less than or equal to 1"),
        ({"terms.contrast.plays": False}, "encoder.style of kind advstyle ascends the terms that play"),
    ],
)
def test_what_cannot_be_is_refused(fields, says):
    with pytest.raises(UserError, match=says):
        tiny_config(ADVSTYLE | fields)
