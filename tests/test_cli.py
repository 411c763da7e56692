"""The programs as their users meet them: every mistake is one line and exit code 2, before anything is spent."""

import subprocess
import sys

import pytest
from program import ROOT, run
from tiny_run import TINY, arguments

from synthcl import UserError, load_preset
from synthcl.cluster import require_resources

PROGRAMS = ("search", "train", "evaluate")


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_shows_examples(program):
    done = run(program, "--help")
    assert done.returncode == 0
    assert f"python tune/{program}.py" in done.stdout


@pytest.mark.parametrize("program", ["search", "train"])
def test_a_dry_run_prints_the_config_and_the_plan_and_writes_nothing(program, tmp_path):
    done = run(program, "--dry-run", "--storage", str(tmp_path / "runs"), "training.kimg=12.8")
    assert done.returncode == 0
    assert '"kimg": 12.8' in done.stdout
    assert "100 steps of 128 images (256 views)" in done.stdout
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("program", "given", "line"),
    [
        ("search", ["--preset", "nowhere"], "preset 'nowhere' is unknown; choose cifar10"),
        ("search", ["training.speed=3"], "there is no field 'training.speed'"),
        ("search", ["training.temperature=-1"], "training.temperature = -1"),
        ("search", ["temperature"], "is not of the form field=value"),
        ("search", ["--trials", "many"], "--trials 'many' is not a count"),
        ("search", ["search.space=nowhere"], "search.space 'nowhere'"),
        ("search", ["data.source=nowhere"], "data.source 'nowhere' is unknown; choose"),
        ("search", ["--preset", "folder", "data.root=nowhere"], "nowhere"),
        ("search", ["--preset", "cifar10", "data.root=nowhere"], "nowhere"),
        ("search", ["evaluation.transfer=[nowhere]"], "nowhere"),
        ("search", ["data.image_fraction=0.001"], "gives 8 unlabelled images, fewer than the 128 of a step"),
        ("search", ["training.batch_images=250", "compute.workers_per_trial=4"], "must be a multiple of 8"),
        ("search", ["--storage", "/proc/version/below"], "compute.storage '/proc/version/below' cannot be written"),
        ("search", ["--storage", "gopher://x/y"], "compute.storage 'gopher://x/y'"),
        ("train", ["--arm", "nowhere"], "arm 'nowhere' is unknown; choose real-only"),
        ("train", ["gan.generator=nowhere:Generator"], "nowhere"),
        ("evaluate", ["nowhere.safetensors"], "there is no file 'nowhere.safetensors'"),
        ("evaluate", ["nowhere"], "there is no file nowhere"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(program, given, line, tmp_path):
    storage = [] if program == "evaluate" or "--storage" in given else ["--storage", str(tmp_path / "runs")]
    done = run(program, *given, *storage)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert line in done.stderr
    assert not list(tmp_path.glob("runs/gan/*"))


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["compute.workers_per_trial=64"], "compute.workers_per_trial=64 needs 64 CPUs"),
        (["--address", "127.0.0.1:1"], "compute.address '127.0.0.1:1': no Ray cluster answers there"),
    ],
)
def test_a_cluster_that_cannot_serve_is_found_before_any_training(given, line, tmp_path):
    small = [word for word in arguments(TINY) if not word.startswith("training.batch_images")]
    program = [sys.executable, str(ROOT / "tune/train.py"), "--storage", str(tmp_path), *small]
    done = subprocess.run([*program, "training.batch_images=128", *given], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert line in done.stderr
    assert not (tmp_path / "gan").exists()


@pytest.mark.parametrize(
    ("given", "there", "line"),
    [
        ({"compute.gpus_per_worker": 99}, {"CPU": 8, "GPU": 4}, "needs 99 GPUs a trial, the cluster has 4"),
        ({"compute.cpus_per_worker": 9}, {"CPU": 8}, "needs 9 CPUs a trial, the cluster has 8"),
    ],
)
def test_what_a_trial_needs_is_compared_with_what_there_is(given, there, line):
    config = load_preset("fashion-mini")
    require_resources(config, there)
    with pytest.raises(UserError, match=line):
        require_resources(config.with_overrides(given), there)
