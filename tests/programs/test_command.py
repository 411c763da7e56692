"""The installed command: its programs, what can be set, and a wheel in a folder of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from program import ROOT, run
from tiny_run import TINY, arguments
from uv import find_uv_bin

from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.programs.command import PROGRAMS
from synthcl.programs.completion import script
from synthcl.programs.fields import lines


def synthcl(*given: str, folder: Path = ROOT, path: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(path)}
    command = [sys.executable, "-m", "synthcl.programs.command", *given]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_without_a_program_it_names_them_all() -> None:
    for given, code in (((), 2), (("--help",), 0), (("serach",), 2)):
        told = synthcl(*given)
        assert told.returncode == code
        assert all(f"\n  {name}" in told.stdout + told.stderr for name in PROGRAMS)


def test_a_program_is_that_of_tune() -> None:
    given = ("search", "--dry-run", "training.kimg=12.8")
    told, script = synthcl(*given), run(*given)
    assert (told.returncode, told.stdout) == (0, script.stdout)
    refused = synthcl("train", "training.kimg=-1")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: override: training.kimg = -1")
    assert {file.stem for file in (ROOT / "tune").glob("*.py")} < PROGRAMS.keys()


@pytest.mark.parametrize("section", [name for name in Config.model_fields if name != "name"])
def test_every_field_of_a_section_is_told_with_its_line(section: str) -> None:
    told = list(lines(section))
    fields = [line for line in told if line.startswith("  ") and not line.startswith("  field ")]
    assert fields
    for line in fields:
        name, *rest = line.split()
        assert name == "kind" or len(rest) > 3, line  # type, default and some words


def test_bounds_defaults_and_kinds_are_told() -> None:
    kimg = next(line for line in lines("training") if line.startswith("  kimg "))
    assert all(part in kimg for part in ("float, > 0", " 100 ", "thousand images"))
    kinds = "\n".join(lines("curriculum.hardness"))
    assert all(re.search(rf"^  kind +{kind} ", kinds, re.MULTILINE) for kind in ("constant", "linear", "table"))
    assert "terms holds members by name" in next(lines("terms"))
    with pytest.raises(UserError, match=r"no field 'kimgs' in 'training\.kimgs'; there: batch_images"):
        list(lines("training.kimgs"))
    with pytest.raises(UserError, match=r"training\.kimg is a field"):
        list(lines("training.kimg"))


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("completion") / "synthcl.bash"
    file.write_text(script("bash", PROGRAMS))
    return file


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("se", {"search"}),
        ("search --hou", {"--hours"}),
        ("search training.ki", {"training.kimg="}),
        ("search views.base.crop_area_mi", {"views.base.crop_area_min="}),
        ("train --preset cifar100", {"cifar100"}),
        ("train --arm hard", {"hard-only"}),
        ("fields curr", {"curriculum"}),
    ],
)
def test_bash_completes_programs_options_and_fields(bash: Path, typed: str, found: set[str]) -> None:
    words = typed.split()
    asked = f"source {bash}; COMP_WORDS=(synthcl {typed}); COMP_CWORD={len(words)}; _shtab_synthcl"
    told = subprocess.run(["bash", "-c", f'{asked}; echo "${{COMPREPLY[@]}}"'], capture_output=True, text=True)
    assert set(told.stdout.split()) == found, told.stderr


def test_completion_names_the_shells_and_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert script("zsh", PROGRAMS).startswith("#compdef synthcl")
    with pytest.raises(UserError, match=r"shell 'fsh' is none of bash, zsh, tcsh"):
        script("fsh", PROGRAMS)
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(UserError, match=r"pip install 'synthcl\[completion\]'"):
        script("bash", PROGRAMS)


MY_MODULE = """
import torch
from torch import nn

def MyGenerator(latent_dim, channels, image_size):
    pixels = nn.Linear(latent_dim, channels * image_size**2)
    return nn.Sequential(pixels, nn.Sigmoid(), nn.Unflatten(1, (channels, image_size, image_size)))

def make(channels):
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * channels, 384), nn.ReLU())

def change(views, numbers, strength):
    return views * (1 - 0.1 * strength * numbers[:, :1, None, None]) * (1 - 0.1 * numbers[:, 1:, None, None])

def halved(views, numbers, strength):
    return views[:, :, ::2, ::2]

def loss(vectors, groups):
    return -vectors.var(0).clamp(max=1).mean()
"""
"""as a user would write it to the table of docs/own-code.md"""


def test_code_of_ones_own_takes_part_as_documented(tmp_path: Path) -> None:
    (tmp_path / "my_module.py").write_text(MY_MODULE)
    path = Path(f"{ROOT}{os.pathsep}{tmp_path}")
    typed = re.findall(r"^\| .*? \| `(.*my_module:.*?)` \|", (ROOT / "docs/own-code.md").read_text(), re.MULTILINE)
    assert len(typed) == 4
    small = {field: value for field, value in TINY.items() if field != "encoder.width"}
    given = ["train", *arguments(small), *typed]

    refused = synthcl(*given, "views.mine.code=my_module:halved", "--dry-run", folder=tmp_path, path=path)
    assert refused.returncode == 2
    assert "views.mine.code 'my_module:halved' returned" in refused.stderr

    trained = synthcl(*given, "name=mine", folder=tmp_path, path=path)
    assert trained.returncode == 0, trained.stderr
    encoder = str(tmp_path / "runs" / "mine" / "train-joint.safetensors")
    asked = synthcl("evaluate", encoder, folder=tmp_path, path=path)
    assert asked.returncode == 2
    assert "--trust-code" in asked.stderr
    scored = synthcl("evaluate", encoder, "--trust-code", folder=tmp_path, path=path)
    assert scored.returncode == 0, scored.stderr
    assert "linear" in scored.stdout


def test_a_wheel_has_programs_presets_spaces_and_data(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", str(ROOT), "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path / "wheel")]
    subprocess.run([*pip, *build], check=True, capture_output=True, timeout=300)
    (wheel,) = (tmp_path / "wheel").glob("synthcl-*.whl")
    target = tmp_path / "installed"
    install = ["install", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run([*pip, *install], check=True, capture_output=True, timeout=300)
    environment = os.environ | {"PYTHONPATH": str(target)}
    for space in ("curriculum", "generator", "knots"):
        given = ["search", "--preset", "fashion-mini", f"search.space={space}", "--dry-run"]
        told = subprocess.run(
            [str(target / "bin" / "synthcl"), *given], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert told.returncode == 0, told.stderr
        assert "8,000 labelled images in 10 classes" in told.stdout  # the embedded data
    where = "import synthcl; print(synthcl.__file__)"
    found = subprocess.run([sys.executable, "-c", where], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert found.stdout.startswith(str(target))
    page = "from synthcl.core.page import document; print(document('t', 'b', live=True, hover=True))"
    made = subprocess.run([sys.executable, "-c", page], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "location.reload" in made.stdout, made.stderr  # the files that a page is made of
    (installed,) = map(metadata.Distribution.at, target.glob("synthcl-*.dist-info"))
    assert_uvx_runs(wheel, installed.requires or [], tmp_path)


def assert_uvx_runs(wheel: Path, requires: list[str], folder: Path) -> None:
    """In an environment of its own; what synthcl depends on is lent to it, in place of gigabytes to download."""
    depends = {Requirement(line).name for line in requires} - {"synthcl"}
    overrides = folder / "overrides.txt"
    overrides.write_text("".join(f"{name}; python_version < '3'\n" for name in sorted(depends)))
    lent = {"PYTHONPATH": sysconfig.get_path("purelib"), "UV_CACHE_DIR": str(folder / "cache")}
    uvx = [find_uv_bin(), "tool", "run", "--offline", "--python", sys.executable, "--overrides", str(overrides)]
    told = subprocess.run(
        [*uvx, "--from", str(wheel), "synthcl", "fields", "training"],
        cwd=folder,
        env=os.environ | lent,
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    assert "thousand images; one image is two encoded views" in told.stdout


def test_an_import_brings_nothing_that_takes_long() -> None:
    slow = (
        "ray",
        "torch",
        "pydantic",
        "optuna",
        "scipy",
        "sklearn",
        "pandas",
        "pyarrow",
        "matplotlib",
        "torchvision",
        "tensorboard",
        "timm",
    )
    imported = "import sys, synthcl, synthcl.programs.command"
    found = f"{imported}; print(*{{{', '.join(map(repr, slow))}}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", found], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
