"""`synthcl export`, as typed: files that other runtimes read and that give the encoder's features."""

from __future__ import annotations

import sys
from pathlib import Path

import disks
import numpy as np
import pytest
import torch
from image_files import write_classes
from program import run
from small_trainer import tiny_config
from torch import nn

import synthcl
from synthcl.core.errors import UserError
from synthcl.data.transform import Transform
from synthcl.runs import portable
from synthcl.runs.export import save_encoder

disk = disks.disk
VIT = {"kind": "timm", "backbone": "test_vit", "normalise": "imagenet", "options": {"patch_size": 8}}
KINDS = {
    "conv": {"data.channels": 3, "views.base.size": 12},
    "resnet18": {"encoder.kind": "resnet18"},
    "vit": {"data.channels": 3, "encoder": VIT},
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def exported(kind: str) -> nn.Module:
    """An encoder with statistics of its own, in the folder, and as it loads."""
    config = tiny_config(KINDS[kind])
    torch.manual_seed(0)
    encoder = config.encoder.build(config.data.channels, config.view_size)
    encoder.train()(torch.rand(8, config.data.channels, config.view_size, config.view_size))
    save_encoder(Path("encoder.safetensors"), encoder, config, {})
    return synthcl.load_encoder("encoder.safetensors")


def images(encoder: nn.Module, count: int) -> torch.Tensor:
    size = encoder.transform.size
    return torch.rand(count, encoder.transform.channels, size, size) * 2 - 1


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_onnx_gives_the_features_of_any_number_of_images(here, kind):
    import onnx
    import onnxruntime

    encoder = exported(kind)
    done = run("export", "encoder.safetensors", "--onnx", "encoder.onnx")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("encoder.onnx: features by onnxruntime are within ")
    assert done.stdout.count("\n") == 1
    onnx.checker.check_model("encoder.onnx")
    session = onnxruntime.InferenceSession("encoder.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 5):
        batch = images(encoder, count)
        (features,) = session.run(["features"], {"images": batch.numpy()})
        np.testing.assert_allclose(features, encoder(batch).numpy(), atol=1e-4)
    told = session.get_modelmeta().custom_metadata_map
    assert told["preprocessing"] == repr(encoder.transform)
    assert {file.name for file in here.iterdir()} == {"encoder.json", "encoder.safetensors", "encoder.onnx"}


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_torchscript_gives_the_features_of_any_number_of_images(here, kind):
    encoder = exported(kind)
    done = run("export", ".", "--torchscript", "encoder.pt")
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
    loaded = torch.jit.load("encoder.pt")
    for count in (1, 5):
        batch = images(encoder, count)
        torch.testing.assert_close(loaded(batch), encoder(batch), atol=1e-5, rtol=1e-5)


def test_a_missing_package_is_one_line_and_without_onnxruntime_nothing_is_checked(here, monkeypatch):
    exported("conv")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = run("export", ".", "--onnx", "encoder.onnx")
    assert done.stdout == "encoder.onnx: not checked: onnxruntime is not installed\n"
    (here / "encoder.onnx").unlink()
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    done = run("export", ".", "--onnx", "encoder.onnx")
    assert done.returncode == 2
    assert done.stderr == "error: --onnx needs the package 'onnxscript'; pip install 'synthcl[onnx]' has it\n"
    assert not (here / "encoder.onnx").exists()


class Counts(nn.Module):
    """An encoder whose features depend on how many images there are, which a trace takes for a constant."""

    def forward(self, images):
        return images.flatten(1) * len(images)


def test_a_trace_that_gives_other_features_is_not_written(here):
    encoder = Counts()
    encoder.transform = Transform(16, 16, 1)
    with pytest.raises(UserError, match=r"--torchscript 'f.pt': the exported encoder gives other features, by"):
        portable.write_torchscript(Path("f.pt"), encoder)
    assert list(here.iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_no_file(here, disk):
    exported("conv")
    disk.leave(2**12)
    for option in ("--torchscript", "--publish"):
        target = disk.folder / "encoder.pt"
        done = run("export", "encoder.safetensors", option, str(target))
        assert done.returncode == 2, done.stdout
        assert done.stderr == f"error: {option} '{target}': No space left on device; make room, or name another place\n"
        assert not [file for file in disk.folder.rglob("*") if file.is_file() and file.name != "filler"]
    write_classes(here / "photos", 3)
    done = run("neighbours", "encoder.safetensors", "photos", "--out", str(disk.folder / "page.html"))
    assert done.returncode == 2, done.stdout
    assert "page.html': No space left on device; make room" in done.stderr
    assert done.stderr.count("\n") == 1
