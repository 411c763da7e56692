"""Images whose folders mean nothing: all below a folder or on a list, with labels in a CSV file or none."""

import random

import pytest
import torch
from image_files import folder_config, one_line, rows, write_classes, write_image

from synthcl import UserError, data, load_preset
from synthcl.data.own_images import OWN_IMAGES
from synthcl.data.pool import list_pool, unread_of_pool
from synthcl.evaluation import protocol
from synthcl.runs.preflight import open_data

RUN = {
    "data.source": "folder",
    "data.image_size": 16,
    "data.channels": 3,
    "data.image_fraction": 1.0,
    "data.loader_workers": 0,
    "training.batch_images": 8,
    "evaluation.transfer": [],
}


def a_run(root, **changes):
    return load_preset("fashion-mini").with_overrides(RUN | {"data.root": str(root)} | changes)


def count(root, name="unlabelled", **changes):
    return len(data.open_split(folder_config(root, **changes), name, "cpu").images)


@pytest.fixture
def photos(tmp_path):
    """Twenty images in folders of years and months, and something else."""
    for index in range(20):
        write_image(tmp_path / "photos" / "2024" / f"{index % 3:02d}" / f"{index}.jpg", index)
    (tmp_path / "photos" / "2024" / "00" / "notes.md").write_text("no image")
    return tmp_path / "photos"


def write_labels(file, pairs, head="path,label"):
    file.write_text("\n".join([head, *(",".join(pair) for pair in pairs)]) + "\n")
    return str(file)


# ---- without labels


def test_one_folder_of_folders_has_no_classes_and_all_its_images_train(photos):
    assert count(photos) == 20
    config = folder_config(photos)
    assert not data.has_labels(config)
    with pytest.raises(UserError, match="split 'train' needs labels") as error:
        data.open_split(config, "train", "cpu")
    assert "data.labels" in one_line(error)


def test_two_folders_are_classes_until_labels_are_none(photos):
    write_image(photos / "2023" / "a.png", 100)
    write_image(photos / "2023" / "b.png", 101)
    write_image(photos / "2023" / "c.png", 102)
    assert data.open_split(folder_config(photos), "train", "cpu").classes == ("2023", "2024")
    plan = open_data(a_run(photos)).describe()
    assert "(2023, 2024; data.labels=none if they are no classes)" in plan
    assert count(photos, labels="none") == 23
    assert "23 images to pretrain on" in open_data(a_run(photos, **{"data.labels": "none"}), chooses=False).describe()


def test_images_beside_two_folders_are_refused_until_labels_are_none(photos):
    write_image(photos / "2023" / "a.png", 100)
    write_image(photos / "loose.png", 101)
    with pytest.raises(UserError, match=r"'loose.png'.*beside class folders.*give data.labels=none") as error:
        count(photos)
    one_line(error)
    assert count(photos, labels="none") == 22


def test_a_test_part_with_classes_is_no_part_of_unlabelled_images(tmp_path):
    write_image(tmp_path / "a.png", 0)
    write_classes(tmp_path / "test", 2)
    with pytest.raises(
        UserError, match=r"test' has classes, and .* has none; sort .* or give data.labels=none"
    ) as error:
        count(tmp_path)
    one_line(error)


def test_a_list_names_the_images_and_their_order_on_it_does_not_matter(photos):
    names = [f"photos/2024/{index % 3:02d}/{index}.jpg" for index in range(12)]
    (photos.parent / "few.txt").write_text("\n".join([*names, "", "photos/2024/00/notes.md", f"./{names[3]}"]) + "\n")
    shuffled = random.Random(0).sample(names, len(names))
    (photos.parent / "again.txt").write_text("\r\n".join(shuffled))
    first, second = (
        data.open_split(folder_config(photos.parent / name, image_fraction=0.5), "unlabelled", "cpu")
        for name in ("few.txt", "again.txt")
    )
    assert len(first.images) == 6
    assert rows(first) == rows(second)
    others, again = unread_of_pool(photos.parent / "few.txt")
    assert "few.txt: files of other kinds (1 .md, such as 'notes.md')" in others
    assert again.endswith(f"few.txt: lines that name an image again (1, such as {names[3]!r})")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"photos/gone.png\n", r"line 1: there is no file '.*photos/gone\.png'"),
        (b"\n\nread.me\n", "names no images"),
        (b"\xff\xfe\n", "no text in UTF-8"),
    ],
)
def test_a_list_that_is_wrong_is_named(photos, text, says):
    (photos.parent / "list.txt").write_bytes(text)
    with pytest.raises(UserError, match=says) as error:
        count(photos.parent / "list.txt")
    one_line(error)


def test_the_plan_counts_images_and_says_what_is_left_out_and_why(photos):
    found = open_data(a_run(photos), chooses=False)
    assert (found.own.train, found.own.validation, found.own.test) == (None, None, None)
    plan = found.describe()
    assert f"unlabelled 20 images to pretrain on: 20 of {photos}\n" in plan
    assert f"labels     none in {photos}: no probes at rungs and no score" in plan
    assert "data.labels=FILE.csv" in plan
    assert f"not read   {photos}: files of other kinds (1 .md, such as 'notes.md')" in plan


@pytest.mark.parametrize("objective", ["linear", "weighted"])
def test_nothing_is_chosen_without_labels(photos, objective):
    write_classes(photos.parent / "probe", 10)
    judged = {"evaluation.transfer": [f"folder:{photos.parent / 'probe'}"]}
    with pytest.raises(UserError, match=rf"objective='{objective}' needs labels .* `synthcl train`, or sort") as error:
        open_data(a_run(photos, **judged | {"search.objective": objective}))
    one_line(error)
    found = open_data(a_run(photos, **judged | {"search.objective": "transfer"}))
    assert [len(part) for part in found.transfer[judged["evaluation.transfer"][0]].labelled.values()] == [12, 4, 4]


# ---- labels in a file


def test_a_file_labels_some_images_and_the_others_train_without(photos):
    """Every labelled image is in one of train, validation and test, and all but the last two are pretrained on."""
    pairs = [(f"2024/{index % 3:02d}/{index}.jpg", "cat" if index < 6 else "dog") for index in range(12)]
    labels = write_labels(photos / "labels.csv", pairs)
    config = folder_config(photos, labels=labels)
    splits = {name: data.open_split(config, name, "cpu") for name in ("train", "validation", "test", "unlabelled")}
    assert {name: len(split.images) for name, split in splits.items()} == {
        "train": 8,
        "validation": 2,
        "test": 2,
        "unlabelled": 8 + 8,
    }
    assert splits["train"].classes == ("cat", "dog")
    train, held_out, unlabelled = (
        {row for name in names for row in rows(splits[name])}
        for names in (("train",), ("validation", "test"), ("unlabelled",))
    )
    assert not train & held_out
    assert train <= unlabelled
    assert not unlabelled & held_out
    means = {image: label for name, split in splits.items() if name != "unlabelled"
             for image, label in zip(rows(split), split.labels.tolist(), strict=True)}  # fmt: skip
    everything = data.StreamedImages(photos, tuple(path for path, _ in pairs), 16, 3, "cpu")
    for index, image in enumerate(everything.fetch(torch.arange(12))):
        assert means[image.numpy().tobytes()] == int(index >= 6)
    assert unread_of_pool(photos, photos / "labels.csv") == [
        line for line in OWN_IMAGES.unread(config) if "notes.md" in line
    ]


def test_splits_depend_on_names_and_labels_alone(photos):
    """Not on the order of the rows, nor on whether paths are relative to the images or to the file."""
    pairs = [(f"2024/{index % 3:02d}/{index}.jpg", "ab"[index % 2]) for index in range(16)]
    inside = write_labels(photos / "labels.csv", pairs)
    beside = [(f"photos/{path}", label) for path, label in random.Random(1).sample(pairs, len(pairs))]
    outside = write_labels(photos.parent / "labels.csv", [*beside, beside[0]])
    for name in ("train", "validation", "test", "unlabelled"):
        first, second, third = (
            data.open_split(folder_config(photos, labels=labels), name, "cpu")
            for labels in (inside, outside, "labels.csv")  # the last lies in data.root
        )
        assert rows(first) == rows(second) == rows(third)
        assert torch.equal(first.labels, second.labels)


def test_a_file_that_labels_every_image_leaves_none_unlabelled(photos):
    pairs = [(name, "ab"[index % 2]) for index, name in enumerate(list_pool(photos).names)]
    plan = open_data(a_run(photos, **{"data.labels": write_labels(photos / "all.csv", pairs)})).describe()
    assert "12 images to pretrain on: 12 of train\n" in plan
    assert f"12 labelled images in 2 classes: {photos / 'all.csv'} (a, b) without the test part" in plan


def test_the_labels_of_a_set_are_not_those_of_a_transfer_set(photos):
    write_classes(photos.parent / "probe", 5)
    config = folder_config(photos, labels="none")
    assert data.open_transfer(f"folder:{photos.parent / 'probe'}", config, "train", "cpu").classes == ("cat", "dog")


# ---- judged without labels


class Means(torch.nn.Module):
    def forward(self, images):
        return images.flatten(2).mean(dim=2)


def test_without_labels_only_features_and_transfer_are_measured(photos):
    alone = a_run(photos)
    assert not protocol.is_scored(alone)
    assert protocol.score(Means(), alone, torch.device("cpu"), quick=False).keys() == {"features/std", "features/rank"}
    write_classes(photos.parent / "probe", 10)
    target = f"folder:{photos.parent / 'probe'}"
    judged = a_run(photos, **{"evaluation.transfer": [target], "search.objective": "transfer"})
    quick, full = (
        protocol.score(Means(), judged, torch.device("cpu"), quick=quick, early=not quick) for quick in (True, False)
    )
    assert not any("/knn/" in name or "/linear/" in name for name in full)
    assert protocol.objective(quick, judged) == quick[f"val/transfer-ridge/{target}"]
    assert protocol.objective(full, judged) == full[f"val/transfer/{target}@100"]
    assert (
        protocol.rung_score(full, judged) == full["val/early-transfer-ridge/mean"] == quick["val/transfer-ridge/mean"]
    )
