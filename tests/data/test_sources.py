"""Data sets by name, folders, and what is said when one cannot be opened."""

import os
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import STREAM, all_pixels, folder_config, one_line, write_classes, write_image
from sklearn.datasets import load_digits
from torchvision import datasets

from synthcl import data
from synthcl.config.sections import DataConfig
from synthcl.core.errors import UserError
from synthcl.data.sources import SOURCES

# ---- sources


def test_stl10_adds_its_unlabelled_images(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.STL10, "_check_integrity", lambda self: True)
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    (folder / "class_names.txt").write_text("\n".join(f"c{index}" for index in range(10)))
    (folder / "train_X.bin").write_bytes(np.repeat(np.arange(50, dtype=np.uint8), 3 * 96 * 96).tobytes())
    (folder / "train_y.bin").write_bytes((np.arange(50) % 10 + 1).astype(np.uint8).tobytes())
    (folder / "unlabeled_X.bin").write_bytes(np.repeat(np.arange(100, 130, dtype=np.uint8), 3 * 96 * 96).tobytes())
    config = DataConfig(source="stl10", root=str(tmp_path), image_size=32, channels=3)
    train, unlabelled = (data.open_split(config, name, "cpu") for name in ("train", "unlabelled"))
    values = all_pixels(train)[:, 0, 0, 0]
    assert torch.equal(values % 10, train.labels)
    assert sorted(all_pixels(unlabelled)[:, 2, 31, 31].tolist()) == sorted(values.tolist() + list(range(100, 130)))
    half = data.open_split(config.model_copy(update={"image_fraction": 0.5}), "unlabelled", "cpu")
    assert len(half.images) == 35


def test_the_digits_that_come_with_the_package_are_those_of_scikit_learn():
    table, source, config = load_digits(), SOURCES["digits"], DataConfig(source="digits")
    expected = zip(table.target, np.round(table.images * (255 / 16)).astype(np.uint8), strict=True)
    found = []
    for part in (source.train(config), source.test(config)):
        found += zip(part.labels.numpy(), part.pixels[..., 0], strict=True)
        assert part.classes == tuple(map(str, table.target_names))
    assert sorted((label, image.tobytes()) for label, image in found) == sorted(
        (label, image.tobytes()) for label, image in expected
    )


def test_folder_without_test_is_cut_and_says_so(tmp_path, caplog):
    write_classes(tmp_path, 10)  # classes directly under root
    config = folder_config(tmp_path)
    train, validation, test = (data.open_split(config, name, "cpu") for name in ("train", "validation", "test"))
    assert [torch.bincount(split.labels).tolist() for split in (train, validation, test)] == [[6, 6], [2, 2], [2, 2]]
    assert train.classes == test.classes == ("cat", "dog")
    assert "has no test folder: 20 % of every class, chosen by split_seed 0" in caplog.text


def test_folder_test_labels_follow_the_train_classes(tmp_path):
    write_classes(tmp_path / "train", 3, ("ant", "bee", "cow"))
    write_classes(tmp_path / "test", 2, ("cow",))
    test = data.open_split(folder_config(tmp_path), "test", "cpu")
    assert test.labels.tolist() == [2, 2]
    assert test.classes == ("ant", "bee", "cow")


def test_flat_folder_pretrains_on_every_image_but_has_no_labels(tmp_path):
    for index in range(5):
        write_image(tmp_path / f"{index}.jpg", index)
    config = folder_config(tmp_path)
    assert len(data.open_split(config, "unlabelled", "cpu").images) == 5
    for name in ("train", "validation", "test"):
        with pytest.raises(UserError, match=f"split '{name}' needs labels") as error:
            data.open_split(config, name, "cpu")
        one_line(error)


def test_links_to_classes_are_followed_and_loops_end(tmp_path):
    write_classes(tmp_path / "store", 4)
    write_image(tmp_path / "store" / "cat" / "deeper" / "x.PNG", 77)
    for name in ("cat", "dog"):
        os.makedirs(tmp_path / "set" / "train", exist_ok=True)
        os.symlink(tmp_path / "store" / name, tmp_path / "set" / "train" / name)
    os.symlink(tmp_path / "store" / "cat", tmp_path / "store" / "cat" / "deeper" / "up")
    os.symlink("itself", tmp_path / "store" / "cat" / "itself")
    (tmp_path / "store" / "dog" / ".hidden.png").write_bytes(b"")
    (tmp_path / "store" / "dog" / "readme.txt").write_text("no image")
    config = folder_config(tmp_path / "set", validation_fraction=0.01)
    splits = [data.open_split(config, name, "cpu") for name in ("train", "validation", "test")]
    assert sum(torch.bincount(split.labels) for split in splits).tolist() == [5, 4]


def test_imagenet100_expects_a_hundred_classes_in_its_own_folder(tmp_path):
    write_classes(tmp_path / "imagenet100" / "train", 2, tuple(f"n{index:03d}" for index in range(100)))
    config = folder_config(tmp_path, source="imagenet100", resident_limit_mib=STREAM)
    write_classes(tmp_path / "imagenet100" / "val", 1, ("n007",))
    assert len(data.open_split(config, "train", "cpu").classes) == 100
    assert data.open_split(config, "test", "cpu").labels.tolist() == [7]
    write_classes(tmp_path / "imagenet100" / "train", 1, ("extra",))
    with pytest.raises(UserError, match="has 101 class folders, not the 100 of imagenet100") as error:
        data.open_split(config, "train", "cpu")
    one_line(error)


def test_transfer_opens_another_set_at_the_same_size_and_channels(tmp_path):
    config = DataConfig(image_size=32, channels=3, image_fraction=0.1)
    digits = data.open_transfer("digits", config, "unlabelled", "cpu")
    assert all_pixels(digits).shape == (1151, 3, 32, 32)  # image_fraction is the pretraining set's own
    alone = data.open_split(config.model_copy(update={"source": "digits"}), "test", "cpu")
    assert data.open_transfer("digits", config, "test", "cpu").images.content_key == alone.images.content_key
    write_classes(tmp_path, 10)
    assert data.open_transfer(f"folder:{tmp_path}", config, "train", "cpu").classes == ("cat", "dog")


# ---- failures


@pytest.mark.parametrize(
    ("changes", "split", "message"),
    [
        ({"source": "cifar11"}, "train", "data.source 'cifar11' is unknown; choose fashion-mini, digits, fashion, .*"),
        ({}, "dev", "split 'dev' is unknown; choose unlabelled, train, validation, test"),
        ({"source": "folder", "root": "nowhere"}, "train", "'nowhere' is not a folder; put images at nowhere/train/.*"),
        (
            {"source": "fashion", "root": "nowhere"},
            "train",
            r"'nowhere/FashionMNIST/raw'.*set data\.download=true or put .*",
        ),
    ],
)
def test_bad_names_and_missing_folders(tmp_path, monkeypatch, changes, split, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        data.open_split(DataConfig(**changes), split, "cpu")
    one_line(error)


@pytest.mark.parametrize("name", ["svhn", "digits:1", "folder:"])
def test_unknown_transfer_sets(name):
    with pytest.raises(UserError, match=r"is unknown; choose fashion-mini, .*") as error:
        data.open_transfer(name, DataConfig(), "train", "cpu")
    one_line(error)


def test_a_failed_download_says_where_to_put_the_files(tmp_path, monkeypatch):
    def download(self):
        raise urllib.error.URLError("no network\nat all")

    monkeypatch.setattr(datasets.CIFAR10, "download", download)
    with pytest.raises(UserError, match=r"cifar-10-batches-py': .*no network.*; put its files there by hand") as error:
        data.open_split(DataConfig(source="cifar10", root=str(tmp_path), download=True), "train", "cpu")
    one_line(error)


def test_bad_folders_are_named(tmp_path):
    def message(root: Path) -> str:
        with pytest.raises(UserError) as error:
            data.open_split(folder_config(root), "train", "cpu")
        return one_line(error)

    (tmp_path / "bare").mkdir()
    assert f"{str(tmp_path / 'bare')!r} holds no images" in message(tmp_path / "bare")

    write_classes(tmp_path / "empty", 3)
    (tmp_path / "empty" / "eel").mkdir()
    assert f"class folder {str(tmp_path / 'empty' / 'eel')!r} holds no images" in message(tmp_path / "empty")

    write_classes(tmp_path / "mixed", 3)
    write_image(tmp_path / "mixed" / "stray.png", 0)
    assert "holds images ('stray.png') beside class folders ('cat')" in message(tmp_path / "mixed")

    write_classes(tmp_path / "few" / "train", 3)
    write_classes(tmp_path / "few" / "train", 1, ("eel",))
    write_classes(tmp_path / "few" / "test", 1)
    assert message(tmp_path / "few").startswith("class 'eel' has 1 image left to cut a validation part from")

    write_classes(tmp_path / "broken" / "train", 3)
    (tmp_path / "broken" / "train" / "dog" / "1.png").write_bytes(b"")
    write_classes(tmp_path / "broken" / "test", 1)
    assert f"image {str(tmp_path / 'broken' / 'train' / 'dog' / '1.png')!r} cannot be read" in message(
        tmp_path / "broken"
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_test_class_that_train_lacks_is_found_whichever_part_is_opened(tmp_path, split):
    write_classes(tmp_path / "train", 3)
    write_classes(tmp_path / "test", 1, ("fox",))
    with pytest.raises(UserError, match=r"class 'fox' of '.*test' is not among the classes of '.*train'; add") as error:
        data.open_split(folder_config(tmp_path), split, "cpu")
    one_line(error)


@pytest.mark.parametrize(
    ("classes", "labels", "message"),
    [
        (("cat",), [0, 0], "has one class, 'cat'; .* at least two"),
        (("cat", "dog", "eel"), [0, 2, 2], "class 'dog' has none of the 3 images of the validation split"),
    ],
)
def test_labels_that_no_probe_can_use_are_refused(classes, labels, message):
    split = data.Split(data.ResidentImages(torch.zeros(len(labels), 1, 16, 16), "cpu"), torch.tensor(labels), classes)
    with pytest.raises(UserError, match=rf"data set 'mine'.*{message}") as error:
        data.require_classes(split, "mine", "validation")
    one_line(error)


def test_a_streamed_file_that_is_no_image_is_found_without_decoding_the_others(tmp_path):
    write_classes(tmp_path / "train", 4)
    config = folder_config(tmp_path, resident_limit_mib=STREAM)
    images = data.open_split(config, "train", "cpu").images
    images.require_images()
    (tmp_path / "train" / images.names[-1]).write_text("<html>404</html>")
    with pytest.raises(UserError, match=rf"{images.names[-1]}' cannot be read: .*; replace or remove it") as error:
        images.require_images()
    one_line(error)
