"""The doctor tells a healthy node from one with a fault, and names each fault in a line."""

import dataclasses
import subprocess
import sys

import pytest
from image_files import write_classes
from PIL import ImageFile
from program import ROOT, run

from synthcl import load_preset
from synthcl.cluster import doctor, node
from synthcl.runs.storage import Storage

GIB = 2**30
CONFIG = load_preset("fashion-mini")
WANTED = dict.fromkeys(node.versions(), "1.2.3") | {"torch": "2.14.1"}
HEALTHY = node.NodeReport(
    name="gpu-1 (10.0.0.11)",
    versions=WANTED,
    cpus=8,
    gpus=("NVIDIA L4, 22 of 22 GiB free",),
    gpus_in_ray=1,
    disk_free_bytes=90 * GIB,
    disk_free_fraction=0.6,
    memory_free_bytes=28 * GIB,
    memory_free_fraction=0.9,
    storage="",
    storage_seconds=0.04,
    data="",
    token=True,
    bf16=True,
)
FAULTS = [
    ({"versions": WANTED | {"torch": "2.13.0"}}, "has torch 2.13.0, here is 2.14.1; run the setup commands"),
    ({"gpus": ()}, "has 1 GPUs in Ray and 0 that PyTorch can use; install a driver"),
    ({"disk_free_fraction": 0.04, "disk_free_bytes": GIB}, "has 1.0 GiB of its disk free, under 5%; free some"),
    ({"memory_free_fraction": 0.01, "memory_free_bytes": GIB}, "has 1.0 GiB of its memory free, under 5%; end what"),
    ({"storage": "compute.storage 'x' cannot be read"}, ": compute.storage 'x' cannot be read"),
    ({"storage_seconds": 7.0}, "takes 7.0 s to write and read a few bytes of compute.storage 'runs'"),
    ({"data": "data set CIFAR10 cannot be opened"}, ": data set CIFAR10 cannot be opened"),
    ({"token": False}, "asks for no token"),
]


def faults(report, config=CONFIG):
    return list(doctor.faults(report, WANTED, config))


def test_a_healthy_node_has_no_fault():
    assert faults(HEALTHY) == []


@pytest.mark.parametrize(("changes", "said"), FAULTS, ids=[said for _, said in FAULTS])
def test_a_fault_is_one_line_that_names_node_and_remedy(changes, said):
    (line,) = faults(dataclasses.replace(HEALTHY, **changes))
    assert line.startswith("gpu-1 (10.0.0.11)")
    assert said in line


def test_a_cpu_without_instructions_for_bf16_is_told_where_a_run_takes_it():
    old = dataclasses.replace(HEALTHY, gpus=(), gpus_in_ray=0, bf16=False)
    assert faults(old) == []  # the preset computes in fp32
    (line,) = faults(old, CONFIG.with_overrides({"training.precision": "bf16"}))
    assert line.startswith("gpu-1 (10.0.0.11) has no GPU")
    assert "training.precision=fp32" in line


def test_data_that_will_be_downloaded_is_no_fault():
    downloading = CONFIG.with_overrides({"data.download": True})
    assert faults(dataclasses.replace(HEALTHY, data="data set CIFAR10 is not there"), downloading) == []


def test_the_table_has_a_line_a_node():
    broken = dataclasses.replace(HEALTHY, name="cpu-2 (10.0.0.12)", gpus=(), storage="none", data="none")
    head, first, second = doctor.table([HEALTHY, broken], CONFIG).splitlines()
    for column in ("node", "python", "torch", "GPUs", "disk free", "memory free", "storage", "data"):
        assert column in head
    assert first.split("  ")[0] == "gpu-1 (10.0.0.11)"
    assert all(word in first for word in ("2.14.1", "NVIDIA L4", "90.0 GiB", "28.0 GiB", "40 ms", "there"))
    assert all(word in second for word in ("none", "unusable", "missing"))


def test_this_machine_is_examined_and_left_as_it_was(tmp_path):
    config = CONFIG.with_overrides({"compute.storage": str(tmp_path / "runs")})
    storage = Storage(config.compute.storage, config.name)
    with storage.beacon() as beacon:
        report = node.examine(config, beacon, "here", gpus_in_ray=0)
    assert report.versions == node.versions()
    assert (report.storage, report.data) == ("", "")
    assert report.cpus >= 1
    assert 0 < report.disk_free_fraction < 1
    assert 0 < report.memory_free_fraction < 1
    assert not (tmp_path / "runs").exists()


def test_missing_data_and_another_storage_are_told_not_raised(tmp_path):
    there = {"compute.storage": str(tmp_path), "data.source": "cifar10", "data.root": str(tmp_path / "data")}
    config = CONFIG.with_overrides(there | {"data.download": True, "data.channels": 3, "data.image_size": 32})
    report = node.examine(config, "no such beacon", "here", gpus_in_ray=0)
    assert "cannot be read and written" in report.storage
    assert "CIFAR10 cannot be opened" in report.data
    assert not (tmp_path / "data").exists()


def test_a_folder_is_examined_without_decoding_and_its_fault_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    write_classes(tmp_path / "images" / "train", 100)
    there = {"data.source": "folder", "data.root": str(tmp_path / "images"), "compute.storage": str(tmp_path)}
    config = CONFIG.with_overrides(there | {"data.image_fraction": 1.0})
    assert node.examine(config, "no such beacon", "here", gpus_in_ray=0).data == ""
    (tmp_path / "images" / "train" / "cat" / "7.png").write_text("<html>404</html>")
    assert "train/cat/7.png' cannot be read" in node.examine(config, "no such beacon", "here", gpus_in_ray=0).data


def test_a_cluster_file_is_checked_without_a_cluster(tmp_path):
    done = run("doctor", "--cluster", str(ROOT / "cluster.yaml"))
    assert done.returncode == 1
    assert "mend: available_node_types.head.node_config.ImageId ami-00000000000000000 is a placeholder" in done.stdout
    missing = run("doctor", "--cluster", str(tmp_path / "cluster.yaml"))
    assert missing.returncode == 2
    assert missing.stderr.startswith("error: cluster file ")


def test_no_cluster_there_is_an_error_of_one_line(tmp_path):
    done = run("doctor", "--address", "127.0.0.1:1", "--storage", str(tmp_path))
    assert done.returncode == 2
    assert "no Ray cluster answers there" in done.stderr
    assert done.stderr.count("\n") == 1


def test_healthy_is_a_word_and_exit_code_0(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "visit", lambda config: ([HEALTHY], []))
    done = run("doctor", "--storage", str(tmp_path))
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "healthy"


def test_a_fault_that_a_node_finds_is_told_with_exit_code_1(tmp_path):
    """In a process of its own, as a user runs it: a Ray of this machine starts, looks and ends."""
    given = ["--preset", "cifar10", f"data.root={tmp_path}", "--storage", str(tmp_path / "runs")]
    ask = [sys.executable, str(ROOT / "tune/doctor.py"), *given]
    done = subprocess.run(ask, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr == ""
    head, row, *lines = done.stdout.splitlines()
    assert head.startswith("node")
    assert all(version in row for version in node.versions().values())
    assert any(line.startswith("mend: ") and "CIFAR10 cannot be opened" in line for line in lines)
    assert not any("token" in line for line in lines)  # Ray asks for one of its own accord
