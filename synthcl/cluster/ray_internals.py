"""All that synthcl uses of Ray beyond its public interface, each with its reason: what a new version of Ray may break.

Ray is pinned to one version for this page. Classes that override a private method of Ray are in elastic.py.
"""

from __future__ import annotations

import ray

# A drained node is known to the autoscaler at once, and to `ray.nodes()` only when it is gone.
# The authentication of the doctor's report has no public question.
from ray._private.authentication.authentication_utils import is_token_auth_enabled as is_token_auth_enabled
from ray._private.grpc_utils import init_grpc_channel
from ray._private.state import state
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc
from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # type: ignore[attr-defined]

# A claim on resources that outlives a killed run by three minutes; an actor that must not die with a worker's node.
from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
    get_or_create_autoscaling_coordinator as get_or_create_autoscaling_coordinator,
)

# A note to every process of a job, readable without an actor and at the cost of one question.
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put

# Any number of workers between two limits is public; only numbers that divide the batch are not.
from ray.train.v2._internal.execution.callback import WorkerCallback as WorkerCallback
from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy as ElasticScalingPolicy
from ray.train.v2._internal.execution.scaling_policy import NoopDecision as NoopDecision
from ray.train.v2._internal.execution.scaling_policy import ScalingDecision as ScalingDecision
from ray.train.v2._internal.execution.scaling_policy import (
    autoscaling_coordinator_client as autoscaling_coordinator_client,
)
from ray.util.placement_group import PlacementGroup


def draining_nodes() -> set[str]:
    """Ids of the nodes that are preempted or shut down, while they still run."""
    return set(state.get_draining_nodes())


def leave_note(key: bytes) -> None:
    """Leave a note under a key, for all processes of the cluster."""
    _internal_kv_put(key, b"", overwrite=True)


def note_is_left(key: bytes) -> bool:
    """Whether there is a note under a key."""
    return _internal_kv_get(key) is not None


def remove_note(key: bytes) -> None:
    """Take a note back."""
    _internal_kv_del(key)


def orphaned_placement_groups() -> list[PlacementGroup]:
    """Placement groups of this driver's job whose creator, an actor, is dead; the public table names no creator."""
    job = ray.get_runtime_context().get_job_id()
    found = []
    for record in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(record)
        made_here = group.creator_job_id.hex() == job and not ray.ActorID(group.creator_actor_id).is_nil()
        if made_here and group.creator_actor_dead and group.state != PlacementGroupTableData.REMOVED:
            found.append(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
    return found


def version_at(address: str, timeout_seconds: float) -> str:
    """The version of the Ray that answers at an address; `ray.init` would try for minutes before it says.

    Raises:
        grpc.RpcError: where none answers, or it wants another token.
    """
    with init_grpc_channel(address) as channel:
        head = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
        request = gcs_service_pb2.CheckAliveRequest()  # type: ignore[attr-defined]
        version: str = head.CheckAlive(request, timeout=timeout_seconds).ray_version
        return version
