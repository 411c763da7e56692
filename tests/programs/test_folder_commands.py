"""The whole path of the preset `folder`, as typed, on images as users have them: strange files, one of them broken."""

import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import warnings
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import ray
from PIL import Image
from program import ROOT, run, run_script
from short_budget import short_budget
from strange_images import write_strange_images
from tiny_run import arguments

from synthcl import load_encoder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("own images") / "photos of 2024"
    write_strange_images(root)
    return root


@pytest.fixture(scope="module")
def command(ray_address, photos):
    """Runs a program on the photos; the path has a space, as theirs do."""
    storage = photos.parent / "runs"
    scored_twice = {"evaluation.rungs": [0.5, 1.0], "evaluation.label_fractions": [1.0, 0.1]}
    options = ["--preset", "folder", *arguments(short_budget(photos, storage) | scored_twice)]

    def typed(*words, alone=False, out=None):
        with mock.patch.dict(os.environ, {"RAY_ADDRESS": ray_address}):
            return in_another(*words) if alone else in_this(*words, out=out)

    return typed, options, storage / "folder"


class InterruptAtFirstScore(io.StringIO):
    """Standard output that sends this process Ctrl-C as soon as a run's first score is printed."""

    interrupted = False

    def write(self, text):
        written = super().write(text)
        if not self.interrupted and re.search(r"kimg +\d+%  +\d", text):
            self.interrupted = True
            os.kill(os.getpid(), signal.SIGINT)
        return written


def in_this(script, *given, out):
    """In this process: importing torch and Ray for each of so many commands takes a minute."""
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("default")
            for hidden in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
                warnings.simplefilter("ignore", hidden)  # as Python does
            done = run_script(script, *given, out=out)
    finally:
        ray.shutdown()
    done.stderr += "".join(f"{each.category.__name__}: {each.message}\n" for each in warned)
    return done


def in_another(*words):
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=600)


def unhurt(done):
    """Whether a command ended well and said nothing that a user would wonder about."""
    assert done.returncode == 0, done.stderr
    for word in ("Traceback", "Warning", "warning:", "error:"):
        assert word not in done.stderr + done.stdout, done.stderr
    return True


@pytest.fixture(scope="module")
def encoder(command):
    """What a search on the photos leaves that was interrupted at its first score and begun again."""
    typed, options, folder = command
    plan = typed("tune/search.py", *options, "--dry-run")
    assert unhurt(plan)
    assert re.search(r"^unlabelled +\d+ images to pretrain on", plan.stdout, re.MULTILINE)
    assert not folder.exists()
    assert typed("tune/search.py", *options, out=InterruptAtFirstScore()).returncode == 130
    assert not list((folder / "confirm").glob("*"))
    assert unhurt(typed("tune/search.py", *options))
    return folder / "encoder.safetensors"


def test_a_search_on_strange_images_leaves_an_encoder_and_a_report(encoder):
    assert load_encoder(encoder).feature_dim == 512
    assert (encoder.parent / "report.md").stat().st_size > 0


def test_the_encoder_is_scored_on_the_same_images_by_its_path_alone(encoder, command):
    done = command[0]("tune/evaluate.py", str(encoder), "--test", "--json")
    assert unhurt(done)
    scores = json.loads(done.stdout)
    assert {name.split("@")[0] for name in scores} >= {"val/linear/folder", "test/linear/folder", "test/knn/folder"}
    assert all(math.isfinite(score) for score in scores.values())


def test_one_training_on_strange_images_leaves_an_encoder(command):
    typed, options, folder = command
    assert unhurt(typed("tune/train.py", *options))
    assert load_encoder(folder / "train-joint.safetensors").feature_dim == 512


def test_two_commands_lead_from_a_flat_folder_without_labels_to_features(command, tmp_path):
    """The settings are those of docs/folder-to-classifier.md, for a CPU, with next to no steps."""
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (2000, 16, 16, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "photos" / f"{number:04d}.png")
    own = {"data.root": tmp_path / "photos", "compute.storage": tmp_path / "runs", "name": "photos"}
    own |= {"data.image_size": 32, "encoder.kind": "conv", "training.kimg": 0.512, "training.batch_images": 128}
    own |= {
        "synthetic.gan.generator_width": 4,
        "synthetic.gan.discriminator_width": 4,
        "synthetic.gan.warmup_kimg": 0.512,
    }
    typed, synthcl = command[0], ["synthcl/programs/command.py"]
    trained = typed(*synthcl, "train", "--preset", "folder", *arguments(own))
    assert unhurt(trained)
    assert "no labels" in trained.stdout
    file = tmp_path / "features.parquet"
    encoder = tmp_path / "runs/photos/train-joint.safetensors"
    assert unhurt(typed(*synthcl, "embed", str(encoder), str(tmp_path / "photos"), "--out", str(file)))
    table = pd.read_parquet(file)
    assert len(table) == 2000
    features = np.stack(table.iloc[:, 1]) if len(table.columns) == 2 else table.iloc[:, 1:].to_numpy()
    assert features.shape == (2000, load_encoder(encoder).feature_dim)
    assert np.isfinite(features).all()


def test_the_doctor_finds_strange_images_in_order(command):
    typed, options, _ = command
    done = typed("tune/doctor.py", *options)
    assert done.stderr == ""
    head, row, *lines = done.stdout.splitlines()
    assert (head.split()[-1], row.split()[-1]) == ("data", "there")
    assert not any("photos of 2024" in line for line in lines)


def test_a_plan_of_gpus_for_a_folder(command):
    typed, options, _ = command
    done = typed("benchmarks/speed/plan.py", "--gpus", "1,2", *options)
    assert unhurt(done)
    assert "hours a trial" in done.stdout
    assert all(math.isfinite(ratio) for ratio in json.loads(done.stdout.splitlines()[-1]).values())


@pytest.mark.parametrize("program", ["search", "train"])
def test_a_broken_file_among_them_is_named_in_a_line_before_anything_runs(program, tmp_path):
    broken = tmp_path / "photos" / "train" / "Zoë's cats" / "half a download.jpg"
    write_strange_images(tmp_path / "photos")
    whole = broken.with_name("turned.JPG").read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    overrides = arguments(short_budget(tmp_path / "photos", tmp_path / "runs"))
    done = run(program, "--preset", "folder", *overrides)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"error: image {str(broken)!r} cannot be read: " in done.stderr
    assert "replace or remove it" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_the_doctor_and_an_evaluation_name_a_broken_file(encoder, command, photos):
    typed, options, _ = command
    broken = photos / "train" / "Zoë's cats" / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    try:
        seen = typed("tune/doctor.py", *options)
        scored = typed("tune/evaluate.py", str(encoder), alone=True)  # a process keeps the images that it has read
    finally:
        broken.unlink()
    assert seen.returncode == 1
    assert f"image {str(broken)!r} cannot be read: " in seen.stdout
    assert scored.returncode == 2
    (line,) = (line for line in scored.stderr.splitlines() if "has no test folder" not in line)  # said of the cut
    assert line.startswith(f"error: image {str(broken)!r} cannot be read: ")
