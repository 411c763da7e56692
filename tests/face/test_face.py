"""The ten names of `synthcl`: the example of each as its docstring has it, on images of the user's own.

Only sizes are made small: the configuration that a call asks for gets tiny networks and budgets.
"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from image_files import one_line
from PIL import Image
from tiny_run import TINY, arguments
from torch.utils.data import Dataset

import synthcl
from synthcl.core.errors import UserError
from synthcl.face import settings

IMAGES = 120
SMALL = {name: value for name, value in TINY.items() if not name.startswith(("encoder.", "heads.", "data."))} | {
    "data.image_size": 16,
    "data.loader_workers": 0,
    "encoder": {"kind": "conv", "width": 4},
    "heads.main.hidden": 16,
    "heads.main.dim": 8,
    "training.kimg": 0.064,
    "training.precision": "fp32",
    "health.diversity_min": 0,  # a few steps of a GAN of a few steps: what it is like means nothing
    "health.discriminator_accuracy_max": 1,
    "health.embedding_variance_min": 0,
    "health.feature_rank_min": 0,
    "evaluation.rungs": [0.5, 1.0],
    "evaluation.label_fractions": [1.0],
    "evaluation.transfer": [],
    "search.opponent_share": 0.5,
    "compute.cpus_per_worker": 1,
}


class Squares(Dataset[Any]):
    """Bright and dark squares of noise."""

    classes = ("dark", "bright")

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        noise = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(index))
        return (noise + index % 2) / 2, index % 2


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with `photos/`, their labels, and an exported encoder."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "photos").mkdir()
    rows = ["path,label"]
    for index in range(IMAGES):  # iterating over the Dataset would never end
        image, label = Squares()[index]
        pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / "photos" / f"{index}.png")
        rows.append(f"{index}.png,{Squares.classes[label]}")
    (folder / "photos" / "labels.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture
def small(here, monkeypatch):
    """In that folder, calls ask for something small."""
    from synthcl.config.cli import config_of

    def shrunk(preset: Any, overrides: Any, **places: Any) -> synthcl.Config:
        return config_of(preset, SMALL | dict(overrides), **places)

    monkeypatch.setattr(settings, "config_of", shrunk)
    monkeypatch.chdir(here)
    return here


@pytest.fixture
def on_ray(ray_address, monkeypatch):
    import ray

    monkeypatch.setenv("RAY_ADDRESS", ray_address)
    yield
    ray.shutdown()


def example(name: str) -> dict[str, Any]:
    """Run what a public name's docstring has under `Example:`, as it stands there."""
    documented = inspect.getdoc(getattr(synthcl, name)) or ""
    (code,) = re.findall(r"^Example:\n((?:    .*\n?|\n)+)", documented, re.MULTILINE)
    found: dict[str, Any] = {"synthcl": synthcl}
    exec(textwrap.dedent(code), found)
    return found


def test_there_are_ten_names_and_each_says_what_it_is():
    assert len(synthcl.__all__) == 10
    for name in synthcl.__all__:
        assert (inspect.getdoc(getattr(synthcl, name)) or "").count("Example:") == 1, name
        assert name in dir(synthcl)
    assert list(inspect.signature(synthcl.search).parameters)[:3] == ["images", "labels", "preset"]
    with pytest.raises(AttributeError, match="no attribute 'sarch'"):
        _ = synthcl.sarch


def test_a_search_an_interruption_of_its_refit_and_what_is_left(small, on_ray, monkeypatch, capsys):
    from synthcl.search import refit  # the room of this name stays callable

    def interrupted(*given: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(refit, "trained_to_the_end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            example("search")
    folder = small / "runs" / "folder"
    confirmed = {file: file.stat().st_mtime_ns for file in (folder / "confirm").glob("*.json")}
    assert confirmed
    assert "of all images" not in (folder / "report.md").read_text()
    capsys.readouterr()

    result = example("search")["result"]
    shown = capsys.readouterr().out
    assert "refit-1 goes on where it stopped" in shown
    assert {file: file.stat().st_mtime_ns for file in (folder / "confirm").glob("*.json")} == confirmed
    for text in (shown, result.report):
        assert re.search(r"trained again on all 120 images there are, .*No score belongs to it", text)
    card = json.loads((folder / "encoder-refit" / "encoder.json").read_text())
    assert card["scores"] == {}
    assert (card["refit"]["images"], card["config"]["data"]["pretrain_on"]) == (IMAGES, "all")
    assert "none belongs to this encoder" in card["refit"]["scores"]
    assert not torch.equal(next(result.refitted.parameters()), next(result.encoder.parameters()))

    board = result.leaderboard
    assert {"real-only", "frozen-gan", "joint"} <= set(board.index)
    assert board["validation"].is_monotonic_decreasing
    (opponent,) = board.index[board["linear@100 difference"].isna()]  # what the others are compared with
    assert opponent.startswith("real-only")
    gain = board.loc["joint", "linear@100"] - board.loc[opponent, "linear@100"]
    assert board.loc["joint", "linear@100 difference"] == pytest.approx(gain)
    assert result.verdict in result.report
    assert "<table" in result._repr_html_()

    journal = (folder / "study.journal").read_bytes()
    result.study.set_user_attr("mine", 1)
    assert (folder / "study.journal").read_bytes() == journal
    assert len(result.study.get_trials()) > 0

    opened = synthcl.Result.open("runs/folder")
    pd.testing.assert_frame_equal(opened.leaderboard, board)
    assert (opened.kind, opened.config.search.refit) == ("search", "all")


def test_a_training_on_a_dataset_is_that_of_its_files_by_the_command(small, on_ray, capsys):
    from program import run

    result = synthcl.train(Squares(), arm="real-only", storage="mine")
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("dataset"))
    fields = line.partition("for a command: ")[2].split()
    again = run("train", "--preset", "folder", "--arm", "real-only", "--storage", "mine", *fields, *arguments(SMALL))
    assert (again.returncode, "complete" in again.stdout) == (0, True), again.stderr
    assert "real-only: score " in result.verdict
    assert result.leaderboard.loc["train-real-only", "score"] > 0
    paths, features = synthcl.embed(result.encoder, Squares())
    assert paths == [str(index) for index in range(IMAGES)]
    names, of_files = synthcl.embed(result.encoder, fields[1].removeprefix("data.root="))
    torch.testing.assert_close(features[[int(Path(name).stem) for name in names]], of_files)
    found = synthcl.neighbours(result.encoder, Squares(), ["3"], k=2)
    assert found.paths[found.queries[0]] == "3"
    assert synthcl.Result.open("mine/folder").encoder_file == result.encoder_file.relative_to(small)
    with pytest.raises(UserError, match="one training, which has no report"):
        _ = result.report


def test_a_training_without_labels(small, on_ray):
    found = example("train")
    assert len(found["paths"]) == len(found["features"]) == IMAGES
    assert found["result"].verdict == "train-joint: not scored, no labels"


def test_a_comparison_and_its_table(small):
    result = example("compare")["result"]
    board = result.leaderboard
    assert list(board.index) == [("real-only", 76), ("joint", 76)]
    assert list(board["n"]) == [2, 2]
    gain = board["linear@100"].diff().iloc[1]
    assert board["linear@100 difference"].iloc[1] == pytest.approx(gain)
    assert f"joint minus real-only with 76 images: {gain:+.2f}" in result.verdict
    assert result.report.startswith("# Evidence: folder")
    with pytest.raises(UserError, match="a comparison keeps none"):
        _ = result.encoder


@pytest.mark.parametrize(
    "name", ["Config", "Result", "UserError", "embed", "load_encoder", "load_preset", "neighbours"]
)
def test_an_example_of_what_needs_no_training(smoke, tmp_path, monkeypatch, name):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "fashion-mini").symlink_to(smoke)
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    for index in range(3):
        Image.new("L", (30, 28), 40 * index).save(tmp_path / "photos" / "cat" / f"{index}.jpg")
    Image.new("L", (30, 28), 9).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    example(name)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: synthcl.search(3), "images are a int; give a folder, a list of paths (.txt), or a Dataset"),
        (lambda: synthcl.search("nowhere"), "nowhere' is not a folder"),
        (lambda: synthcl.search(budgets="+x"), "--budgets '+x' is no number above 0"),
        (lambda: synthcl.search(hours=-1), "search.hours = -1"),
        (lambda: synthcl.search(refit="some"), "search.refit = 'some'"),
        (lambda: synthcl.search(preset="none"), "preset 'none' is unknown"),
        (lambda: synthcl.search(overrides={"data.pretrain_on": "all"}), "trains on validation and test images too"),
        (lambda: synthcl.train(Squares(), labels="l.csv"), "labels 'l.csv' are given for a Dataset"),
        (lambda: synthcl.train("a", overrides={"data.root": "b"}), "overrides has data.root='b', and images is given"),
        (lambda: synthcl.train(Squares(), arm="both"), "arm 'both' is unknown"),
        (lambda: synthcl.train(Squares(), storage="gopher://x/y"), "compute.storage 'gopher://x/y'"),
        (lambda: synthcl.train(Squares(), storage="/proc/runs"), "compute.storage '/proc/runs'"),
        (lambda: synthcl.compare(seeds=0), "--seeds 0 must be above 0"),
        (lambda: synthcl.compare(arms=["both"]), "arm 'both' is unknown"),
        (lambda: synthcl.Result.open("nowhere"), "'nowhere' has no search, training or comparison"),
        (lambda: synthcl.embed("no.safetensors", Squares()), "no.safetensors"),
    ],
)
def test_a_mistake_is_a_line_and_leaves_nothing(tmp_path, monkeypatch, call, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        call()
    assert said in one_line(error)
    assert not list(tmp_path.iterdir())
