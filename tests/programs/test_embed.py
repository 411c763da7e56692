"""`synthcl embed`, as typed in an empty folder: features of a folder of images, resumed after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from image_files import write_classes, write_image
from program import ROOT, run
from small_trainer import tiny_config

import synthcl
from synthcl import data
from synthcl.core.errors import UserError
from synthcl.evaluation import encode
from synthcl.runs import embed as embedding
from synthcl.runs.export import save_encoder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, but for an encoder and images in folders of classes."""
    config = tiny_config({"data.channels": 3, "data.image_size": 18, "views.base.size": 16})
    torch.manual_seed(0)
    save_encoder(tmp_path / "encoder.safetensors", config.encoder.build(3), config, {})
    write_classes(tmp_path / "photos", 4, suffix="jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def expected(folder: Path, names: list[str]) -> np.ndarray:
    """Features as the probes have them, in batches of another size."""
    images = data.StreamedImages(folder, tuple(names), 18, 3, "cpu")
    return encode(synthcl.load_encoder("encoder.safetensors"), images, None, 3, 16).numpy()


def read(file: Path) -> tuple[list[str], np.ndarray]:
    """Paths and features, as a user reads them."""
    if file.suffix == ".parquet":
        table = pd.read_parquet(file)
        return list(table.path), np.stack(table.features)
    if file.suffix == ".npz":
        arrays = np.load(file, allow_pickle=False)
        return arrays["path"].tolist(), arrays["features"]
    stored = torch.load(file, weights_only=True)
    return stored["paths"], stored["features"].numpy()


@pytest.mark.parametrize("kind", ["parquet", "npz", "pt"])
def test_every_kind_of_file_has_the_features_that_probes_are_fitted_on(here, kind):
    (here / "photos" / "broken.jpg").write_bytes(b"none")
    done = run("embed", "encoder.safetensors", "photos", "--out", f"f.{kind}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"f.{kind}: 8 images x 32 features, ")
    assert done.stdout.endswith(" images/s, 1 left out that cannot be read\n")
    assert "left out: image 'photos/broken.jpg' cannot be read" in done.stderr
    paths, features = read(here / f"f.{kind}")
    assert paths == [f"{name}/{image}.jpg" for name in ("cat", "dog") for image in range(4)]
    assert features.dtype == np.float32
    (here / "photos" / "broken.jpg").unlink()
    np.testing.assert_allclose(features[:8], expected(here / "photos", paths), atol=1e-5)
    assert sorted(file.name for file in here.iterdir()) == [
        "encoder.json",
        "encoder.safetensors",
        f"f.{kind}",
        "photos",
    ]


def test_a_list_names_files_relative_to_its_own_folder_and_python_gives_the_same(here):
    write_image(here / "photos" / "two words é.png", 5)
    listed = ["dog/1.jpg", "two words é.png", str(here / "photos" / "cat" / "0.jpg"), "gone.png"]
    (here / "photos" / "list.txt").write_text("\r\n".join(listed) + "\n\n")
    done = run("embed", ".", "photos/list.txt", "--out", "f.parquet")
    assert done.returncode == 0, done.stderr
    paths, features = read(here / "f.parquet")
    assert paths == listed[:3]
    for encoder in ("encoder.safetensors", synthcl.load_encoder("encoder.safetensors")):
        by_python, again = synthcl.embed(encoder, [here / "photos" / name for name in listed])
        assert by_python == [str(here / "photos" / name) for name in listed[:3]]
        np.testing.assert_array_equal(again, features)


def test_a_module_without_a_transform_and_no_images_are_refused(here):
    with pytest.raises(UserError, match="Linear without a transform; give what load_encoder returns"):
        synthcl.embed(torch.nn.Linear(1, 1), "photos")
    with pytest.raises(UserError, match="empty list"):
        synthcl.embed("encoder.safetensors", [])


def test_a_name_that_is_no_text_is_written_as_text(here):
    (here / "photos" / "cat" / "0.jpg").rename(os.fsdecode(os.fsencode(here / "photos" / "cat") + b"/\xff.jpg"))
    assert run("embed", ".", "photos", "--out", "f.parquet").returncode == 0
    assert read(here / "f.parquet")[0][3] == "cat/\ufffd.jpg"


def fails_after(chunks: int, monkeypatch) -> None:
    encoded, left = embedding._encoded, [chunks]

    def fail(*given):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return encoded(*given)

    monkeypatch.setattr(embedding, "_encoded", fail)


def test_what_is_done_is_not_done_again_unless_something_changed(here, monkeypatch):
    monkeypatch.setattr(embedding, "CHUNK_FILES", 2)
    given = ("embed", ".", "photos", "--out", "f.npz")
    (here / "photos" / "cat" / "1.jpg").write_bytes(b"none")
    assert run(*given[:-1], "whole.npz").returncode == 0
    with monkeypatch.context() as patched:
        fails_after(3, patched)
        assert run(*given).returncode == 130
    assert not (here / "f.npz").exists()
    with monkeypatch.context() as patched:
        fails_after(1, patched)  # one of four chunks is left
        done = run(*given)
        assert done.returncode == 0
        assert "1 left out" in done.stdout
        assert "photos/cat/1.jpg" in done.stderr
    assert np.array_equal(read(here / "f.npz")[1], read(here / "whole.npz")[1])

    for change in (lambda: write_image(here / "photos" / "cat" / "1.jpg", 9), lambda: reseeded(here)):
        with monkeypatch.context() as patched:
            fails_after(3, patched)
            assert run(*given).returncode == 130
        change()
        assert run(*given).returncode == 0
        paths, features = read(here / "f.npz")
        assert paths[1] == "cat/1.jpg"
        np.testing.assert_allclose(features, expected(here / "photos", paths), atol=1e-5)


def reseeded(folder: Path) -> None:
    """Other weights under the same name."""
    _, config = synthcl.runs.export.load_any(folder)
    torch.manual_seed(1)
    save_encoder(folder / "encoder.safetensors", config.encoder.build(3), config, {})


def test_a_killed_command_resumes(here):
    names = [f"cat/{image}.jpg" for image in range(4)] * 1000
    (here / "photos" / "list.txt").write_text("\n".join(names))
    command = [sys.executable, "-m", "synthcl.programs.command", "embed", ".", "photos/list.txt", "--out", "f.parquet"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parts = here / ".f.parquet.parts"
    with subprocess.Popen(command, env=environment) as process:
        while len(list(parts.glob("*.safetensors"))) < 2:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not (here / "f.parquet").exists()
    kept = {file: file.stat().st_mtime_ns for file in parts.glob("[0-9]*")}
    assert 2 <= len(kept) < 16
    encoder, files = synthcl.load_encoder("encoder.safetensors"), embedding.find_files("photos/list.txt")
    seen = [chunk.kept for chunk in embedding.embed_chunks(encoder, files, parts)]
    assert seen.count(True) == len(kept)
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    done = run(*command[3:])
    assert done.stdout == "f.parquet: 4,000 images x 32 features\n"  # there was nothing left to encode
    paths, features = read(here / "f.parquet")
    assert paths == names
    np.testing.assert_allclose(features[-4:], features[:4], atol=1e-5)
    assert not parts.exists()
