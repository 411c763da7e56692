"""A second stage begins with an optimiser and a learning rate of its own, once, wherever the run was interrupted."""

import torch
from small_trainer import CPU, random_images, tiny_config, untrained_gan

from synthcl.method.curriculum.knobs import learning_rate
from synthcl.training.trainer import Trainer

STAGES = {
    "synthetic.gan.frozen": True,
    "synthetic.gan.pair": False,
    "curriculum.hardness": 0.0,
    "curriculum.synthetic_fraction": {"kind": "step", "start": 1.0, "end": 0.0, "ramp_begin": 0.375},
    "training.restart_at": 0.375,
    "training.warmup_fraction": 0.25,
    "training.optimizer": "adamw",
    "training.learning_rate": 0.01,
}


def trainer_of(overrides) -> Trainer:
    config = tiny_config(overrides)
    return Trainer(config, random_images(), None if config.is_real_only else untrained_gan(config), CPU)


def encoder_of(trainer) -> list[torch.Tensor]:
    return [*trainer.lab.encoder.state_dict().values(), *trainer.networks.projector.state_dict().values()]


def equal(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(encoder_of(one), encoder_of(other), strict=True))


def test_each_stage_has_a_learning_rate_of_its_own():
    rates = [point["knob/learning_rate"] for point in trainer_of(STAGES).advance(8)]
    expected = [learning_rate(0.01, 0.25, step / 3) for step in range(3)]
    expected += [learning_rate(0.01, 0.25, step / 5) for step in range(5)]
    torch.testing.assert_close(torch.tensor(rates), torch.tensor(expected))
    assert rates[0] == rates[3] == 0


def test_the_second_stage_is_a_real_only_run_that_begins_with_the_weights_of_the_first():
    whole, first = trainer_of(STAGES), trainer_of(STAGES)
    whole.advance(8)
    first.advance(3)
    tail = trainer_of(STAGES | {"curriculum.synthetic_fraction": 0.0, "training.restart_at": 0.375})
    tail.lab.encoder.load_state_dict(first.lab.encoder.state_dict())
    tail.networks.projector.load_state_dict(first.networks.projector.state_dict())
    tail.step = 3
    assert not tail.optimizers.encoder.state
    tail.advance(8)
    assert equal(whole, tail)


def test_a_resume_at_the_switch_begins_anew_once():
    whole = trainer_of(STAGES)
    history = whole.advance(8)
    for step in (2, 3, 4):
        first, second = trainer_of(STAGES), trainer_of(STAGES)
        first.advance(step)
        second.load_state_dict(first.state_dict())
        assert second.advance(8) == history[step:]
        assert equal(whole, second)
    never = trainer_of(STAGES | {"training.restart_at": None})
    never.advance(8)
    assert not equal(whole, never)
