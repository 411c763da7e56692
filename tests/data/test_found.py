"""What is found of the data before anything is spent, and what that costs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from broken_files import exported
from image_files import STREAM, all_pixels, folder_config, one_line, write_classes, write_image
from PIL import Image, ImageFile
from program import run

from synthcl import UserError, data, load_preset
from synthcl.data.folder import unread
from synthcl.runs import preflight
from synthcl.runs.gan_cache import cache_key
from synthcl.runs.preflight import open_data

SMALL = {
    "data.image_size": 16,
    "data.channels": 3,
    "data.loader_workers": 0,
    "training.batch_images": 8,
    "evaluation.transfer": [],
}


def folder_run(root: Path, **changes):
    """The default preset on a folder of one's own."""
    overrides = SMALL | {"data.source": "folder", "data.root": str(root)}
    return load_preset("fashion-mini").with_overrides(overrides | {"data.image_fraction": 1.0} | changes)


def rows(text: str) -> dict[str, str]:
    return {name: row for name, _, row in (line.partition(" ") for line in text.splitlines())}


# ---- unlabelled images beside labelled ones


@pytest.fixture
def few_labels(tmp_path):
    """Twenty labelled images, and seven without labels in folders of their own."""
    write_classes(tmp_path / "train", 10)
    for index in range(7):
        write_image(tmp_path / "unlabelled" / ("deep/er" if index % 2 else "") / f"{index}.jpg", index)
    return tmp_path


@pytest.mark.parametrize("limit", [1024.0, STREAM])
def test_images_in_unlabelled_are_pretrained_on_and_in_no_other_split(few_labels, limit):
    config = folder_config(few_labels, resident_limit_mib=limit)
    unlabelled, train, validation, test = (
        data.open_split(config, name, "cpu") for name in ("unlabelled", "train", "validation", "test")
    )
    assert unlabelled.images.resident == (limit > 1)
    assert [len(split.images) for split in (unlabelled, train, validation, test)] == [12 + 7, 12, 4, 4]
    pixels = all_pixels(unlabelled)
    assert torch.equal(pixels[:12], all_pixels(train))
    extra = data.StreamedImages(
        few_labels / "unlabelled",
        ("0.jpg", "2.jpg", "4.jpg", "6.jpg", "deep/er/1.jpg", "deep/er/3.jpg", "deep/er/5.jpg"),
        16,
        3,
        "cpu",
    )
    assert torch.equal(pixels[12:], extra.fetch(torch.arange(7)))
    half = config.model_copy(update={"image_fraction": 0.5})
    assert len(data.open_split(half, "unlabelled", "cpu").images) == round(19 / 2)


def test_unlabelled_is_no_class_where_the_classes_lie_in_root_and_needs_no_train(tmp_path):
    write_image(tmp_path / "unlabeled" / "0.jpg", 0)
    assert len(data.open_split(folder_config(tmp_path), "unlabelled", "cpu").images) == 1
    with pytest.raises(UserError, match="needs labels"):
        data.open_split(folder_config(tmp_path), "train", "cpu")
    write_classes(tmp_path, 5)
    assert data.open_split(folder_config(tmp_path), "train", "cpu").classes == ("cat", "dog")
    (tmp_path / "unlabeled" / "0.jpg").unlink()
    with pytest.raises(UserError, match=r"unlabeled' holds no images .*; fill it or remove it") as error:
        data.open_split(folder_config(tmp_path), "unlabelled", "cpu")
    one_line(error)


def test_a_flat_folder_is_told_what_to_do(tmp_path):
    write_image(tmp_path / "0.png", 0)
    with pytest.raises(UserError, match=r"`synthcl train`, or sort some images into train/<class>/ beside unlabelled/"):
        open_data(folder_run(tmp_path))


def test_what_is_not_read_is_named(few_labels):
    assert unread(few_labels) == []
    write_image(few_labels / "extra" / "0.png", 0)
    write_image(few_labels / "stray.png", 0)
    write_image(few_labels / "test" / "flat.png", 0)
    write_image(few_labels / "unlabeled" / "0.png", 0)
    Image.new("L", (4, 4)).save(few_labels / "train" / "cat" / "moving.gif")
    (few_labels / ".hidden").mkdir()
    extra, test, second, stray, others = unread(few_labels)
    assert extra == f"{few_labels / 'extra'}: only train, test or val, and unlabelled are read"
    assert test == f"{few_labels / 'test'}: has no class folders"
    assert second == f"{few_labels / 'unlabeled'}: {few_labels / 'unlabelled'} holds the unlabelled images"
    assert (
        stray
        == f"{few_labels}: images beside train (1, such as 'stray.png'); move them into {few_labels / 'unlabelled'}"
    )
    assert others.startswith(f"{few_labels}: files of other kinds (1 .gif, such as 'moving.gif'); images end in .bmp")
    described = open_data(folder_run(few_labels)).describe()
    assert all(f"not read   {line}" in described for line in (extra, test, second, stray, others))


# ---- numbers


@pytest.mark.parametrize("capable", [True, False])
def test_the_plan_says_where_bf16_would_be_slow(few_labels, monkeypatch, capable):
    monkeypatch.setattr(preflight, "has_bf16", lambda: capable)
    bf16 = folder_run(few_labels, **{"training.precision": "bf16"})
    assert ("precision  this machine has no GPU, and its CPU no instructions" in open_data(bf16).describe()) != capable
    assert "precision" not in open_data(folder_run(few_labels, **{"training.precision": "fp32"})).describe()


def test_the_plan_says_how_many_images_there_are_and_where_each_number_comes_from(few_labels):
    config = folder_run(
        few_labels,
        **{"training.kimg": 1.9, "synthetic.gan.warmup_kimg": 0.19, "curriculum.synthetic_fraction.start": 0.5},
    )
    found = rows(open_data(config).describe())
    assert found["unlabelled"].strip() == (
        f"19 images to pretrain on: 12 of train and 7 of {few_labels / 'unlabelled'}"
    )
    place = few_labels / "train"
    assert found["train"].strip() == f"12 labelled images in 2 classes: {place} without the test part, less validation"
    assert found["validation"].strip() == (
        "4 labelled images: data.validation_fraction 0.2 of every class, cut by data.split_seed 0"
    )
    assert found["test"].strip() == "4 labelled images: 20 % of every class, cut by data.split_seed 0"
    # 1,900 images, half of the views synthetic, over 19 images
    assert "to the encoder 50 times (100 times in real-only); the GAN warm-up shows each 10 times" in found["passes"]


def test_numbers_found_are_those_of_the_splits_that_a_run_opens(few_labels):
    write_classes(few_labels / "val", 3)
    for config in (folder_run(few_labels, **{"data.image_fraction": 0.4}), load_preset("fashion-mini")):
        found = open_data(config).own
        lengths = [found.unlabelled_images, len(found.train), len(found.validation), len(found.test)]
        splits = [data.open_split(config.data, name, "cpu") for name in ("unlabelled", "train", "validation", "test")]
        assert lengths == [len(split.images) for split in splits]
        assert [part.labels.tolist() for part in (found.train, found.validation, found.test)] == [
            split.labels.tolist() for split in splits[1:]
        ]
    described = open_data(folder_run(few_labels, **{"data.image_fraction": 0.4})).describe()
    assert "; data.image_fraction 0.4 of 23, drawn by data.split_seed 0" in described
    assert f"6 labelled images: {few_labels / 'val'}" in described


def test_the_default_preset_names_published_parts_caps_and_transfer_sets():
    few_labels = {"evaluation.max_label_images": 500, "evaluation.label_fractions": (500, 0.01)}
    found = rows(open_data(load_preset("fashion-mini").with_overrides(few_labels)).describe())
    assert "of the train part that comes with synthcl" not in found["unlabelled"]
    assert "2,000 of train; data.image_fraction 0.25 of 8,000" in found["unlabelled"]
    assert "; probes learn from at most 500 (evaluation.max_label_images)" in found["train"]
    assert found["test"].strip() == "2,000 labelled images: the test part that comes with synthcl"
    assert found["transfer"].strip() == (
        "digits: 1,151 train, 287 validation, 359 test images with labels in 10 classes"
    )


def test_missing_test_files_are_found_before_a_search_and_are_no_matter_to_a_training(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "test" / name).mkdir(parents=True)
        (tmp_path / "test" / name / "0.png").write_bytes(b"broken")
    write_classes(tmp_path / "train", 10)
    with pytest.raises(UserError, match=r"test/cat/0\.png' cannot be read") as error:
        open_data(folder_run(tmp_path))
    one_line(error)
    assert "test " not in open_data(folder_run(tmp_path), test=False).describe()


# ---- without decoding


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "ppm", "tif"])
def test_half_a_file_is_found_from_its_end_in_the_words_of_the_run(tmp_path, suffix):
    write_classes(tmp_path, 1, suffix=suffix)
    source = data.StreamedImages(tmp_path, (f"cat/0.{suffix}", f"dog/0.{suffix}"), 16, 3, "cpu")
    source.require_images()
    broken = tmp_path / "dog" / f"0.{suffix}"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    with pytest.raises(UserError) as looked:
        source.require_images()
    with pytest.raises(UserError) as decoded:
        source.decode([1])
    assert one_line(looked) == one_line(decoded)


def test_a_whole_file_with_something_behind_its_end_is_an_image(tmp_path):
    write_image(tmp_path / "a.jpg", 0)
    with (tmp_path / "a.jpg").open("ab") as file:
        file.write(b"\0" * 1000)
    data.StreamedImages(tmp_path, ("a.jpg",), 16, 3, "cpu").require_images()


def test_whole_files_are_not_decoded(few_labels, monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    config = folder_run(few_labels)
    found = open_data(config)
    assert len(cache_key(config, found.images)) == 16


def test_the_key_of_a_gan_is_that_of_the_files_however_they_are_held(few_labels):
    resident, streamed = (folder_run(few_labels, **{"data.resident_limit_mib": limit}) for limit in (1024.0, STREAM))
    opened = [data.open_split(config.data, "unlabelled", "cpu").images for config in (resident, streamed)]
    assert [images.resident for images in opened] == [True, False]
    keys = [cache_key(resident, images) for images in (*opened, open_data(resident).images)]
    assert len(set(keys)) == 1
    picture = few_labels / "unlabelled" / "0.jpg"
    changed = bytearray(picture.read_bytes())
    changed[len(changed) // 2] ^= 1  # the length stays
    picture.write_bytes(changed)
    assert cache_key(resident, open_data(resident).images) != keys[0]


PEAK = """
import json, resource, sys
from synthcl.config.schema import Config
from synthcl.runs.preflight import open_data

def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

for text in sys.argv[1:]:  # the second has every file of the first, a thousand times as large when it is decoded
    data = open_data(Config.model_validate_json(text))
    data.images.content_key
    print(peak_mib())
"""


def test_memory_does_not_grow_with_the_size_of_the_images_when_decoded(tmp_path):
    write_classes(tmp_path / "train", 200)
    write_classes(tmp_path / "test", 10)
    large = {"data.image_size": 512, "views.base.size": 16, "synthetic.gan.image_size": 16}
    configs = [folder_run(tmp_path, **changes).model_dump_json() for changes in ({}, large)]
    done = subprocess.run([sys.executable, "-c", PEAK, *configs], capture_output=True, text=True, check=True)
    small, big = map(float, done.stdout.split())
    assert big - small < 20  # 240 MiB of training images alone


# ---- programs


@pytest.mark.parametrize("program", ["search", "train"])
def test_a_dry_run_opens_the_data(program, few_labels):
    given = ["data.source=folder", f"data.root={few_labels}", "data.image_size=16", "data.channels=3"]
    given += ["data.image_fraction=1", "training.batch_images=8"]
    done = run(program, "--dry-run", *given)
    assert done.returncode == 0, done.stderr
    assert f"unlabelled 19 images to pretrain on: 12 of train and 7 of {few_labels / 'unlabelled'}" in done.stdout
    assert "passes     a run shows each unlabelled image to the encoder" in done.stdout
    lost = run(program, "--dry-run", *given, "data.root=/nonexistent")
    assert lost.returncode == 2
    assert lost.stderr.startswith("error: data.root '/nonexistent' is not a folder")


def test_an_encoder_is_scored_on_a_folder(tmp_path):
    exported(tmp_path)
    write_classes(tmp_path / "images" / "train", 10)
    write_classes(tmp_path / "images" / "test", 4)
    given = ["data.source=folder", f"data.root={tmp_path / 'images'}", "evaluation.transfer=[]", "--test", "--json"]
    done = run("evaluate", str(tmp_path), *given)
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    assert {"val/knn/folder", "test/knn/folder", "test/ridge/folder"} <= scores.keys()
    assert all(0 <= value <= 100 for name, value in scores.items() if name.startswith(("val/", "test/")))
    (tmp_path / "images" / "test" / "cat" / "1.png").write_text("<html>404</html>")
    broken = run("evaluate", str(tmp_path), *given)
    assert broken.returncode == 2
    assert "test/cat/1.png' cannot be read" in broken.stderr
    assert broken.stderr.count("\n") == 1
