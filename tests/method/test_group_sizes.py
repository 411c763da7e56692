"""Groups of more views: the loss is SupCon's for every size, and a step encodes as many views whatever the sizes."""

import math

import pytest
import torch
from small_trainer import FOLDER, tiny_config, trainer_of, unit

from synthcl.core.errors import UserError
from synthcl.method.objectives.ppcl import nt_xent, ppcl
from synthcl.search.settings import reads

SIZES = [2, 3, 4, 6, 8]
ALONE = FOLDER | {"synthetic.gan": None}


def stable_rep_loop(z, groups, temperature):
    """StableRep, eq. 1 and 2, which is SupCon's L_out: cross-entropy of q_ij and p_ij = [g_i = g_j] / their number."""
    z, total = z.double(), 0.0
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        scores = {j: math.exp(z[i] @ z[j] / temperature) for j in others}
        positives = [j for j in others if groups[j] == groups[i]]
        for j in positives:
            total -= math.log(scores[j] / sum(scores.values())) / len(positives)
    return total / len(z)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_ppcl_of_groups_of_any_size_is_supcon_and_of_two_is_nt_xent(size, temperature):
    z, groups = unit(24, 5, "z"), (torch.arange(24) % (24 // size)).tolist()
    found = ppcl(z, torch.tensor(groups), temperature)
    assert found.item() == pytest.approx(stable_rep_loop(z, groups, temperature), rel=1e-5)
    if size == 2:
        torch.testing.assert_close(found, nt_xent(z[:12], z[12:], temperature))


def test_ppcl_of_perfect_groups_is_analytic():
    for size in SIZES:
        z = torch.eye(4).repeat(size, 1)  # views of an image coincide, images are orthogonal
        expected = math.log(size - 1 + 3 * size * math.exp(-1 / 0.2))
        assert ppcl(z, torch.arange(4).repeat(size), 0.2).item() == pytest.approx(expected, rel=1e-5)


def settings(real: int, synthetic: int, source: str) -> dict:
    sizes = {
        "pairs": {"synthetic.gan.views_per_pair": synthetic},
        "singles": {"synthetic.gan.pair": False, "synthetic.gan.views_per_image": synthetic},
        "folder": ALONE | {"synthetic.mine.views_per_image": synthetic},
    }
    batch = {"training.batch_images": 24, "training.kimg": 0.192, "training.log_kimg": 0.024}
    return batch | sizes[source] | {"training.views_per_image": real}


def check_step(real: int, synthetic: int, source: str) -> None:
    config = tiny_config(settings(real, synthetic, source))
    trainer, encoded, groups = trainer_of(config), [], []
    trainer.lab.encoder.register_forward_hook(lambda _, images, out: encoded.append(len(out)))
    trainer.lab.views["base"].register_forward_pre_hook(lambda _, given: groups.append(given[0].members[:, 0]))
    history = trainer.advance(1)
    assert encoded == [48]
    mix, name = config.mix_at(0.0), "mine" if source == "folder" else "gan"
    assert mix.real > 0 < mix.groups[name]
    assert groups[0].bincount().tolist() == [real] * mix.real + [synthetic] * mix.groups[name]
    assert all(math.isfinite(value) for value in history[0].values())


@pytest.mark.parametrize("source", ["pairs", "singles", "folder"])
def test_a_step_encodes_as_many_views_in_groups_of_the_sizes_asked_for(source):
    for real in SIZES:
        for synthetic in SIZES:
            if source != "pairs" or synthetic % 2 == 0:
                check_step(real, synthetic, source)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_no_share_of_any_sizes_asks_for_more_views_than_there_are(fraction):
    for workers in (1, 2):
        for real in SIZES:
            for pair in (2, 4, 6, 8):
                overrides = {"training.batch_images": 48, "compute.workers_per_trial": workers}
                overrides |= {"training.views_per_image": real, "synthetic.gan.views_per_pair": pair}
                mix = tiny_config(overrides | {"curriculum.synthetic_fraction": fraction}).mix_at(0.5)
                assert real * mix.real + pair * mix.latents == 96
                assert mix.real >= 0 <= mix.latents
                assert mix.real % workers == mix.latents % workers == 0
                assert abs(pair * mix.latents / 96 - fraction) <= math.lcm(real, pair) * workers / 96 / 2 + 1e-9


def test_a_pairs_views_are_half_of_g_and_half_of_its_average():
    config = tiny_config(settings(2, 6, "pairs"))
    source = trainer_of(config).lab.sources["gan"]
    assert (source.views_per_group, source.views_per_part) == (6, 3)
    single = trainer_of(tiny_config(settings(2, 3, "singles"))).lab.sources["gan"]
    assert (single.views_per_group, single.views_per_part) == (3, 3)


def test_groups_of_three_stand_beside_mixers_and_bandits():
    more = {"views.mix": {"kind": "resizemix", "share": 1.0}, "curriculum.mix": {"kind": "exp3", "floor": 0.3}}
    config = tiny_config(settings(3, 3, "singles") | more)
    history = trainer_of(config).advance(3)
    assert all(math.isfinite(value) for point in history for value in point.values())
    assert {"reward/real", "reward/gan"} <= {*history[0]}


def test_the_sizes_of_before_are_what_they_were():
    """Old fields at their old values make the same steps, and a new field that nobody reads changes nothing."""
    plain = trainer_of(tiny_config()).advance(2)
    assert trainer_of(tiny_config({"synthetic.gan.views_per_image": 8})).advance(2) == plain
    assert not reads(tiny_config(), "synthetic.gan.views_per_image")
    assert reads(tiny_config({"synthetic.gan.pair": False}), "synthetic.gan.views_per_image")


TOGETHER = settings(3, 6, "pairs") | {
    f"synthetic.gan.{network}_learning_rate": 1e-5 for network in ("generator", "discriminator")
}
"""in which Adam makes no whole steps of rounding errors of tiny gradients"""


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    config = tiny_config(TOGETHER | {"compute.workers_per_trial": 2})
    torch.save(trainer_of(config).advance(2), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_are_one(tmp_path):
    torch.multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    both = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert both[0] == both[1]
    for one, two in zip(trainer_of(tiny_config(TOGETHER)).advance(2), both[0], strict=True):
        assert one == pytest.approx(two, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"training.views_per_image": 3},
            r"batch_images 16 makes 32 views a step, .*3 of training\.views_per_image, 4 of",
        ),
        (
            {"synthetic.gan.views_per_pair": 6},
            r"6 of synthetic\.gan do not divide equally among 1 workers; .*such as 18",
        ),
        ({"training.views_per_image": 8, "compute.workers_per_trial": 8}, r"among 8 workers; use a multiple of 32"),
        ({"synthetic.gan.views_per_pair": 3}, r"views_per_pair = 3: .*2, 4, 6 or 8"),
        (
            {"synthetic.mine": {"kind": "folder", "path": "mine", "pairs": "names", "views_per_image": 4}},
            r"views_per_image 4 is for images without pairs",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        tiny_config(overrides)
