"""cluster.yaml passes every rule, and every rule finds a file that breaks it."""

from __future__ import annotations

import copy
import hashlib
import os
import re
import shlex
import subprocess
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import program
import pytest
import yaml
from ray.autoscaler._private.command_runner import _with_interactive

from synthcl import UserError
from synthcl.cluster import launch_file

ROOT = Path(__file__).parents[2]
Cluster = dict[str, Any]


def load() -> Cluster:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def workers(cluster: Cluster) -> dict[str, Any]:
    return {name: node for name, node in cluster["available_node_types"].items() if name != cluster["head_node_type"]}


def node_environment(cluster: Cluster, home: Path) -> dict[str, str]:
    """What a shell that Ray opens on a node exports, after the setup commands that write to ~/.bashrc."""
    clean = {"HOME": str(home), "PATH": os.environ["PATH"]}
    for command in cluster["setup_commands"]:
        if "_env" in command:
            subprocess.run(["bash", "-c", command], env=clean, cwd=home, check=True)
    shell = " ".join(_with_interactive("env"))
    shown = subprocess.run(
        ["bash", "-c", shell], env=clean, cwd=home, check=True, capture_output=True, text=True
    ).stdout
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def every_install_is_dated(cluster: Cluster) -> None:
    installs = [line for key in cluster if key.endswith("_commands") for line in cluster[key] if "pip install" in line]
    assert installs
    assert all(re.search(r"--exclude-newer \d{4}-\d\d-\d\d\b", line) for line in installs)


def workers_are_spot_from_zero(cluster: Cluster) -> None:
    head = cluster["available_node_types"][cluster["head_node_type"]]
    assert "InstanceMarketOptions" not in head["node_config"]
    assert workers(cluster)
    for name, node in workers(cluster).items():
        assert node["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot", name
        assert node["min_workers"] == 0, name
        assert node["max_workers"] <= cluster["max_workers"], name


def only_the_package_is_uploaded(cluster: Cluster) -> None:
    mounted = {local for local in cluster["file_mounts"].values() if not local.startswith("~")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"pyproject.toml", "synthcl", "tune", project["readme"], *project["license-files"][:1]} == mounted


def replace(key: str, old: str, new: str) -> Callable[[Cluster], None]:
    def mutate(cluster: Cluster) -> None:
        assert any(old in line for line in cluster[key])
        cluster[key] = [line.replace(old, new) for line in cluster[key]]

    return mutate


def put(path: str, value: Any) -> Callable[[Cluster], None]:
    def mutate(cluster: Cluster) -> None:
        *parents, leaf = path.split(".")
        for part in parents:
            cluster = cluster[part]
        cluster[leaf] = value

    return mutate


L4 = "available_node_types.l4"
NODE = f"{L4}.node_config"
DIGEST = "@sha256:" + "0" * 64
BROKEN: list[tuple[Callable[[Cluster], None], str]] = [
    (put("max_worker", 3), "ray up refuses it: Additional properties are not allowed ('max_worker' was unexpected)"),
    (put("head_node_type", "captain"), "ray up refuses it"),
    (put(f"{L4}.min_workers", 9), "ray up refuses it"),
    (put(f"{L4}.min_worker", 0), "ray up refuses it"),
    (replace("setup_commands", "]==2.60.0", "]==2.59.0"), "install ray==2.59.0, this synthcl needs ray==2.60.0"),
    (replace("setup_commands", "]==2.60.0", "]>=2.60.0"), "no exact version of ray; add ray==2.60.0"),
    (replace("setup_commands", "torch==2.14.1", "torch"), "no exact version of torch;"),
    (replace("setup_commands", "torch==2.14.1", "torch==1.13.1"), "install torch==1.13.1, this synthcl needs torch"),
    (replace("setup_commands", "optuna==5.0.0", "optuna"), "no exact version of optuna"),
    (replace("setup_commands", "--python 3.11.14", "--python 3.11"), "Python 3.11; name it to the last digit"),
    (replace("setup_commands", "RAY_AUTH_MODE=token", ""), "do not export RAY_AUTH_MODE=token"),
    (replace("worker_start_ray_commands", "ray start", "RAY_AUTH_MODE=disabled ray start"), "RAY_AUTH_MODE=disabled"),
    (put("file_mounts", {}), "file_mounts lack ~/.ray/auth_token"),
    (replace("head_start_ray_commands", "=127.0.0.1", "=0.0.0.0"), "a command says --dashboard-host=0.0.0.0"),
    (replace("head_start_ray_commands", "=127.0.0.1", "=::"), "a command says --dashboard-host=::"),
    (replace("head_start_ray_commands", "ray stop", "tensorboard --bind_all"), "a command says --bind_all"),
    (put("docker", {"image": "rayproject/ray:2.60.0", "container_name": "ray"}), "add its digest, @sha256:"),
    (put("provider.regoin", "us-west-2"), "provider.regoin is no key"),
    (put("provider.security_group", {"GroupName": "narrow"}), "Ray opens ssh to 0.0.0.0/0"),
    (put(f"{NODE}.SecurityGroupIds", []), "l4.node_config.SecurityGroupIds is missing"),
    (put(f"{NODE}.InstanceTyp", "g6.xlarge"), "InstanceTyp is no key; the closest is InstanceType"),
    (put(f"{NODE}.MetadataOptions.HttpToken", "required"), "HttpToken is no key of MetadataOptions; the closest is"),
    (put(f"{NODE}.InstanceType", 6), "Invalid type for parameter InstanceType, value: 6"),
    (put(f"{NODE}.ImageId", None), "l4.node_config: Invalid type for parameter ImageId, value: None"),
    (put(f"{NODE}.MetadataOptions", "none"), "l4.node_config: Invalid type for parameter MetadataOptions"),
    (put(f"{NODE}.BlockDeviceMappings", {}), "l4.node_config: Invalid type for parameter BlockDeviceMappings"),
    (put(f"{NODE}", {}), "l4.node_config.ImageId is None; name an image"),
    (replace("setup_commands", "torch==2.14.1", "torch==new"), "torch==new, this synthcl needs torch"),
    (put(f"{NODE}.ImageId", "ubuntu"), "l4.node_config.ImageId is 'ubuntu'; name an image"),
    (put(f"{NODE}.IamInstanceProfile", {}), "l4.node_config.IamInstanceProfile is missing"),
    (put(f"{NODE}.IamInstanceProfile.Name", "synthcl-head"), "is the head's"),
    (put("available_node_types.head.node_config.IamInstanceProfile", {}), "Ray's own may do everything"),
    (put(f"{NODE}.MetadataOptions", {}), "l4.node_config.MetadataOptions.HttpTokens must be required"),
    (put(f"{NODE}.BlockDeviceMappings", [{"DeviceName": "/dev/sda1", "Ebs": {}}]), "/dev/sda1 is not encrypted"),
]


def test_the_cluster_file_has_no_fault_but_what_is_to_be_filled_in() -> None:
    lines = launch_file.faults(load())
    fields = [line.split()[0].rsplit(".", 1)[1] for line in lines]
    assert fields == ["ImageId", "SubnetIds", "SecurityGroupIds"]
    assert all("is a placeholder; put your own there" in line for line in lines)


@pytest.mark.parametrize(("mutate", "said"), BROKEN, ids=[said for _, said in BROKEN])
def test_a_fault_is_one_line_that_names_it(mutate: Callable[[Cluster], None], said: str) -> None:
    cluster = copy.deepcopy(load())
    mutate(cluster)
    lines = launch_file.faults(cluster)
    assert any(said in line for line in lines), lines
    assert not any("\n" in line for line in lines)


@pytest.mark.parametrize("value", [None, [], {}, "x"])
def test_no_file_is_so_broken_that_it_cannot_be_judged(value: Any) -> None:
    for key in load():
        cluster = load() | {key: value}
        assert all("\n" not in line for line in launch_file.faults(cluster))
        del cluster[key]
        launch_file.faults(cluster)


def test_a_whole_image_named_by_its_digest_may_bring_the_versions() -> None:
    cluster = load() | {"docker": {"image": f"rayproject/ray{DIGEST}", "container_name": "ray"}}
    cluster["setup_commands"] = ["export RAY_AUTH_MODE=token"]
    cluster["head_setup_commands"] = []
    assert all("placeholder" in line for line in launch_file.faults(cluster))


def test_a_cluster_of_own_machines_needs_nothing_of_aws() -> None:
    cluster = load() | {"provider": {"type": "local", "head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2"]}}
    for cloud in ("available_node_types", "head_node_type", "max_workers"):
        del cluster[cloud]
    assert launch_file.faults(cluster) == []
    del cluster["provider"]["head_ip"]
    (line,) = launch_file.faults(cluster)
    assert "ray up refuses it: " in line
    assert "head_ip" in line


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "cannot be read: No such file"), ("a: [", "is not YAML"), ("- a", "must be a mapping, not list")],
)
def test_a_file_that_is_none_is_refused(text: str | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=said) as error:
        launch_file.read(file)
    assert "\n" not in str(error.value)


DESIGN: list[tuple[Callable[[Cluster], None], Callable[[Cluster], None]]] = [
    (every_install_is_dated, replace("head_setup_commands", "--exclude-newer 2026-11-22", "")),
    (workers_are_spot_from_zero, put("available_node_types.a10g.min_workers", 1)),
    (workers_are_spot_from_zero, put("available_node_types.a10g.node_config.InstanceMarketOptions", {})),
    (only_the_package_is_uploaded, put("file_mounts.~/synthcl", ".")),
]


@pytest.mark.parametrize("check", dict.fromkeys(check for check, _ in DESIGN), ids=lambda check: check.__name__)
def test_the_cluster_file_is_made_as_it_says(check: Callable[[Cluster], None]) -> None:
    check(load())


@pytest.mark.parametrize(("check", "mutate"), DESIGN, ids=lambda function: function.__name__)
def test_another_making_is_noticed(check: Callable[[Cluster], None], mutate: Callable[[Cluster], None]) -> None:
    cluster = copy.deepcopy(load())
    mutate(cluster)
    with pytest.raises((AssertionError, KeyError)):
        check(cluster)


def test_a_shell_on_a_node_has_the_token_and_quick_health_checks_however_often_setup_ran(tmp_path: Path) -> None:
    for _ in range(2):
        environment = node_environment(load(), tmp_path)
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["PATH"].startswith(f"{tmp_path}/venv/bin:")
    assert (tmp_path / ".bashrc").read_text().count("synthcl_env") == 1
    names = ["period_ms", "timeout_ms", "failure_threshold"]
    period, timeout, failures = (int(environment[f"RAY_health_check_{name}"]) for name in names)
    assert (period + timeout) * failures <= 30_000
    assert int(environment["RAY_grpc_client_keepalive_time_ms"]) <= 10_000


def recipe(begins: str) -> str:
    """The command of the file's head comment that begins so, as one pastes it: a line."""
    lines = [line.removeprefix("#   ") for line in (ROOT / "cluster.yaml").read_text().splitlines()]
    (found,) = (line for line in lines if line.startswith(begins))
    return found


def stub(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


def given_by(command: str, home: Path) -> list[str]:
    """What a command of the head comment gives to Python in the end: `ray exec` and `ray job submit` are shells."""
    stub(home / "bin", "python", 'printf "%s\\0" "$PWD" "$@" > "$HOME/given"')
    (home / "synthcl").mkdir(exist_ok=True)
    _, _, _, on_the_head = shlex.split(command)  # ray exec cluster.yaml COMMAND
    if on_the_head.startswith("ray job submit"):
        submitted = shlex.split(on_the_head)
        on_the_head = subprocess.list2cmdline(submitted[submitted.index("--") + 1 :])  # as Ray joins them
    clean = {"HOME": str(home), "PATH": f"{home}/bin:/usr/bin:/bin"}
    subprocess.run(["bash", "-c", on_the_head], env=clean, check=True, timeout=60)
    return (home / "given").read_text().rstrip("\0").split("\0")


@pytest.mark.parametrize(
    ("begins", "name"), [('ray exec cluster.yaml "ray job', "search"), ("ray exec cluster.yaml 'cd", "doctor")]
)
def test_the_commands_of_the_head_comment_give_a_program_all_that_they_say(
    begins: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "synthcl.runs.preflight.open_data", lambda config, **options: SimpleNamespace(describe=lambda: "as imitated")
    )
    where, script, *arguments = given_by(recipe(begins), tmp_path)
    assert where == str(tmp_path / "synthcl")
    assert script == f"tune/{name}.py"
    done = program.run(name, *arguments, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert '"storage": "s3://YOUR-BUCKET/synthcl"' in done.stdout
    assert '"address": "auto"' in done.stdout
    if name == "search":
        assert '"source": "cifar10"' in done.stdout
        assert '"checkpoint_minutes": 3.0' in done.stdout
        assert '"download": true' in done.stdout


def uv_of(home: Path, changed: str = "", digest: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command that installs uv, its download being a wheel of ours."""
    wheel = home / "served.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("uv-0.13.9.data/scripts/uv", f"#!/bin/sh\necho uv{changed}\n")
    stub(home / "bin", "curl", f'while [ "$1" != -o ]; do shift; done; cp {wheel} "$2"')
    (command,) = (line for line in load()["setup_commands"] if "uv.whl" in line)
    if digest is not None:
        command = re.sub(r"[0-9a-f]{64}  uv", f"{digest}  uv", command)
    clean = {"HOME": str(home), "PATH": f"{home}/bin:/usr/bin:/bin"}
    return subprocess.run(["bash", "-c", command], env=clean, cwd=home, capture_output=True, text=True, timeout=60)


def test_uv_is_installed_when_its_digest_is_right_and_left_alone_otherwise(tmp_path: Path) -> None:
    forged = uv_of(tmp_path)
    assert forged.returncode != 0
    assert "uv.whl: FAILED" in forged.stdout + forged.stderr
    installed = tmp_path / ".local/bin/uv"
    assert not installed.exists()
    digest = hashlib.sha256((tmp_path / "served.whl").read_bytes()).hexdigest()
    assert uv_of(tmp_path, digest=digest).returncode == 0
    assert subprocess.run([installed], capture_output=True, text=True, check=True).stdout == "uv\n"
    assert uv_of(tmp_path, changed=" again").returncode == 0  # one that is there is not fetched again
    assert subprocess.run([installed], capture_output=True, text=True, check=True).stdout == "uv\n"


def test_the_wheel_of_uv_is_named_by_version_and_content() -> None:
    (command,) = (line for line in load()["setup_commands"] if "uv.whl" in line)
    (version,) = re.findall(r"https://files\.pythonhosted\.org/packages/\S+/uv-([\d.]+)-py3-none-manylinux\S+", command)
    assert f"uv-{version}.data/scripts/uv" in command
    assert not any(re.search(r"curl[^|]*\|\s*(ba)?sh\b", line) for line in launch_file._commands(load()))


def test_spot_workers_listen_for_the_notice_and_the_head_need_not() -> None:
    (listen,) = (line for line in load()["worker_start_ray_commands"] if "spot.py" in line)
    assert re.search(r"python -P ~/synthcl/synthcl/cluster/spot\.py", listen)
    assert (ROOT / "synthcl/cluster/spot.py").is_file()
    assert all(part in listen for part in ("setsid --fork", "> ", "2>&1", "< /dev/null"))  # or ssh would wait for it
    assert not any("spot.py" in line for line in load()["head_start_ray_commands"])


def test_the_recipe_for_the_security_group_lets_in_a_named_range() -> None:
    ranges = re.findall(r"--cidr (\S+)", (ROOT / "cluster.yaml").read_text())
    assert ranges == ["203.0.113.0/24"]  # TEST-NET-3 (RFC 5737): reaches nobody until it is edited
