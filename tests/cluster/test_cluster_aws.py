"""Ray's AWS launcher, given cluster.yaml and an account, asks for what the file says and opens nothing else."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.tags import TAG_RAY_NODE_KIND, TAG_RAY_NODE_NAME, TAG_RAY_USER_NODE_TYPE

from synthcl.cluster import launch_file

ROOT = Path(__file__).parents[2]
REGION = "us-west-2"


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """cluster.yaml filled in with what somebody made by hand, in an account that exists in memory only."""
    home = tmp_path_factory.mktemp("home")  # the launcher keeps the key pair it makes in ~/.ssh
    (home / ".ssh").mkdir()
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setenv("HOME", str(home))
        patch.setattr(time, "sleep", lambda seconds: None)
        yield filled_in(yaml.safe_load((ROOT / "cluster.yaml").read_text()))


def filled_in(cluster: dict[str, Any]) -> dict[str, Any]:
    ec2, iam = boto3.resource("ec2", REGION), boto3.resource("iam", REGION)
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")
    subnet = vpc.create_subnet(CidrBlock="10.0.0.0/24", AvailabilityZone=f"{REGION}a")
    subnet.meta.client.modify_subnet_attribute(SubnetId=subnet.id, MapPublicIpOnLaunch={"Value": True})
    group = vpc.create_security_group(GroupName="synthcl", Description="synthcl")
    group.authorize_ingress(IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="203.0.113.0/24")
    image = next(iter(ec2.images.limit(1)))
    for name in ("synthcl-head", "synthcl-worker"):
        iam.create_instance_profile(InstanceProfileName=name)
    for kind in cluster["available_node_types"].values():
        kind["node_config"] |= {"ImageId": image.id, "SubnetIds": [subnet.id], "SecurityGroupIds": [group.id]}
    return cluster


def groups_open_to_all() -> set[str]:
    groups = boto3.client("ec2", REGION).describe_security_groups()["SecurityGroups"]
    return {
        group["GroupId"]
        for group in groups
        for rule in group["IpPermissions"]
        if any(source["CidrIp"] == "0.0.0.0/0" for source in rule["IpRanges"])
    }


def resolved(cluster: dict[str, Any]) -> dict[str, Any]:
    prepared = prepare_config(copy.deepcopy(cluster))
    validate_config(prepared)
    return bootstrap_aws(prepared)


def test_the_launcher_changes_nothing_of_what_the_file_names(account: dict[str, Any]) -> None:
    assert launch_file.faults(account) == []
    before = groups_open_to_all()
    for name, kind in resolved(account)["available_node_types"].items():
        asked = account["available_node_types"][name]["node_config"]
        assert {key: kind["node_config"][key] for key in asked} == asked, name
        assert kind["node_config"].keys() - asked.keys() == {"KeyName"}
    assert groups_open_to_all() == before


def test_without_a_group_of_ones_own_ray_opens_ssh_to_all(account: dict[str, Any]) -> None:
    """Why cluster.yaml names one."""
    cluster = copy.deepcopy(account)
    for kind in cluster["available_node_types"].values():
        del kind["node_config"]["SecurityGroupIds"]
    assert any("SecurityGroupIds is missing" in line for line in launch_file.faults(cluster))
    before = groups_open_to_all()
    resolved(cluster)
    assert groups_open_to_all() > before


def test_a_head_and_a_spot_worker_come_up_as_asked_and_are_terminated(account: dict[str, Any]) -> None:
    config = resolved(account)
    ec2 = boto3.client("ec2", REGION)
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for name, kind in (("head", "head"), ("l4", "worker")):
        asked = config["available_node_types"][name]["node_config"]
        tags = {TAG_RAY_NODE_KIND: kind, TAG_RAY_NODE_NAME: name, TAG_RAY_USER_NODE_TYPE: name}
        (node,) = provider.create_node(copy.deepcopy(asked), tags, 1)
        (reservation,) = ec2.describe_instances(InstanceIds=[node])["Reservations"]
        (instance,) = reservation["Instances"]
        assert instance["InstanceType"] == asked["InstanceType"]
        assert instance["ImageId"] == asked["ImageId"]
        assert instance["IamInstanceProfile"]["Arn"].endswith(f"/synthcl-{kind}")
        assert [group["GroupId"] for group in instance["SecurityGroups"]] == asked["SecurityGroupIds"]
        assert instance["MetadataOptions"]["HttpTokens"] == "required"
        assert instance.get("InstanceLifecycle") == (None if name == "head" else "spot")
    volumes = ec2.describe_volumes()["Volumes"]
    assert [(volume["Encrypted"], volume["Size"]) for volume in volumes] == [(True, 150)] * 2
    nodes = provider.non_terminated_nodes({})
    assert len(nodes) == 2
    provider.terminate_nodes(nodes)
    assert provider.non_terminated_nodes({}) == []
