"""`synthcl invert`: each twin is a view of the image that pairs.csv names, and a run trains on them."""

import csv
import shlex

import numpy as np
import pytest
import torch
from PIL import Image
from program import run
from tiny_run import TINY, arguments

from synthcl.config.schema import Config
from synthcl.data import open_split, open_synthetic
from synthcl.data.origins import unlabelled_names
from synthcl.runs.inversion import nearest_others

SMALL = TINY | {"data.source": "digits", "data.image_fraction": 0.04, "synthetic.gan.warmup_kimg": 16}


def given(tmp_path, **more):
    own = {"compute.storage": tmp_path / "runs", "name": "inverted"}
    return ["--preset", "fashion-mini", *arguments(SMALL | own | more)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Images without labels, in folders: a bright square each, somewhere, of some size."""
    root, random = tmp_path_factory.mktemp("own images") / "my photos", np.random.default_rng(0)
    for number in range(48):
        pixels = np.full((16, 16), random.integers(0, 80), dtype=np.uint8)
        (row, column), side = random.integers(0, 10, 2), random.integers(4, 9)
        pixels[row : row + side, column : column + side] = random.integers(120, 256)
        file = root / "summer" / f"{number % 3}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    return root


def test_twins_of_files_are_views_of_the_image_that_each_names_and_are_trained_on(photos, tmp_path):
    own = {"data.source": "folder", "data.root": photos, "data.labels": "none", "data.image_fraction": 1}
    twins = tmp_path / "Zoë's, the twins"
    settings = given(tmp_path, **own)
    made = run("invert", *settings, "--out", str(twins), "--per-image", "2", "--distance", "0", "--steps", "100")
    assert made.returncode == 0, made.stderr

    with (twins / "pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert 10 <= len(rows) < 2 * 48  # some, and not those that G does not show
    assert {row["synthetic"] for row in rows} == {file.name for file in twins.glob("*.png")}
    assert made.stdout.startswith(f"{twins}: 2 twins of {len(rows) // 2} of 48 images")
    names = [row["real"] for row in rows]
    assert all((photos / name).is_file() for name in names)

    def pixels(file):
        return torch.from_numpy(np.array(Image.open(file))).float() / 255

    every = sorted(photos.rglob("*.png"))
    nearest = dict(zip(every, nearest_others(torch.stack([*map(pixels, every)])[:, None]).tolist(), strict=True))
    for row in rows:
        real = photos / row["real"]
        distance = (pixels(twins / row["synthetic"]) - pixels(real)).square().mean().item()
        assert distance < nearest[real] + 1e-3, row  # and the last bits of a file

    _, _, source = shlex.split(made.stdout.splitlines()[-1])
    plan = run("train", *settings, source, "--dry-run")
    assert plan.returncode == 0, plan.stderr
    assert f"{len(rows)} of the {len(rows)} images in {twins}, made from {len(rows) // 2} of the 48" in plan.stdout


def test_twins_of_an_array_are_paired_with_the_rows_they_were_made_from(tmp_path):
    twins = tmp_path / "twins"
    settings = given(tmp_path)
    made = run("invert", *settings, "--out", str(twins), "--steps", "50")
    assert made.returncode == 0, made.stderr
    config = Config(name="read").with_overrides(
        SMALL
        | {"synthetic.twins.kind": "folder"}
        | {"synthetic.twins.path": str(twins), "synthetic.twins.pairs": "pairs.csv"}
    )
    opened = open_synthetic(config.data, "twins", config.folders_on["twins"], "cpu")
    with (twins / "pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    images = open_split(config.data, "unlabelled", "cpu").images
    assert opened.real == len(images) == len(unlabelled_names(config.data))
    positions = sorted({int(row["synthetic"].partition("-")[0]) for row in rows})
    assert opened.twins.covered == len(positions)
    assert (opened.twins.starts.diff() > 0).nonzero().flatten().tolist() == positions
    assert opened.dropped == {}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["synthetic.gan=null"], "synthetic.gan is null, and twins are made by a GAN"),
        (["--per-image", "0"], "--per-image 0 is too small; give 1 at least"),
        (["--steps", "0"], "--steps 0 is too small"),
        (["--distance", "1.5"], "--distance 1.5 is not in [0, 1]"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["run", "dry"])
def test_a_mistake_is_a_line_before_anything_is_computed(tmp_path, more, said, dry):
    refused = run("invert", *given(tmp_path), "--out", str(tmp_path / "twins"), *more, *dry)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: {said}")
    assert refused.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_twins_that_are_there_are_not_written_over_and_a_dry_run_writes_none(tmp_path):
    twins = tmp_path / "twins"
    plan = run("invert", *given(tmp_path), "--out", str(twins), "--dry-run")
    assert plan.returncode == 0, plan.stderr
    assert "images to pretrain on" in plan.stdout
    assert list(tmp_path.iterdir()) == []
    twins.mkdir()
    (twins / "pairs.csv").write_text("synthetic,real\n")
    refused = run("invert", *given(tmp_path), "--out", str(twins))
    assert refused.returncode == 2
    assert "holds twins already; name a new folder" in refused.stderr
