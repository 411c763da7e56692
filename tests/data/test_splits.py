"""Which images and labels every split of a source holds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import all_pixels, folder_config, one_line, rows, write_classes, write_idx

from synthcl import data
from synthcl.config.sections import DataConfig
from synthcl.core.errors import UserError
from synthcl.data.part import Part, stratified_cut

# ---- splits


@pytest.mark.parametrize("source", ["fashion-mini", "digits"])
def test_splits_are_reproducible_stratified_and_have_the_published_counts(source):
    config = DataConfig(source=source)
    splits = {name: data.open_split(config, name, "cpu") for name in ("train", "validation", "test")}
    assert sum(len(split.images) for split in splits.values()) == {"fashion-mini": 12000, "digits": 1797}[source]
    shares = [torch.bincount(split.labels, minlength=10) / len(split.labels) for split in splits.values()]
    for share in shares:
        torch.testing.assert_close(share, shares[0], atol=0.004, rtol=0)
    assert len(splits["validation"].labels) / (len(splits["train"].labels) + len(splits["validation"].labels)) == (
        pytest.approx(0.2, abs=0.003)
    )
    for name, split in splits.items():
        again = data.open_split(config, name, "cpu")
        assert torch.equal(again.labels, split.labels)
        assert again.images.content_key == split.images.content_key
        assert len(split.classes) == 10
        assert split.labels.dtype == torch.int64


def test_embedded_parts_are_balanced_and_decode_to_the_published_images():
    splits = [data.open_split(DataConfig(), name, "cpu") for name in ("train", "validation", "test")]
    assert [torch.bincount(split.labels).tolist() for split in splits] == [[800] * 10, [200] * 10, [200] * 10]
    assert splits[2].classes[9] == "Ankle boot"
    # mean and spread of all of Fashion-MNIST, as commonly published: 0.2860 and 0.3530
    pixels = torch.cat([all_pixels(split) for split in splits]).double() / 255
    assert float(pixels.mean()) == pytest.approx(0.286, abs=0.003)
    assert float(pixels.std()) == pytest.approx(0.353, abs=0.003)


def test_cut_is_disjoint_and_exhaustive_and_follows_its_key():
    labels = torch.tensor([0, 1, 2, 0, 1] * 20)
    part = Part(np.zeros((100, 4, 4, 1), np.uint8), labels, ("a", "b", "c"))
    kept, held_out = stratified_cut(part, 0.25, 7, "validation")
    assert sorted(kept.tolist() + held_out.tolist()) == list(range(100))
    assert torch.bincount(labels[held_out]).tolist() == [10, 10, 5]
    assert torch.equal(stratified_cut(part, 0.25, 7, "validation")[1], held_out)
    assert not torch.equal(stratified_cut(part, 0.25, 8, "validation")[1], held_out)


def test_cut_leaves_every_class_on_both_sides():
    part = Part(np.zeros((4, 4, 4, 1), np.uint8), torch.tensor([0, 0, 1, 1]), ("a", "b"))
    for fraction in (0.01, 0.99):
        kept, held_out = stratified_cut(part, fraction, 0, "validation")
        assert len(kept) == len(held_out) == 2


def test_folder_splits_share_no_image_and_miss_none(tmp_path):
    write_classes(tmp_path / "train", 10)
    config = folder_config(tmp_path)
    found = [name for split in ("train", "validation", "test") for name in rows(data.open_split(config, split, "cpu"))]
    assert len(found) == len(set(found)) == 20


def test_split_seed_moves_the_validation_cut_but_not_the_digits_test():
    first, second = (DataConfig(source="digits", split_seed=seed) for seed in (0, 1))
    keys = [[data.open_split(c, n, "cpu").images.content_key for c in (first, second)] for n in ("validation", "test")]
    assert keys[0][0] != keys[0][1]
    assert keys[1][0] == keys[1][1]


def test_unlabelled_fractions_are_nested_in_train_and_carry_no_labels():
    train = set(rows(data.open_split(DataConfig(), "train", "cpu")))
    nested = []
    for fraction in (0.05, 0.3, 1.0):
        split = data.open_split(DataConfig(image_fraction=fraction), "unlabelled", "cpu")
        assert len(split.images) == round(8000 * fraction)
        assert split.labels.shape == (0,)
        nested.append(set(rows(split)))
    assert nested[0] < nested[1] < nested[2] == train


# ---- the test part


def test_embedded_test_file_is_read_for_test_only(monkeypatch):
    opened = []
    original = np.load
    monkeypatch.setattr(
        np, "load", lambda file, **kwargs: opened.append(Path(file.name).name) or original(file, **kwargs)
    )
    for name in ("unlabelled", "train", "validation"):
        data.open_split(DataConfig(), name, "cpu")
    assert set(opened) == {"fashion-mini-train.npz"}
    opened.clear()
    data.open_split(DataConfig(), "test", "cpu")
    assert opened == ["fashion-mini-test.npz"]


@pytest.mark.parametrize(("source", "folder"), [("fashion", "FashionMNIST/raw"), ("mnist", "MNIST/raw")])
def test_torchvision_test_files_are_read_for_test_only(tmp_path, source, folder):
    write_idx(tmp_path / folder, "train", np.arange(50) % 10)
    for kind in ("images-idx3", "labels-idx1"):
        (tmp_path / folder / f"t10k-{kind}-ubyte").write_bytes(b"not an idx file")
    config = DataConfig(source=source, root=str(tmp_path))
    train, validation = (data.open_split(config, name, "cpu") for name in ("train", "validation"))
    assert len(data.open_split(config, "unlabelled", "cpu").images) == len(train.images) == 40
    for split in (train, validation):  # image k is filled with k and has label k % 10
        assert torch.equal(all_pixels(split)[:, 0, 0, 0] % 10, split.labels)
    with pytest.raises(UserError, match="cannot be opened from") as error:
        data.open_split(config, "test", "cpu")
    one_line(error)
    write_idx(tmp_path / folder, "t10k", np.arange(20) % 10)
    assert len(data.open_split(config, "test", "cpu").images) == 20


def test_folder_test_images_are_read_for_test_only(tmp_path):
    write_classes(tmp_path / "train", 5)
    for name in ("cat", "dog"):
        (tmp_path / "val" / name).mkdir(parents=True)
        (tmp_path / "val" / name / "broken.png").write_bytes(b"broken")
    config = folder_config(tmp_path)
    assert [len(data.open_split(config, n, "cpu").images) for n in ("unlabelled", "train", "validation")] == [8, 8, 2]
    with pytest.raises(UserError, match=r"broken\.png"):
        data.open_split(config, "test", "cpu")
