"""A folder to publish has the encoder and nothing of the machine it was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from program import run
from small_trainer import tiny_config

import synthcl
from synthcl.config.schema import Config
from synthcl.runs.export import save_encoder

PRIVATE = "/home/somebody/private"
PLACES = {
    "data.root": f"{PRIVATE}/birds",
    "evaluation.transfer": [f"folder:{PRIVATE}/trees", "digits"],
    "synthetic.mine": {"kind": "folder", "path": f"{PRIVATE}/variations", "pairs": f"{PRIVATE}/variations/pairs.csv"},
    "compute.storage": "s3://somebody/private",
    "compute.address": "private:6379",
}
SCORES = {
    "run": "joint-seed1001",
    "this_seed": {"test/linear/digits@10": 61.234, "val/knn/digits": 55.0, "score": 61.2},
    "over_seeds": {"test/linear/digits@10": {"mean": 60.0, "std": 1.5, "n": 3}},
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trained(scores: dict) -> None:
    config = tiny_config({"data.channels": 3, "views.base.size": 12} | PLACES)
    save_encoder(Path("encoder.safetensors"), config.encoder.build(3), config, scores)


def test_what_is_published_loads_and_names_no_place(here: Path) -> None:
    trained(SCORES)
    done = run("export", "encoder.safetensors", "--publish", "mine", "--license", "mit")
    assert done.returncode == 0, done.stderr
    names = ["encoder.safetensors", "encoder.json", "README.md"]
    assert done.stdout.split() == [f"mine/{name}" for name in names]
    assert sorted(file.name for file in (here / "mine").iterdir()) == sorted(names)
    for name in names:
        assert b"private" not in (here / "mine" / name).read_bytes()
    images = torch.rand(2, 3, 12, 12)
    ours, theirs = (synthcl.load_encoder(path) for path in ("encoder.safetensors", "mine/encoder.safetensors"))
    assert torch.equal(ours(images), theirs(images))
    config = Config.model_validate(json.loads((here / "mine" / "encoder.json").read_text())["config"])
    assert (config.data.root, config.evaluation.transfer) == ("birds", ("folder:trees", "digits"))


def test_the_readme_has_what_a_hub_reads_and_the_scores(here: Path) -> None:
    trained(SCORES)
    assert run("export", "encoder.safetensors", "--publish", "mine", "--license", "mit").returncode == 0
    _, head, text = (here / "mine" / "README.md").read_text().split("---\n", 2)
    front = yaml.safe_load(head)
    assert (front["license"], front["library_name"]) == ("mit", "synthcl")
    assert "| `test/linear/digits@10` | test | 61.23 | 60.00 | 1.50 | 3 |" in text
    assert "| `val/knn/digits` | validation | 55.00 | - | - | 1 |" in text
    assert "12 x 12 pixels" in text


def test_an_encoder_without_scores_says_so(here: Path) -> None:
    trained({})
    assert run("export", "encoder.safetensors", "--publish", "mine").returncode == 0
    assert "It was not scored" in (here / "mine" / "README.md").read_text()


def test_the_readme_counts_the_data_as_the_plan_does(here: Path) -> None:
    trained({})
    card = json.loads((here / "encoder.json").read_text())
    counts = {"unlabelled": 8000, "labelled": 8000, "classes": 10, "validation": 2000, "test": 2000}
    assert card["data"] == counts  # of the images that come with synthcl
    assert run("export", "encoder.safetensors", "--publish", "mine").returncode == 0
    text = (here / "mine" / "README.md").read_text()
    assert "| images to pretrain on, without labels | 8,000 |" in text
    assert "| labelled images of test | 2,000 |" in text

    config = tiny_config({"data.channels": 3, "data.source": "folder", "data.root": "gone"})
    save_encoder(Path("encoder.safetensors"), config.encoder.build(3), config, {})
    assert json.loads((here / "encoder.json").read_text())["data"] == counts  # as it was written before
    (here / "encoder.json").unlink()
    save_encoder(Path("encoder.safetensors"), config.encoder.build(3), config, {})
    assert run("export", "encoder.safetensors", "--publish", "mine").returncode == 0
    assert "## Data" not in (here / "mine" / "README.md").read_text()


def test_weights_that_it_began_with_are_named_without_their_place(here: Path) -> None:
    fields = {"kind": "resnet18", "stem": "imagenet", "weights": f"{PRIVATE}/begun.pt"}
    more = {"evaluation.references.frozen": {"kind": "resnet18", "weights": f"{PRIVATE}/frozen.pt"}}
    config = tiny_config({"data.channels": 3, "encoder": fields} | more)
    save_encoder(Path("encoder.safetensors"), config.encoder.build(3), config, {})
    assert run("export", "encoder.safetensors", "--publish", "mine").returncode == 0
    for name in ("encoder.json", "README.md"):
        assert "private" not in (here / "mine" / name).read_text()
    text = (here / "mine" / "README.md").read_text()
    assert "began with the weights `begun.pt` of resnet18, whose licence binds it." in text
    assert "mean (0.485, 0.456, 0.406)" in text
    synthcl.load_encoder("mine/encoder.safetensors")
