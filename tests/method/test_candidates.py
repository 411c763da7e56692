"""Latents chosen among candidates: how often each is kept, and that the choice moves nothing else."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from small_trainer import continued, tiny_config, trainer_of

from synthcl.comparison.arms import apply_arm
from synthcl.core import rng
from synthcl.method.scene import Asked
from synthcl.method.synthetic.gan import candidates
from synthcl.method.synthetic.gan.candidates import chosen, drawn
from synthcl.search.settings import reads
from synthcl.training.trainer import Trainer

FOUR = {"synthetic.gan.candidates": 4}
COLD = {"synthetic.gan.candidates_temperature": 1e-3}
OWN = {"hardness": 0.0, "pair_decay": 0.5, "walk": 0.0, "teacher": 0.0, "candidates_temperature": 1.0}


def gumbel_of(rows: int, number: int) -> torch.Tensor:
    return drawn(number, rows, 1, seed=0, step=0).gumbel


def frequencies(rewards: list[float], temperature: float, rows: int = 200_000) -> list[float]:
    choice, _ = chosen(torch.tensor([rewards]).expand(rows, -1), gumbel_of(rows, len(rewards)), temperature)
    return (choice.bincount(minlength=len(rewards)) / rows).tolist()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("rewards", [[0.3, -0.9], [2.0, 2.0], [1.0, 0.0, -1.0, 1.0]])
def test_a_candidate_is_kept_as_often_as_its_reward_says(rewards, temperature):
    weights = torch.tensor([reward / temperature for reward in rewards], dtype=torch.float64).exp()
    expected = (weights / weights.sum()).tolist()
    assert frequencies(rewards, temperature) == pytest.approx(expected, abs=0.005)  # four standard errors


def test_a_cold_choice_takes_the_best_and_a_hot_one_any():
    rewards = [-0.1, 0.4, 0.3]
    assert frequencies(rewards, 1e-3) == [0, 1, 0]
    assert frequencies([1e6 * reward for reward in rewards], 1e-3) == [0, 1, 0]
    assert frequencies(rewards, 1e6) == pytest.approx([1 / 3] * 3, abs=0.005)


def test_a_choice_knows_neither_the_order_of_candidates_nor_what_is_added_to_all():
    rewards, gumbel = torch.randn(64, 5, generator=rng.generator("rewards")), gumbel_of(64, 5)
    choice, entropy = chosen(rewards, gumbel, 0.7)
    order = torch.randperm(5, generator=rng.generator("order"))
    permuted, again = chosen(rewards[:, order] + 3, gumbel[:, order], 0.7)
    assert torch.equal(order[permuted], choice)
    torch.testing.assert_close(again, entropy)


def test_the_entropy_of_a_choice_is_that_of_its_probabilities():
    rewards = torch.tensor([[0.3, -0.9, 1.2], [0.0, 0.0, 0.0]])
    expected = 0.0
    for row in rewards.double():
        probabilities = (row / 0.7).exp() / (row / 0.7).exp().sum()
        expected += -(probabilities * probabilities.log()).sum().item() / torch.tensor(3.0).log().item() / 2
    _, entropy = chosen(rewards, torch.zeros(2, 3), 0.7)
    assert entropy.item() == pytest.approx(expected, rel=1e-5)
    assert chosen(rewards[1:], torch.zeros(1, 3), 0.7)[1].item() == pytest.approx(1)
    assert chosen(rewards[:1], torch.zeros(1, 3), 1e-3)[1].item() == 0


@pytest.mark.parametrize("number", [2, 3])
def test_what_is_kept_of_a_generator_moves_towards_what_the_discriminator_knows(number):
    made, real = torch.tensor([0.6, 0.3, 0.1]), torch.tensor([0.2, 0.3, 0.5])
    logits = (real / made).log()  # of a D that knows both, up to a constant
    kept = torch.zeros(3, dtype=torch.float64)
    for images in product(range(3), repeat=number):  # all candidates that a latent may have
        weights = logits[list(images)].double().exp()
        for image, weight in zip(images, weights / weights.sum(), strict=True):
            kept[image] += made[list(images)].double().prod() * weight
    images = torch.multinomial(made, 200_000 * number, replacement=True, generator=rng.generator("images"))
    images = images.view(-1, number)
    choice, _ = chosen(logits[images], gumbel_of(len(images), number), 1.0)
    found = images.gather(1, choice[:, None]).flatten().bincount() / len(images)
    torch.testing.assert_close(found.double(), kept, rtol=0, atol=0.005)
    assert (found - real).abs().sum() < (made - real).abs().sum()


def gan_of(trainer: Trainer) -> Any:
    return trainer.lab.sources["gan"]


def test_a_draw_begins_with_the_latents_that_are_shown_without_a_choice():
    alone, two, four = (
        gan_of(trainer_of(tiny_config({"synthetic.gan.candidates": number}))).draw(6, 0, 3) for number in (1, 2, 4)
    )
    assert alone.candidates is None
    assert torch.equal(alone.latents, two.latents)
    assert torch.equal(alone.latents, four.latents)
    assert two.candidates.others.shape == (6, 1, 8)
    assert four.candidates.others.shape == (6, 3, 8)
    shown = torch.cat([four.latents[:, None], four.candidates.others], dim=1).flatten(0, 1)
    assert len(shown.unique(dim=0)) == 24


def test_a_choice_that_takes_the_first_is_a_run_without_one(monkeypatch):
    plain = trainer_of(tiny_config())
    history = plain.advance(4)
    first = lambda rewards, *_: (torch.zeros(len(rewards), dtype=torch.int64), torch.zeros(()))  # noqa: E731
    monkeypatch.setattr(candidates, "chosen", first)
    choosing = trainer_of(tiny_config(FOUR))
    again = choosing.advance(4)
    assert [point.pop("gan/choice_entropy") for point in again] == [0.0] * 4
    assert again == history
    for name, network in vars(plain.networks).items():  # what D's normalisation has gathered, too
        for key, value in network.state_dict().items():
            assert torch.equal(value, getattr(choosing.networks, name).state_dict()[key]), (name, key)
    assert all(network.training for network in vars(choosing.networks).values())


def test_one_image_of_each_latents_candidates_is_shown_and_the_coldest_choice_is_the_most_real():
    trainer = trainer_of(tiny_config(FOUR))
    gan, networks = gan_of(trainer), trainer.networks
    draw = gan.draw(5, 0, 3)
    real = torch.rand(5, 1, 16, 16, generator=rng.generator("real"))
    made, slow = gan.make(Asked(draw, real), OWN | {"candidates_temperature": 1e-3}).parts
    networks.discriminator.eval()
    for row in range(5):
        together = torch.cat([draw.latents[row][None], draw.candidates.others[row]])
        with torch.no_grad():
            images, slow_images = networks.generator(together), networks.generator_ema(together)
            best = networks.discriminator(images).argmax()
        torch.testing.assert_close(made[row], images[best])
        torch.testing.assert_close(slow[row], slow_images[best])  # of the same latent


def test_what_is_kept_learns_as_if_it_had_been_drawn():
    found = []
    for source in (FOUR, {}):
        trainer = trainer_of(tiny_config(source | {"synthetic.gan.hardness_unit": "weight"}))
        gan, own = gan_of(trainer), OWN | {"hardness": 0.7}
        draw = gan_of(trainer_of(tiny_config(FOUR))).draw(6, 0, 3)
        if not source:
            judges = trainer.networks.generator, trainer.networks.discriminator
            latents, _ = candidates.kept(draw.latents, draw.candidates, *judges, 1.0)
            draw = draw._replace(latents=latents, candidates=None)
        made = gan.make(Asked(draw, torch.rand(6, 1, 16, 16, generator=rng.generator("real"))), own)
        (made.parts[0].square().mean() + gan.restraint(made.own)).backward()
        found.append([parameter.grad for parameter in trainer.networks.generator.parameters()])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("arm", ["joint", "frozen-gan"])
def test_a_run_that_chooses_is_another_one_and_goes_on_from_its_state_bit_for_bit(arm):
    config = apply_arm(tiny_config(FOUR | COLD), arm)
    whole, first = trainer_of(config), trainer_of(config)
    history = whole.advance(4)
    first.advance(2)
    assert continued(first).advance(4) == history[2:]
    assert history != trainer_of(apply_arm(tiny_config(COLD), arm)).advance(4)
    assert all(0 <= point["gan/choice_entropy"] <= 1 for point in history)


def test_a_temperature_may_fall_and_is_read_only_where_there_is_a_choice():
    ramp = {"kind": "linear", "start": 4.0, "end": 0.5}
    history = trainer_of(tiny_config(FOUR | {"synthetic.gan.candidates_temperature": ramp})).advance(8)
    temperatures = [point["knob/synthetic.gan.candidates_temperature"] for point in history]
    assert temperatures == sorted(temperatures, reverse=True)
    assert temperatures[0] == 4
    field = "synthetic.gan.candidates_temperature.start"
    assert not reads(tiny_config(), field)
    assert reads(tiny_config(FOUR), field)


def test_generator_and_discriminator_still_learn_where_autocast_keeps_their_weights():
    trainer = trainer_of(tiny_config(FOUR | {"training.precision": "bf16", "synthetic.gan.spectral_norm": False}))
    trainer.advance(1)
    for network in (trainer.networks.generator, trainer.networks.discriminator):
        weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]  # hinges may move no bias
        assert all(weight.grad is not None and weight.grad.norm() > 0 for weight in weights)


SLOW_GAN = {f"synthetic.gan.{network}_learning_rate": 1e-5 for network in ("generator", "discriminator")}


def work(rank: int, folder: str) -> None:
    """One of two processes."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    trainer = trainer_of(tiny_config(FOUR | SLOW_GAN | {"compute.workers_per_trial": 2}))
    torch.save((trainer.advance(2), trainer.networks.generator.state_dict()), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_choose_as_one(tmp_path):
    torch.multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    (first, weights), (second, others) = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first == second
    alone = trainer_of(tiny_config(FOUR | SLOW_GAN))
    for one, two in zip(alone.advance(2), first, strict=True):
        assert one == pytest.approx(two, rel=1e-3, abs=1e-4)
    for name, value in alone.networks.generator.state_dict().items():
        assert torch.equal(weights[name], others[name])
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-4)
