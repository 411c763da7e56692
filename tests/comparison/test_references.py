"""Pretrained networks beside what is trained: the same probes and splits, rows of their own, nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from image_files import write_classes
from run_folder import SEEDS, make_run, run_config
from torch import Tensor, nn

from synthcl.comparison import plotting, references
from synthcl.comparison.execute import in_this_process
from synthcl.comparison.records import Place, Record, digest
from synthcl.comparison.report import write as write_evidence
from synthcl.config.presets import load_preset
from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.evaluation import protocol
from synthcl.runs.storage import Storage
from synthcl.search import report, results

WIDTH = 4


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Of a small network for colours."""
    torch.manual_seed(0)
    network = Config.model_validate({"name": "test", "encoder": {"width": WIDTH}}).encoder.build(3)
    file = tmp_path / "pretrained.safetensors"
    safetensors.torch.save_file(network.state_dict(), file)
    return file


def with_reference(config: Config, weights: Path, **more: Any) -> Config:
    named = {"kind": "conv", "width": WIDTH, "weights": str(weights)}
    return config.with_overrides({"evaluation.references.frozen": named, "evaluation.reference_image_size": 32} | more)


def digits(weights: Path, **more: Any) -> Config:
    overrides = {
        "name": "tiny",
        "data.source": "digits",
        "data.image_size": 16,
        "evaluation.transfer": [],
        "evaluation.label_fractions": [100],
        "evaluation.max_label_images": 100,
        "compute.storage": str(weights.parent),
    }
    return with_reference(load_preset("fashion-mini").with_overrides(overrides), weights, **more)


def said_by(config: Config, seeds: list[int], folder: Path) -> list[str]:
    said: list[str] = []
    references.score_left(config, seeds, folder, in_this_process, said.append)
    return said


class Plain(nn.Module):
    """The network itself, on images that are enlarged before it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(nn.functional.interpolate(images, size=(32, 32), mode="bilinear", antialias=True))


def test_it_is_scored_by_the_protocol_on_a_seeds_splits_and_once(weights: Path) -> None:
    config, folder = digits(weights), weights.parent / "references"
    assert references.left(config, [3, 4], folder) == [("frozen", 3), ("frozen", 4)]
    said = said_by(config, [3, 4], folder)
    assert [line.split(":")[0] for line in said] == ["reference frozen, seed 3", "reference frozen, seed 4"]
    assert not references.left(config, [3, 4], folder)
    records = references.read(folder, config)
    assert [(record.arm, record.seed, record.steps, record.images) for record in records] == [
        ("frozen", 3, 0, 0),
        ("frozen", 4, 0, 0),
    ]
    assert records[0].metrics != records[1].metrics  # other labels, another validation cut
    assert records[0].seconds["train"] == 0

    network = config.encoder.model_copy(update={"width": WIDTH}).build(3).eval()
    network.load_state_dict(safetensors.torch.load_file(weights))
    own = config.with_overrides({"data.channels": 3, "data.split_seed": 3})
    expected = protocol.score(Plain(network), own, torch.device("cpu"), quick=False, test=True)
    assert {name: records[0].metrics[name] for name in expected} == pytest.approx(expected)
    assert records[0].metrics["score"] == protocol.objective(expected, own)


def test_another_size_or_network_is_scored_anew_and_one_that_is_gone_is_no_row(weights: Path) -> None:
    config, folder = digits(weights), weights.parent / "references"
    said_by(config, [3], folder)
    wider = config.with_overrides({"evaluation.references.frozen.normalise": "imagenet"})
    assert references.left(wider, [3], folder) == [("frozen", 3)]
    assert references.read(folder, wider) == []
    assert references.read(folder, config.with_overrides({"evaluation.references.frozen": None})) == []
    longer = config.with_overrides({"compute.storage": "elsewhere", "search.budgets": 3})
    assert not references.left(longer, [3], folder)
    shutil.move(weights, weights.with_name("moved"))
    with pytest.raises(UserError, match=r"evaluation.references.frozen: encoder.weights .* no such file"):
        said_by(wider, [3], folder)


def test_images_in_files_are_read_at_its_own_size(weights: Path) -> None:
    images = weights.parent / "images"
    write_classes(images, 3)
    settings = {"data.source": "folder", "data.root": str(images), "data.resident_limit_mib": 100.0}
    config = digits(weights, **settings)
    own = references.of_seed(config, "frozen", 5)
    assert (own.data.image_size, own.view_size, own.data.channels, own.data.split_seed) == (32, 32, 3, 5)
    assert own.data.resident_limit_mib < 1  # nothing that large is kept in memory
    array = references.of_seed(digits(weights), "frozen", 5)
    assert (array.data.image_size, array.view_size, array.data.channels) == (16, 16, 3)


def recorded(config: Config, seeds: tuple[int, ...], metrics: dict[str, float], folder: Path) -> Iterator[Record]:
    for seed in seeds:
        own = references.of_seed(config, "frozen", seed)
        fields = {"arm": "frozen", "images": 0, "seed": seed, "steps": 0, "views_per_step": 0}
        measured = {"metrics": metrics, "seconds": {"train": 0.0, "evaluate": 7.0}}
        record = Record(**fields, **measured, digest=digest(own), config=own.model_dump(mode="json"))
        record.write(folder / f"frozen-seed{seed}.json")
        yield record


def test_a_search_shows_it_and_says_the_same_as_without(
    weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plotting, "save", lambda figure, file: None)
    monkeypatch.setenv("COLUMNS", "200")
    folder = make_run(weights.parent)
    plain = run_config(folder.parent)
    storage = Storage(str(folder.parent), folder.name)
    report.write(plain, storage)
    before, printed = json.loads((folder / "leaderboard.json").read_text()), capsys.readouterr().out
    assert before.pop("not trained here") == []
    assert "not trained here" not in printed + (folder / "report.md").read_text()

    config = with_reference(plain, weights)
    metrics = {"score": 99.0, "test/linear/fashion-mini@100": 95.0, "test/transfer/mean": 70.0}
    assert len([*recorded(config, SEEDS, metrics, folder / references.FOLDER)]) == 3
    report.write(config, storage)
    after, printed = json.loads((folder / "leaderboard.json").read_text()), capsys.readouterr().out
    (row,) = after.pop("not trained here")
    assert after == before  # rows, winner and verdict, although no row scores as high
    assert row["scores"]["score"] == {"mean": 99.0, "std": 0.0, "n": 3}
    assert row["minus opponent"]["test/linear/fashion-mini@100"]["value"] == pytest.approx(95 - 80)
    assert [line for line in printed.splitlines() if line.startswith("frozen (not trained here) 99.00")]
    text = (folder / "report.md").read_text()
    assert "| frozen (not trained here) | 99.00±0.00 | 95.00±0.00 |" in text
    assert "| frozen (not trained here) | - | 95.00±0.00 |" in text[text.index("## Test") :]
    assert references.EXPLAINED in text
    assert references.EXPLAINED in printed
    assert len(results.confirm_records(folder, config)) == 15


def test_a_comparison_shows_it_and_says_the_same_as_without(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    folder = make_run(weights.parent)
    plain = run_config(folder.parent)
    place = Place(plain)
    shutil.copytree(folder / "confirm", place.records)
    monkeypatch.setattr("synthcl.comparison.report.save", lambda figure, file: None)
    before, evidence = write_evidence(place).splitlines(), json.loads((place.report / "evidence.json").read_text())
    place = Place(with_reference(plain, weights))
    metrics = {"test/linear/fashion-mini@100": 95.0, "val/linear/fashion-mini@100": 94.0}
    assert len([*recorded(place.config, SEEDS, metrics, place.records / references.FOLDER)]) == 3
    after = write_evidence(place).splitlines()
    added = [line for line in after if " ".join(line.split()) not in {" ".join(other.split()) for other in before}]
    rows = [" ".join(line.split()) for line in added if line.startswith("frozen")]
    assert rows == [
        "frozen (not trained here) - 95.00±0.00 - - - - 3",
        "frozen (not trained here) - 94.00±0.00 - - - - 3",
    ]
    assert [line for line in added if not line.startswith("frozen")] == [references.EXPLAINED]
    told = json.loads((place.report / "evidence.json").read_text())
    assert told.pop("not trained here")["test"][0]["name"] == "frozen"
    assert told == evidence
