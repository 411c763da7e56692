"""What is wrong with the file of `ray up`, beyond what Ray itself would say: who gets in, and what runs there.

Ray accepts a misspelt key inside `node_config`, opens ssh to the internet where no security group is named, and
starts nodes of another version that never join. Every rule here is a function of the file that yields one line per
fault: the field, its value and the remedy.
"""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from difflib import get_close_matches
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement

from synthcl.core.errors import UserError

Cluster = dict[str, Any]
Rule = Callable[[Cluster], Iterator[str]]

EXACT = ("torch", "torchvision", "optuna")
"""Packages of which all nodes need one version, beside Ray: what Ray pickles must read the same everywhere."""

PROVIDER_KEYS = {
    *("type", "region", "availability_zone", "cache_stopped_nodes", "security_group", "use_internal_ips"),
    *("disable_node_updaters", "cloudwatch", "key_pair", "aws_credentials", "tags"),
}
PLACEHOLDER = re.compile(r"^(ami|subnet|sg)-0+$")
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")


def read(file: Path) -> Cluster:
    """A cluster file's content.

    Raises:
        UserError: when there is none, or it is no YAML mapping.
    """
    try:
        cluster = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cluster file {str(file)!r} cannot be read: {reason}") from None
    except yaml.YAMLError as error:
        raise UserError(f"cluster file {str(file)!r} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(cluster, dict):
        raise UserError(f"cluster file {str(file)!r} must be a mapping, not {type(cluster).__name__}")
    return cluster


def faults(cluster: Cluster) -> list[str]:
    """One line for everything that should be mended before `ray up`.

    What Ray refuses is told alone, and so is what EC2 would refuse: the other rules can only read a file of that form.

    Raises:
        UserError: when the file is for AWS and boto3, which `ray up` needs for it, is not installed.
    """
    if lines := list(ray_accepts_it(cluster)):
        return lines
    if cluster["provider"]["type"] != "aws":
        return [line for rule in ANYWHERE for line in rule(cluster)]
    return list(ec2_knows_its_keys(cluster)) or [line for rule in ANYWHERE + ON_AWS for line in rule(cluster)]


def ray_accepts_it(cluster: Cluster) -> Iterator[str]:
    from ray.autoscaler._private.util import prepare_config, validate_config

    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            validate_config(prepare_config(copy.deepcopy(cluster)))
    except (Exception, SystemExit) as error:  # jsonschema's, ValueError, KeyError, the launcher's own with no text
        where = ".".join(str(part) for part in getattr(error, "absolute_path", ())) or "the file"
        reason = str(error).strip().splitlines() or said.getvalue().strip().splitlines()[-1:] or [type(error).__name__]
        yield f"{where}: ray up refuses it: {reason[0]}"


def ec2_knows_its_keys(cluster: Cluster) -> Iterator[str]:
    for key in sorted(cluster["provider"].keys() - PROVIDER_KEYS):
        yield f"provider.{key} is no key of Ray's aws provider; it has {', '.join(sorted(PROVIDER_KEYS))}"
    for place, node in _node_configs(cluster):
        asked = {key: value for key, value in node.items() if key != "SubnetIds"} | {"MinCount": 1, "MaxCount": 1}
        for line in _complaints_of_ec2(asked):
            if unknown := re.fullmatch(r'Unknown parameter in (\S+): "(.+)", must be one of: (.+)', line):
                inside, key, known = unknown[1].removeprefix("input"), unknown[2], unknown[3].split(", ")
                closest = get_close_matches(key, known, n=1, cutoff=0)[0]
                line = f"{key} is no key{f' of {inside}' if inside else ''}; the closest is {closest}"
            yield f"{place}: {line}"


def _complaints_of_ec2(asked: dict[str, Any]) -> list[str]:
    try:
        from botocore.validate import ParamValidator
    except ImportError:
        raise UserError("an aws cluster file needs boto3, to check it and for ray up; pip install boto3") from None
    return list(ParamValidator().validate(asked, _run_instances()).generate_report().splitlines())


@cache
def _run_instances() -> Any:
    """The shape of EC2's request for instances, in the description of the service that botocore ships."""
    from botocore.session import Session

    return Session().get_service_model("ec2").operation_model("RunInstances").input_shape


def versions_are_the_projects(cluster: Cluster) -> Iterator[str]:
    if cluster.get("docker") and not any("pip install" in line for line in _commands(cluster)):
        return  # the image brings them
    commands = "\n".join(_commands(cluster))
    project = {requirement.name: requirement for requirement in map(Requirement, metadata.requires("synthcl") or ())}
    for name in ("ray", *EXACT):
        wanted = project[name].specifier
        pins = re.findall(rf"(?<![\w-]){name}(?:\[[\w,]*\])?==([\w.+]+)", commands)
        if not pins:
            yield f"setup_commands install no exact version of {name}; add {name}=={metadata.version(name)}"
        for pin in {pin for pin in pins if pin not in wanted}:
            yield f"setup_commands install {name}=={pin}, this synthcl needs {name}{wanted}; name such a version"
    if (launcher := metadata.version("ray")) not in project["ray"].specifier:
        yield f"ray here is {launcher}, this synthcl needs ray{project['ray'].specifier}; install that before ray up"
    for python in re.findall(r"--python (\d[\d.]*)", commands):
        if python.count(".") != 2:
            yield f"setup_commands ask for Python {python}; name it to the last digit, or workers will not join"


def every_connection_needs_the_token(cluster: Cluster) -> Iterator[str]:
    if not any("RAY_AUTH_MODE=token" in line for line in cluster.get("setup_commands", ())):
        yield "setup_commands do not export RAY_AUTH_MODE=token; without it whoever reaches a port runs code"
    if "RAY_AUTH_MODE=disabled" in "\n".join(_commands(cluster)):
        yield "a command sets RAY_AUTH_MODE=disabled; remove it, or whoever reaches a port runs code"
    if not any(target.endswith(".ray/auth_token") for target in cluster.get("file_mounts", {})):
        yield "file_mounts lack ~/.ray/auth_token: ~/.ray/auth_token; no node could show the token"


def nothing_listens_to_the_world(cluster: Cluster) -> Iterator[str]:
    for line in _commands(cluster):
        for option in re.findall(r"--bind_all|--[\w-]*host[= ](?:0\.0\.0\.0|\[?::\]?(?=\s|$))", line):
            yield f"a command says {option}; bind to 127.0.0.1 and forward the port over ssh"


def ssh_has_a_named_source(cluster: Cluster) -> Iterator[str]:
    if "security_group" in cluster["provider"]:
        yield (
            "provider.security_group: Ray opens ssh to 0.0.0.0/0 in every group it makes, whatever rules are asked "
            "for; make the group yourself and name it in SecurityGroupIds"
        )
    for place, node in _node_configs(cluster):
        if not node.get("SecurityGroupIds") and "NetworkInterfaces" not in node:
            yield f"{place}.SecurityGroupIds is missing: Ray would make a group with ssh open to 0.0.0.0/0; name yours"


def instances_have_little_to_lose(cluster: Cluster) -> Iterator[str]:
    configs = dict(_node_configs(cluster))
    head = f"available_node_types.{cluster['head_node_type']}.node_config"
    heads_profile = configs[head].get("IamInstanceProfile")
    for place, node in configs.items():
        profile = node.get("IamInstanceProfile")
        if not profile:
            yield f"{place}.IamInstanceProfile is missing; name one that may use the bucket" + (
                " and start workers: Ray's own may do everything with EC2 and S3" if place == head else ""
            )
        elif place != head and profile == heads_profile:
            yield f"{place}.IamInstanceProfile {profile} is the head's; a worker needs the bucket and nothing else"
        if node.get("MetadataOptions", {}).get("HttpTokens") != "required":
            yield f"{place}.MetadataOptions.HttpTokens must be required, or any web request forged there reads the role"
        for disk in node.get("BlockDeviceMappings", ()):
            if not disk.get("Ebs", {}).get("Encrypted", False):
                yield f"{place}.BlockDeviceMappings {disk.get('DeviceName')} is not encrypted; add Encrypted: true"


def images_are_named_for_good(cluster: Cluster) -> Iterator[str]:
    for place, node in _node_configs(cluster):
        image = node.get("ImageId")
        if not re.fullmatch(r"ami-[0-9a-f]{8,17}", str(image)):
            yield f"{place}.ImageId is {image!r}; name an image, such as ami-0123456789abcdef0"


def containers_are_named_for_good(cluster: Cluster) -> Iterator[str]:
    for key, image in (cluster.get("docker") or {}).items():
        if key.endswith("image") and image and not DIGEST.search(image):
            yield f"docker.{key} {image!r} can change under its name; add its digest, @sha256:<64 hex digits>"


def placeholders_are_gone(cluster: Cluster) -> Iterator[str]:
    found: dict[tuple[str, str], None] = {}
    for place, node in _node_configs(cluster):
        for key, value in node.items():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, str) and PLACEHOLDER.match(item) and (key, item) not in found:
                    found[key, item] = None
                    yield f"{place}.{key} {item} is a placeholder; put your own there"


def _commands(cluster: Cluster) -> Iterator[str]:
    kinds = [cluster, *cluster.get("available_node_types", {}).values()]
    for kind in kinds:
        for key, lines in kind.items():
            if key.endswith("_commands"):
                yield from lines


def _node_configs(cluster: Cluster) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, kind in cluster["available_node_types"].items():
        yield f"available_node_types.{name}.node_config", kind["node_config"]


ANYWHERE: tuple[Rule, ...] = (
    versions_are_the_projects,
    every_connection_needs_the_token,
    nothing_listens_to_the_world,
    containers_are_named_for_good,
)
ON_AWS: tuple[Rule, ...] = (
    images_are_named_for_good,
    placeholders_are_gone,
    ssh_has_a_named_source,
    instances_have_little_to_lose,
)
