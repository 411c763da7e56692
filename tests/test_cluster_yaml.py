"""`ray up cluster.yaml` asks Ray for what it must: every check also refuses a file that breaks its rule."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.command_runner import _with_interactive
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[1]
Cluster = dict[str, Any]


def load() -> Cluster:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def workers(cluster: Cluster) -> dict[str, Any]:
    return {name: node for name, node in cluster["available_node_types"].items() if name != cluster["head_node_type"]}


def commands(cluster: Cluster) -> str:
    return "\n".join(line for key, lines in cluster.items() if key.endswith("_commands") for line in lines)


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


def valid_to_ray(cluster: Cluster) -> None:
    validate_config(prepare_config(copy.deepcopy(cluster)))


def ray_is_the_pinned_one(cluster: Cluster) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (pin,) = (requirement for requirement in project["dependencies"] if requirement.startswith("ray["))
    assert re.findall(r"\bray\[[a-z,]+\]==[\d.]+", commands(cluster)) == [pin]
    assert pin.endswith(f"=={version('ray')}")


def what_nodes_share_is_exact(cluster: Cluster) -> None:
    for package in ("torch", "torchvision", "optuna"):
        assert re.search(rf"\b{package}==\d+\.\d+\.\d+\b", commands(cluster)), package
    installs = [line for line in commands(cluster).splitlines() if "pip install" in line]
    assert all(re.search(r"--exclude-newer \d{4}-\d\d-\d\d\b", line) for line in installs)
    (python,) = re.findall(r"--python (\d+)\.(\d+)\.\d+\b", commands(cluster))
    assert tuple(map(int, python)) >= (3, 11)


def token_reaches_every_node(cluster: Cluster) -> None:
    assert "~/.ray/auth_token" in cluster["file_mounts"]
    every_node = [line for line in cluster["setup_commands"] if "RAY_AUTH_MODE=token" in line]
    assert len(every_node) == 1
    assert "RAY_AUTH_MODE=disabled" not in commands(cluster)


def dashboard_is_on_loopback(cluster: Cluster) -> None:
    starts = [line for line in cluster["head_start_ray_commands"] if "ray start" in line]
    assert [re.findall(r"--dashboard-host=(\S+)", line) for line in starts] == [["127.0.0.1"]]
    assert "0.0.0.0" not in commands(cluster)


def ssh_is_not_open_to_the_internet(cluster: Cluster) -> None:
    # Ray adds ssh from 0.0.0.0/0 to any group it makes, also when provider.security_group lists narrower rules.
    assert "security_group" not in cluster["provider"]
    for name, node in cluster["available_node_types"].items():
        assert node["node_config"].get("SecurityGroupIds"), name


def every_node_has_an_instance_profile(cluster: Cluster) -> None:
    profiles = {
        name: node["node_config"]["IamInstanceProfile"] for name, node in cluster["available_node_types"].items()
    }
    head = profiles.pop(cluster["head_node_type"])
    assert head not in profiles.values(), "workers need the bucket, not the right to start machines"


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


BROKEN: list[tuple[Callable[[Cluster], None], Callable[[Cluster], None]]] = [
    (valid_to_ray, put("max_worker", 3)),
    (valid_to_ray, put("head_node_type", "captain")),
    (valid_to_ray, put("available_node_types.l4.min_workers", 9)),
    (ray_is_the_pinned_one, replace("setup_commands", "]==2.60.0", "]==2.59.0")),
    (ray_is_the_pinned_one, replace("setup_commands", "]==2.60.0", "]>=2.60.0")),
    (what_nodes_share_is_exact, replace("setup_commands", "torch==2.14.1", "torch")),
    (what_nodes_share_is_exact, replace("setup_commands", "--python 3.11", "--python 3.10")),
    (what_nodes_share_is_exact, replace("setup_commands", "--python 3.11.14", "--python 3.11")),
    (what_nodes_share_is_exact, replace("head_setup_commands", "--exclude-newer 2026-11-22", "")),
    (token_reaches_every_node, replace("setup_commands", "RAY_AUTH_MODE=token", "")),
    (token_reaches_every_node, put("file_mounts", {})),
    (token_reaches_every_node, replace("worker_start_ray_commands", "ray start", "RAY_AUTH_MODE=disabled ray start")),
    (dashboard_is_on_loopback, replace("head_start_ray_commands", "=127.0.0.1", "=0.0.0.0")),
    (dashboard_is_on_loopback, replace("head_start_ray_commands", "--dashboard-host=127.0.0.1", "")),
    (ssh_is_not_open_to_the_internet, put("provider.security_group", {"GroupName": "narrow"})),
    (ssh_is_not_open_to_the_internet, put("available_node_types.l4.node_config.SecurityGroupIds", [])),
    (every_node_has_an_instance_profile, put("available_node_types.l4.node_config", {})),
    (
        every_node_has_an_instance_profile,
        put("available_node_types.l4.node_config.IamInstanceProfile.Name", "synthcl-head"),
    ),
    (workers_are_spot_from_zero, put("available_node_types.a10g.min_workers", 1)),
    (workers_are_spot_from_zero, put("available_node_types.a10g.node_config.InstanceMarketOptions", {})),
    (only_the_package_is_uploaded, put("file_mounts.~/synthcl", ".")),
]


@pytest.mark.parametrize("check", dict.fromkeys(check for check, _ in BROKEN), ids=lambda check: check.__name__)
def test_cluster_file_passes(check: Callable[[Cluster], None]) -> None:
    check(load())


@pytest.mark.parametrize(("check", "mutate"), BROKEN, ids=lambda function: function.__name__)
def test_a_broken_cluster_file_is_refused(check: Callable[[Cluster], None], mutate: Callable[[Cluster], None]) -> None:
    cluster = copy.deepcopy(load())
    mutate(cluster)
    with pytest.raises((AssertionError, KeyError, ValueError, ValidationError)):
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


def test_the_recipe_for_the_security_group_lets_in_a_named_range() -> None:
    ranges = re.findall(r"--cidr (\S+)", (ROOT / "cluster.yaml").read_text())
    assert ranges == ["203.0.113.0/24"]  # TEST-NET-3 (RFC 5737): reaches nobody until it is edited
