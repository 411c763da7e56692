"""The order in which clusters of real images are balanced: how often each is shown, and that runs agree about it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_trainer import (
    CPU,
    random_folders,
    random_images,
    tiny_config,
    trainer_of,
    untrained_gan,
    whole_and_continued,
)

from synthcl.core import rng
from synthcl.core.errors import UserError
from synthcl.core.rng import epoch_indices
from synthcl.data import ResidentImages
from synthcl.method.curriculum.balance import Balance, quotas
from synthcl.training.clusters import clusters_of
from synthcl.training.plan import Images, Seen
from synthcl.training.trainer import Trainer

KEY = (7, "real")
COUNTS = (70, 22, 7, 1)
HALF = {"curriculum.balance.strength": 0.8, "curriculum.balance.clusters": 3, "curriculum.balance.begin": 0.5}


def unbalanced() -> torch.Tensor:
    """A hundred images in clusters of these sizes, which lie anywhere; number 2 has none."""
    kinds = torch.tensor([0, 1, 3, 4]).repeat_interleave(torch.tensor(COUNTS))
    return kinds[torch.randperm(100, generator=rng.generator("clusters"))]


@pytest.mark.parametrize(("begin", "size"), [(0, 100), (30, 50), (95, 220), (250, 0)])
def test_without_strength_the_order_is_that_without_clusters(begin, size):
    assert torch.equal(Balance(unbalanced(), 0.0).indices(begin, size, *KEY), epoch_indices(100, begin, size, *KEY))


@pytest.mark.parametrize("strength", [0.0, 0.3, 0.5, 1.0])
def test_places_of_a_cluster_are_a_power_of_its_images_but_for_one(strength):
    weights = [count ** (1 - strength) for count in COUNTS]
    expected = [100 * weight / sum(weights) for weight in weights]
    found = quotas(COUNTS, strength)
    assert sum(found) == 100
    assert all(abs(places - exact) < 1 for places, exact in zip(found, expected, strict=True))
    clusters = unbalanced()
    shown = Balance(clusters, strength).indices(300, 100, *KEY)  # the fourth epoch
    assert clusters[shown].bincount()[[0, 1, 3, 4]].tolist() == found


def test_clusters_of_any_sizes_are_shown_alike_at_full_strength():
    shown = unbalanced()[Balance(unbalanced(), 1.0).indices(0, 100, *KEY)]
    assert shown.bincount().tolist() == [25, 25, 0, 25, 25]


def test_images_of_a_cluster_take_turns_over_epochs():
    clusters = unbalanced()
    times = Balance(clusters, 0.7).indices(0, 900, *KEY).bincount(minlength=100)
    for kind in (0, 1, 3, 4):
        assert times[clusters == kind].max() - times[clusters == kind].min() <= 1


def test_an_order_is_a_function_of_its_arguments_whoever_asks_and_in_whatever_pieces():
    whole = Balance(unbalanced(), 0.6).indices(0, 500, *KEY)
    again = Balance(unbalanced(), 0.6)
    pieces = {begin: again.indices(begin, 37, *KEY) for begin in (400, 80, 0, 390)}
    for begin, piece in pieces.items():
        assert torch.equal(piece, whole[begin : begin + 37])
    assert not torch.equal(again.indices(0, 500, 7, "judged"), whole)
    assert torch.equal(again.indices(0, 500, *KEY), whole)
    assert not torch.equal(whole[:100].sort().values, whole[100:200].sort().values)  # turns are taken
    assert not torch.equal(whole[:100], whole[:100].sort().values)  # and epochs shuffled


def test_dark_and_bright_images_are_clusters_of_an_encoder_that_stays_as_it_is():
    trainer = trainer_of(tiny_config(HALF | {"curriculum.balance.clusters": 2}))
    noise = torch.randint(0, 20, (40, 1, 16, 16), generator=rng.generator("noise"), dtype=torch.uint8)
    bright = torch.arange(40) % 5 == 0
    images = ResidentImages(noise + 230 * bright[:, None, None, None].to(torch.uint8), CPU)
    before = {name: value.clone() for name, value in trainer.lab.encoder.state_dict().items()}
    trainer.lab.encoder.train()
    clusters = clusters_of(trainer.lab.encoder, images, trainer.config)
    assert torch.equal(clusters == clusters[0], bright)
    assert trainer.lab.encoder.training
    for name, value in trainer.lab.encoder.state_dict().items():
        assert torch.equal(value, before[name])


def shown(trainer: Trainer, steps: range) -> list[torch.Tensor]:
    plan = trainer.shown.plan(trainer.config, trainer.lab.sources, Seen(), steps)
    return [planned.real for planned in plan]


def test_a_plan_balances_what_the_encoder_sees_and_what_the_discriminator_does():
    trainer = trainer_of(tiny_config())
    clusters = torch.zeros(40, dtype=torch.int64)
    clusters[3] = 1
    plain = torch.cat(shown(trainer, range(40)))
    trainer.shown = Images(trainer.images, {}, Balance(clusters, 1.0))
    steps = torch.stack(shown(trainer, range(40)))  # 8 real images a step, and 4 that D judges: whole epochs of both
    for part, epochs in ((steps[:, :8], 8), (steps[:, 8:], 4)):
        assert (part == 3).sum() == 20 * epochs
    assert (plain == 3).sum() == 12


def test_a_run_is_as_without_balance_until_it_begins_and_tells_what_it_does():
    plain, balanced = trainer_of(tiny_config()).advance(8), trainer_of(tiny_config(HALF)).advance(8)
    told = ["balance/largest_cluster" in point for point in balanced]
    assert told == [False] * 4 + [True] * 4
    assert balanced[:4] == plain[:4]
    assert balanced[4]["loss/contrast"] != plain[4]["loss/contrast"]
    assert 1 / 3 <= balanced[4]["balance/largest_cluster"] < 1 <= balanced[4]["balance/repeats"]
    assert trainer_of(tiny_config(HALF | {"curriculum.balance.strength": 0.0})).advance(8) == plain


@pytest.mark.parametrize("begin", [0.0, 0.5])
@pytest.mark.parametrize("stop", [2, 4, 6])
def test_a_balanced_run_goes_on_from_its_state_bit_for_bit(begin, stop):
    config = tiny_config(HALF | {"curriculum.balance.begin": begin})
    whole, second = whole_and_continued(config, stop, steps=8)
    assert torch.equal(second.shown.balance.clusters, whole.shown.balance.clusters)


def test_a_run_that_goes_back_before_its_clusters_makes_them_again():
    trainer = trainer_of(tiny_config(HALF))
    trainer.advance(2)
    good = trainer.state_dict()
    assert "clusters" not in good
    trainer.advance(6)
    trainer.go_back(good)
    assert trainer.shown.balance is None
    trainer.advance(6)
    assert trainer.shown.balance is not None


def test_real_images_alone_and_folders_beside_them_are_balanced_too():
    for overrides in ({"curriculum.synthetic_fraction": 0.0}, {"synthetic.mine": {"kind": "folder", "path": "mine"}}):
        config = tiny_config(HALF | overrides)
        gan = untrained_gan(config) if config.needs_gan else None
        trainer = Trainer(config, random_images(), gan, CPU, random_folders(config))
        assert "balance/repeats" in trainer.advance(8)[-1]


def test_more_clusters_than_images_are_refused_with_both_numbers():
    with pytest.raises(UserError, match="clusters 41 are more than the 40 unlabelled images"):
        trainer_of(tiny_config(HALF | {"curriculum.balance.clusters": 41}))


SLOW_GAN = {f"synthetic.gan.{network}_learning_rate": 1e-5 for network in ("generator", "discriminator")}
FROM_THE_START = HALF | SLOW_GAN | {"curriculum.balance.begin": 0.0}


def work(rank: int, folder: str) -> None:
    """One of two processes."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    found: dict[str, Any] = {}
    for name, overrides in (("start", FROM_THE_START), ("late", HALF | SLOW_GAN)):
        trainer = trainer_of(tiny_config(overrides | {"compute.workers_per_trial": 2}))
        if rank == 1:  # whose clusters would be others
            trainer.images = random_images(40, 16, "others")
        found[name] = trainer.advance(5), trainer.shown.balance.clusters
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_have_the_clusters_of_the_first_and_are_one(tmp_path):
    torch.multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for name in ("start", "late"):
        assert first[name][0] == second[name][0]
        assert torch.equal(first[name][1], second[name][1])
    alone = trainer_of(tiny_config(FROM_THE_START))
    history = alone.advance(5)
    assert torch.equal(alone.shown.balance.clusters, first["start"][1])
    for one, two in zip(history, first["start"][0], strict=True):
        assert one == pytest.approx(two, rel=1e-3, abs=1e-4)
