"""A folder of synthetic images in a step: whose groups its views join, how many there are, and what they teach."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from small_trainer import FOLDER, random_folders, random_images, tiny_config, trainer_of

from synthcl.core import distributed
from synthcl.data import StreamedImages
from synthcl.method.curriculum.mix import Mix, Share, mix_at
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.objectives.ppcl import ppcl
from synthcl.method.synthetic.folder import Twins, choose_twins, rows_of_slots
from synthcl.training.batch import groups_and_order
from synthcl.training.plan import Images, Seen

PAIRED = {"synthetic.gan": None, "synthetic.twins": {"kind": "folder", "path": "mine", "pairs": "names"}}
ALONE = FOLDER | {"synthetic.gan": None}


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("portions", [(1.0, 1.0, 1.0), (1.0, 0.5, 4.0), (1.0, 0.01, 1.0)])
def test_sources_share_the_synthetic_views_by_their_portions(fraction, portions):
    sources = {name: Share(views, portion) for name, views, portion in zip("abc", (4, 2, 1), portions, strict=True)}
    for workers in (1, 2):
        mix = mix_at(
            Constant(start=fraction), 0.0, batch_images=512, views_per_image=2, sources=sources, workers=workers
        )
        views = {name: sources[name].views_per_group * count for name, count in mix.groups.items()}
        assert 2 * mix.real + sum(views.values()) == 1024
        assert abs(sum(views.values()) - 1024 * fraction) <= 4 * workers / 2
        for name, portion in zip("abc", portions, strict=True):
            assert abs(views[name] - sum(views.values()) * portion / sum(portions)) < 4 * workers
            assert mix.groups[name] % workers == 0


def test_a_portion_of_0_is_a_source_that_is_not_there():
    beside = tiny_config(FOLDER | {"synthetic.mine.portion": 0.0})
    assert not beside.folders_on
    assert beside.mix_at(0.5) == tiny_config().mix_at(0.5) == Mix(8, {"gan": 4})
    assert trainer_of(beside).advance(1) == trainer_of(tiny_config()).advance(1)


@pytest.mark.parametrize(("groups", "real"), [(4, 8), (8, 8), (6, 8), (16, 8), (20, 8)])
def test_a_slot_stays_with_its_row_in_the_process_that_has_it(groups, real, monkeypatch):
    rows = rows_of_slots(groups, real)
    assert rows.tolist() == [slot * real // groups for slot in range(groups)]
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        own = distributed.rows(real)
        assert all(own.start <= row < own.stop for row in rows[distributed.rows(groups)].tolist())


def test_every_slot_gets_one_of_the_twins_of_its_image_and_in_time_each_of_them():
    origins = torch.tensor([3, 0, 3, 5, 3, 0])  # of six files; images 1, 2 and 4 have no twin
    twins, positions = Twins.of(origins, 6), torch.tensor([3, 1, 0, 5])
    assert twins.covered == 3
    seen = {}
    for step in range(200):
        chosen = choose_twins(twins, positions, 8, 0, "key", step)
        assert torch.equal(chosen, choose_twins(twins, positions, 8, 0, "key", step))
        for slot, file in enumerate(chosen.tolist()):
            position = positions[slot // 2].item()
            assert file == -1 if position == 1 else origins[file] == position
            seen.setdefault(position, []).append(file)
        assert chosen[0] != chosen[1]  # of three twins, one image gets two in a step
        assert chosen[6] == chosen[7] == 3  # of one, the same twice
    for position, files in {3: {0, 2, 4}, 0: {1, 5}, 5: {3}, 1: {-1}}.items():
        assert {*seen[position]} == files
        counts = torch.tensor([seen[position].count(file) for file in files])
        assert counts.float().std(correction=0) / counts.float().mean() < 0.2


def test_a_twin_is_a_positive_of_its_own_image_and_a_negative_of_every_other():
    config = tiny_config(PAIRED)
    mix = config.mix_at(0.5)
    assert (mix.real, mix.groups) == (8, {"twins": 16})
    groups, _ = groups_and_order(mix, 2, config.sources_on)
    assert groups.tolist() == [*range(8), *range(8), *(slot // 2 for slot in range(16))]
    z = torch.nn.functional.normalize(torch.randn(32, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    z = z.requires_grad_()
    (gradient,) = torch.autograd.grad(ppcl(z, groups, 0.5), z)
    pull = -gradient[16] @ z[[0, 8]].T  # along its own image's views, whose similarity the loss raises
    push = -gradient[16] @ z[1:8].T
    assert pull.mean() > push.mean()


def test_a_paired_step_shows_twins_and_real_images_where_there_are_none():
    config = tiny_config(PAIRED)
    trainer = trainer_of(config)
    images, folder = random_images(), random_folders(config)["twins"]
    plan = Images(images, {"twins": folder}).plan(config, trainer.lab.sources, Seen(), range(3))
    for step, planned in enumerate(plan):
        assert torch.equal(
            planned.files["twins"], choose_twins(folder.twins, planned.real, 16, 0, "synthetic twins", step)
        )
    shown = []
    make = trainer.lab.sources["twins"].make
    trainer.lab.sources["twins"].make = lambda asked, own: (shown.append(asked.shown), make(asked, own))[1]
    history = trainer.advance(1)
    first = next(Images(images, {"twins": folder}).plan(config, trainer.lab.sources, Seen(), range(1)))
    for slot, file in enumerate(first.files["twins"].tolist()):
        source, row = (images, first.real[slot // 2]) if file < 0 else (folder.images, torch.tensor(file))
        assert torch.equal((shown[0][slot] * 255).round().byte(), source.fetch(row[None])[0])
    assert -1 in first.files["twins"]
    assert (first.files["twins"] >= 0).any()
    assert -1 <= history[0]["synthetic/twins/twin_similarity"] <= 1


def test_the_control_shows_the_real_images_again_and_needs_no_file():
    config = tiny_config(PAIRED | {"synthetic.twins.twins": "none"})
    trainer = trainer_of(config)
    trainer.shown.folders["twins"] = replace(random_folders(config)["twins"], twins=None)
    plan = trainer.shown.plan(config, trainer.lab.sources, Seen(), range(2))
    assert all((planned.files["twins"] == -1).all() for planned in plan)
    assert trainer.advance(1)[0]["loss/contrast"] > 0


def test_an_unpaired_folder_is_shown_in_shuffled_epochs_that_a_resumed_run_goes_on_with():
    config = tiny_config(ALONE | {"curriculum.synthetic_fraction": {"kind": "linear", "start": 0.2, "end": 0.8}})
    trainer = trainer_of(config)
    plan = list(trainer.shown.plan(config, trainer.lab.sources, Seen(), range(8)))
    sequence = torch.cat([planned.files["mine"] for planned in plan]).tolist()
    assert sorted(sequence[:30]) == list(range(30))  # all 30 files before one comes again
    assert len(sequence) > 30
    trainer.advance(3)
    again = list(trainer.shown.plan(config, trainer.lab.sources, trainer.seen, range(3, 8)))
    assert all(torch.equal(one.files["mine"], other.files["mine"]) for one, other in zip(plan[3:], again, strict=True))


def test_a_folder_alone_needs_no_generator_and_no_warm_up():
    trainer = trainer_of(tiny_config(ALONE))
    assert trainer.networks.generator is trainer.networks.discriminator is trainer.optimizers.generator is None
    history = trainer.advance(2)
    assert {"synthetic/mine/realism_gap", "synthetic/mine/diversity"} <= history[-1].keys()
    assert not any(name.startswith("gan/") for name in history[-1])
    assert trainer.samples() is None


def test_files_are_read_ahead_from_disk_as_they_would_be_from_memory(tmp_path):
    config = tiny_config(ALONE)
    folder = random_folders(config)["mine"]
    for index, image in enumerate(folder.images.fetch(torch.arange(30))):
        Image.fromarray(image[0].numpy()).save(tmp_path / f"{index}.png")
    names = tuple(f"{index}.png" for index in range(30))
    streamed = trainer_of(config)
    from_disk = StreamedImages(tmp_path, names, 16, 1, "cpu")
    streamed.shown.folders["mine"] = replace(folder, images=from_disk)
    assert streamed.advance(3) == trainer_of(config).advance(3)
