"""A teacher bounds the generator: what it ascends is the encoder's loss less a share of the slow encoder's."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from small_trainer import tiny_config, trainer_of, whole_and_continued
from torch import Tensor, nn

from synthcl.core import rng
from synthcl.core.errors import UserError
from synthcl.method.scene import Seen, SlowCopy
from synthcl.method.synthetic.gradient_reversal import reverse_gradient
from synthcl.method.synthetic.teacher import Teacher
from synthcl.training.trainer import Trainer

BOUNDED = {"synthetic.gan.teacher": 1.0}
WEIGHT = {"synthetic.gan.hardness_unit": "weight"}


def of_generator(trainer: Trainer) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in trainer.networks.generator.parameters()]


@pytest.mark.parametrize("unit", ["weight", "gradient_ratio"])
@pytest.mark.parametrize("share", [0.4, 1.0, 2.0])
def test_images_get_realism_less_what_the_encoder_loses_beyond_a_share_of_what_the_teacher_does(unit, share):
    draw = rng.generator("bound")
    images = torch.rand(3, 1, 4, 4, generator=draw, dtype=torch.float64).requires_grad_()
    encoder, slow, judge = (torch.randn(16, 5, generator=draw, dtype=torch.float64) for _ in range(3))

    def loss(shown, weights):
        return (shown.flatten(1) @ weights).square().logsumexp(dim=1).mean()

    teacher, norms = Teacher(share), torch.zeros(2, dtype=torch.float64)
    for_encoder, for_d = reverse_gradient(images, 0.7, unit, norms, teacher)
    teacher.look(loss(for_encoder, slow), for_encoder)
    (loss(for_encoder, encoder) + loss(for_d, judge)).backward()
    of_encoder, of_slow, of_judge = (
        torch.autograd.grad(loss(images, weights), images)[0] for weights in (encoder, slow, judge)
    )
    weight = 0.7 * (of_judge.norm() / of_encoder.norm() if unit == "gradient_ratio" else 1.0)
    torch.testing.assert_close(images.grad, of_judge - weight * (of_encoder - share * of_slow), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norms, torch.stack([of_encoder.norm(), of_judge.norm()]), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    "term", [{}, {"terms.contrast.kind": "byol", "terms.contrast.hidden": 8}, {"terms.turns.kind": "rotation"}]
)
@pytest.mark.parametrize("unit", ["weight", "gradient_ratio"])
def test_a_teacher_that_is_the_encoder_leaves_realism_alone(unit, term):
    found = []
    for hardness, teacher in ((3.0, 1.0), (0.0, 1.0), (3.0, 0.0)):
        settings = {"synthetic.gan.hardness_unit": unit, "curriculum.hardness": hardness}
        trainer = trainer_of(tiny_config(settings | term | {"synthetic.gan.teacher": teacher}))
        trainer.advance(1)  # at whose first step the slow encoder is still a copy
        found.append(of_generator(trainer))
    bounded, realism, hard = found
    for one, other in zip(bounded, realism, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert any((one - other).norm() > 0.01 * other.norm() for one, other in zip(hard, realism, strict=True))


def test_a_step_of_g_raises_the_encoders_loss_less_the_share_of_the_teachers_and_not_otherwise():
    config = tiny_config(WEIGHT | {"curriculum.hardness": 1e5, "synthetic.gan.teacher": 0.8})  # realism drowns
    trainer = trainer_of(config)
    lab = trainer.lab
    with torch.no_grad():  # another encoder than the run's
        for parameter in lab.slow.encoder.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=rng.generator("other", *parameter.shape)))
    slow = copy.deepcopy(lab.slow)
    heads = {name: copy.deepcopy(head) for name, head in lab.heads.items()}
    encoder, generator = copy.deepcopy(lab.encoder), copy.deepcopy(lab.networks.generator)
    batch: list[Any] = []
    images = lab.images
    lab.images = lambda *arguments: batch.append(arguments) or images(*arguments)
    trainer.advance(1)
    found = of_generator(trainer)

    def losses(moved: list[Tensor]) -> tuple[float, float]:
        """Of encoder and teacher, as the step had them, on images of a generator so far moved."""
        lab.networks.generator.load_state_dict(generator.state_dict())
        with torch.no_grad():
            for parameter, change in zip(lab.networks.generator.parameters(), moved, strict=True):
                parameter.add_(change)
            views, _ = images(*batch[0])
            views = lab.views["base"](views, base, {})
            own = trainer.config.knobs_at(0.0).own("terms.contrast")
            return tuple(
                lab.terms["contrast"](Seen(views, network, through), own).item()
                for network, through in ((encoder, heads), (slow.encoder, dict(slow.heads.items())))
            )

    base = batch[0][0].draws["base"]
    length = torch.stack([gradient.norm() for gradient in found]).norm()
    up, down = (losses([-sign * 1e-2 * gradient / length for gradient in found]) for sign in (1, -1))
    rise_of_encoder, rise_of_teacher = (after - before for after, before in zip(up, down, strict=True))
    rise = rise_of_encoder - 0.8 * rise_of_teacher
    assert rise > 0
    assert rise == pytest.approx(2e-2 * length.item() / 1e5, rel=0.1)  # the slope along the gradient is its length


def test_the_slow_encoder_takes_no_gradient_and_is_not_built_without_a_teacher():
    for off in ({}, {"synthetic.gan.teacher": 0.0}, BOUNDED | {"synthetic.gan.frozen": True}):
        assert trainer_of(tiny_config(off)).lab.slow is None
    assert trainer_of(tiny_config(BOUNDED | {"curriculum.synthetic_fraction": 0.0})).lab.slow is None
    trainer = trainer_of(tiny_config(BOUNDED | {"training.slow_half_life_kimg": 0.016}))
    lab = trainer.lab
    first = SlowCopy(lab.encoder, lab.heads, 0.0)
    trainer.advance(1)
    for slow, before, now in zip(
        *map(nn.Module.parameters, (lab.slow.encoder, first.encoder, lab.encoder)), strict=True
    ):
        torch.testing.assert_close(slow, (before + now) / 2)  # a step has 16 images
        assert slow.grad is None


def test_a_teacher_that_comes_later_changes_no_bit_before_and_the_run_after():
    late = {"kind": "step", "start": 0.0, "end": 1.0, "ramp_begin": 0.5}
    alone, bounded = (
        trainer_of(tiny_config()).advance(8),
        trainer_of(tiny_config({"synthetic.gan.teacher": late})).advance(8),
    )
    assert [point.pop("knob/synthetic.gan.teacher") for point in bounded] == [0.0] * 4 + [1.0] * 4
    assert ["gan/slow_loss" in point for point in bounded] == [False] * 4 + [True] * 4
    assert bounded[:4] == alone[:4]
    assert bounded[5]["loss/generator"] != alone[5]["loss/generator"]


def test_a_term_that_does_not_play_is_not_asked_of_the_teacher():
    beside = BOUNDED | {"terms.spread": {"kind": "vicreg", "weight": 0.5}}
    (plain,), (more,) = (trainer_of(tiny_config(overrides)).advance(1) for overrides in (BOUNDED, beside))
    assert more["gan/slow_loss"] == plain["gan/slow_loss"] == pytest.approx(plain["loss/contrast"], rel=1e-6)


def slow_gan() -> dict[str, Any]:
    return {f"synthetic.gan.{network}_learning_rate": 1e-5 for network in ("generator", "discriminator")} | BOUNDED


def test_a_bounded_run_goes_on_from_its_state_bit_for_bit():
    whole, second = whole_and_continued(tiny_config(BOUNDED), stop=2, steps=4)
    for one, other in zip(whole.lab.slow.state_dict().values(), second.lab.slow.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def work(rank: int, folder: str) -> None:
    """One of two processes."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    trainer = trainer_of(tiny_config(slow_gan() | {"compute.workers_per_trial": 2}))
    torch.save((trainer.advance(2), of_generator(trainer)), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_bound_as_one(tmp_path):
    torch.multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    (first, gradients), (second, _) = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first == second
    alone = trainer_of(tiny_config(slow_gan()))
    for one, two in zip(alone.advance(2), first, strict=True):
        assert one == pytest.approx(two, rel=1e-3, abs=1e-4)
    for one, two in zip(of_generator(alone), gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("share", [-0.1, 2.5])
def test_a_share_that_no_bound_has_is_refused(share):
    with pytest.raises(UserError, match="greater than or equal to 0 and less than or equal to 2"):
        tiny_config({"synthetic.gan.teacher": share})
