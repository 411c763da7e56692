"""A `torch.utils.data.Dataset` of the user's own: what its items may be, and where they lie for every worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import STREAM, all_pixels, one_line, rows
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from synthcl import data
from synthcl.config.sections import DataConfig
from synthcl.core.errors import UserError
from synthcl.data.dataset_items import is_dataset, item_at
from synthcl.data.images import convert_image
from synthcl.data.written_dataset import write_dataset


class Items(Dataset[Any]):
    """What a list holds; some have names for numbers."""

    def __init__(self, items: list[Any], classes: tuple[str, ...] = ()) -> None:
        self.items, self.classes = items, classes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        found = self.items[index]
        if isinstance(found, Exception):
            raise found
        return found() if callable(found) else found


PIXELS = torch.randint(0, 256, (6, 3, 20, 24), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def opened(pixels: torch.Tensor) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("form", [opened, lambda pixels: pixels, lambda pixels: pixels.double() / 255])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_the_same_in_every_form_and_as_a_file_would_be(form, channels):
    expected = convert_image(opened(PIXELS[0]), 16, channels)
    assert torch.equal(item_at(Items([form(PIXELS[0])]), 0, 16, channels).pixels, expected)


@pytest.mark.parametrize(
    ("label", "name"),
    [(1, "dog"), (torch.tensor(0), "T-shirt/top"), (np.int64(7), "7"), (" owl ", "owl"), (None, None)],
)
def test_a_label_is_a_number_or_a_name_or_none(label, name):
    assert item_at(Items([(PIXELS[0], label)], ("T-shirt/top", "dog")), 0, 16, 3).label == name


def test_a_tuple_of_an_image_alone_has_no_label():
    assert item_at(TensorDataset(PIXELS), 2, 16, 3).label is None


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"image": 1}, "item 0 holds a dict; give an image or (image, label)"),
        (np.zeros((4, 4, 3)), "item 0 holds a ndarray; give"),
        ((PIXELS[0], 1, 2), "item 0 is a tuple of 3; give an image or (image, label)"),
        (PIXELS[0].permute(1, 2, 0), "item 0 has shape (20, 24, 3); give a PIL image, or a tensor (C, H, W)"),
        (PIXELS[0].int(), "item 0 is torch.int32; give torch.uint8"),
        (PIXELS[0] / 127.5 - 1, "item 0 has floats from -1 to 1; give floats in [0, 1] (leave normalisation out)"),
        (PIXELS[0] / 0.0, "floats from nan to nan"),
        (Image.new("F", (8, 8)), "item 0 of mode 'F'"),
        ((PIXELS[0], -1), "item 0 has the label -1; give a whole number from 0 on, a name, or None"),
        ((PIXELS[0], ""), "the label ''"),
        ((PIXELS[0], 0.5), "the label 0.5"),
        (KeyError("x"), "item 0 cannot be read: KeyError: 'x'; mend or leave it out"),
    ],
)
def test_a_wrong_item_is_named_with_what_would_be_right(item, said, tmp_path):
    with pytest.raises(UserError) as error:
        write_dataset(Items([item, PIXELS[0]]), tmp_path, 16, 3)
    assert said in one_line(error)
    assert not list(tmp_path.rglob("*.png"))


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(())


def test_what_has_positions_is_a_dataset_and_a_stream_is_refused():
    assert is_dataset(Items([]))
    assert not any(map(is_dataset, ["photos", Path("photos"), ["a.png"], None]))
    with pytest.raises(UserError, match="Stream, a stream whose items have no positions"):
        is_dataset(Stream())


def test_an_empty_dataset_and_one_that_chance_decides_are_refused(tmp_path):
    with pytest.raises(UserError, match="has no items"):
        write_dataset(Items([]), tmp_path, 16, 3)
    with pytest.raises(UserError, match="item 0 is not the same when it is read twice; leave random transforms out"):
        write_dataset(Items([lambda: torch.rand(3, 8, 8)]), tmp_path, 16, 3)


LABELS = ["a/b", None, "c", "a/b", "c", None]


def labelled(order: tuple[int, ...] = (0, 1, 2, 3, 4, 5)) -> Subset[Any]:
    return Subset(Items([(pixels, label) for pixels, label in zip(PIXELS, LABELS, strict=True)]), order)


def test_what_is_written_opens_as_the_same_images_with_the_same_labels(tmp_path):
    written = write_dataset(labelled(), tmp_path, 16, 3)
    assert (written.images, written.labelled, written.classes) == (6, 4, 2)
    fields = {name.removeprefix("data."): value for name, value in written.overrides.items()}
    config = DataConfig(image_size=16, channels=3, loader_workers=0, resident_limit_mib=STREAM, **fields)
    pool = all_pixels(data.open_split(config.model_copy(update={"pretrain_on": "all"}), "unlabelled", "cpu"))
    expected = [convert_image(opened(pixels), 16, 3) for pixels in PIXELS]
    assert {image.numpy().tobytes() for image in pool} == {image.numpy().tobytes() for image in expected}
    test = data.open_split(config, "test", "cpu")
    assert test.classes == ("a/b", "c")
    for image, label in zip(all_pixels(test), test.labels, strict=True):
        (index,) = (index for index in range(6) if torch.equal(image, expected[index]))
        assert LABELS[index] == test.classes[label]


def test_the_same_items_are_written_once_and_others_apart(tmp_path):
    first = write_dataset(labelled(), tmp_path, 16, 3)
    files = {file: file.stat().st_mtime_ns for file in first.folder.rglob("*")}
    assert write_dataset(labelled(), tmp_path, 16, 3) == first
    assert {file: file.stat().st_mtime_ns for file in first.folder.rglob("*")} == files
    others = [
        write_dataset(labelled((1, 0, 2, 3, 4, 5)), tmp_path, 16, 3),
        write_dataset(labelled(), tmp_path, 18, 3),
        write_dataset(Items(list(PIXELS)), tmp_path, 16, 3),
    ]
    assert len({first.folder, *(other.folder for other in others)}) == 4
    assert others[2].overrides["data.labels"] == "none"
    assert len(list((tmp_path / "datasets").iterdir())) == 4  # nothing unfinished stays


def test_all_there_are_is_every_image_once_and_has_no_labels():
    config = DataConfig()
    every = data.open_split(config.model_copy(update={"pretrain_on": "all"}), "unlabelled", "cpu")
    parts = [data.open_split(config, name, "cpu") for name in ("train", "validation", "test")]
    assert sorted(rows(every)) == sorted(row for part in parts for row in rows(part))
    with pytest.raises(UserError, match="trains on validation and test images too"):
        data.open_split(config.model_copy(update={"pretrain_on": "all"}), "test", "cpu")
    assert not data.has_labels(config.model_copy(update={"pretrain_on": "all"}))
