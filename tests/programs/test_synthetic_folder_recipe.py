"""The recipe of docs/synthetic-folder.md makes a folder that a run takes; a stand-in blurs in place of diffusers."""

import re
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from image_files import folder_config, write_classes
from PIL import Image, ImageFilter
from program import ROOT, run

from synthcl.data import open_synthetic
from synthcl.method.synthetic.folder import FolderConfig

TEXT = (ROOT / "docs" / "synthetic-folder.md").read_text()
VARIATIONS, ROWS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


class Pipeline:
    """Takes what diffusers' image-to-image pipeline takes, and blurs."""

    @classmethod
    def from_pretrained(cls, model: str, torch_dtype: torch.dtype) -> "Pipeline":
        return cls()

    def to(self, device: str) -> "Pipeline":
        return self

    def __call__(self, prompt, image, strength, num_inference_steps, guidance_scale, generator):
        assert len(prompt) == len(image)
        assert num_inference_steps * strength >= 1  # else a pipeline has no step to make
        blurred = (one.filter(ImageFilter.GaussianBlur(8 + at)) for at, one in enumerate(image))
        return SimpleNamespace(images=list(blurred))


def play(script: str, monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: Path) -> None:
    file = folder / "script.py"
    file.write_text(script)
    monkeypatch.setattr(sys, "argv", [str(file), *map(str, arguments)])
    runpy.run_path(str(file))


def test_variations_are_paired_with_the_images_they_were_made_from(monkeypatch, tmp_path):
    write_classes(tmp_path / "real" / "train", 10)
    write_classes(tmp_path / "real" / "test", 2)
    diffusers = ModuleType("diffusers")
    diffusers.AutoPipelineForImage2Image = Pipeline
    monkeypatch.setitem(sys.modules, "diffusers", diffusers)
    script = VARIATIONS.replace("512", "64")
    play(script, monkeypatch, tmp_path, tmp_path / "real", tmp_path / "made")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "made").rglob("*.png")}
    play(script, monkeypatch, tmp_path, tmp_path / "real", tmp_path / "made")  # makes nothing again
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "made").rglob("*.png")}
    section = FolderConfig(path=str(tmp_path / "made"), pairs="names")
    found = open_synthetic(folder_config(tmp_path / "real"), "mine", section, "cpu")
    assert (found.found, len(found.images), found.dropped) == (80, 64, {"validation": 16})
    assert found.twins.covered == found.real == 16
    said = run(
        "train",
        *("--dry-run", "--preset", "folder", f"data.root={tmp_path / 'real'}", "data.image_size=16"),
        *("training.batch_images=8", "synthetic.gan=null", "curriculum.synthetic_fraction=0.5"),
        f"synthetic.mine={{kind: folder, path: {tmp_path / 'made'}, pairs: names}}",
    )
    assert said.returncode == 0, said.stderr
    assert "synthetic  mine: 64 of the 80 images in" in said.stdout
    assert "left out: 16 made from validation images; compared with 8 validation and test images" in said.stdout
    assert ", each image of mine " in said.stdout
    assert "warm-up shows" not in said.stdout


def test_rows_of_an_array_become_files_with_their_names(monkeypatch, tmp_path):
    def cifar10(root: str, train: bool):
        assert train
        return [(Image.fromarray(np.full((32, 32, 3), value, np.uint8)), 0) for value in (10, 20)]

    datasets = ModuleType("torchvision.datasets")
    datasets.CIFAR10 = cifar10
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)
    play(ROWS, monkeypatch, tmp_path, tmp_path, tmp_path / "rows")
    names = sorted(path.name for path in (tmp_path / "rows").iterdir())
    assert names == ["train-000000.png", "train-000001.png"]
