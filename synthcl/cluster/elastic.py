"""A trial of several workers that goes on with fewer when nodes leave, and with all of them when nodes join.

The batch is drawn whole and shared by rank, so any number of workers that divides it into equal shares computes the
same step: as many negatives, the same random numbers, sums in another order.
"""

from __future__ import annotations

import time
from typing import Any

import ray.train.torch

from synthcl.cluster.ray_internals import (
    ElasticScalingPolicy,
    NoopDecision,
    ScalingDecision,
    autoscaling_coordinator_client,
    draining_nodes,
    get_or_create_autoscaling_coordinator,
)
from synthcl.config.sections import ComputeConfig

LOOK_SECONDS = 60.0
"""between two looks for nodes that joined"""
CLAIM_SECONDS, RENEWAL_SECONDS = 30, 10
"""how long resources stay claimed for a run that was killed, and how often one that lives renews its claim"""
WAIT_SECONDS = 0.2
"""between two questions whether there is room to start"""


def world_sizes(compute: ComputeConfig) -> list[int]:
    """Numbers of workers a trial may run on, in rising order: those that share its batch equally."""
    most, least = compute.workers_per_trial, compute.min_workers_per_trial or compute.workers_per_trial
    return [count for count in range(least, most + 1) if most % count == 0]


class EqualShares(ElasticScalingPolicy):
    """Ray's elastic policy, held to equal shares, to nodes that stay, and to claims that end with a run.

    Args:
        scaling_config: with (min, max) workers.
        sizes: numbers of workers that share the batch equally.
    """

    def __init__(self, scaling_config: Any, sizes: list[int]) -> None:
        super().__init__(scaling_config)
        self._sizes = sizes

    def after_controller_start(self, train_run_context: Any) -> None:
        """Claim resources, for less than three minutes, as long as the run after a killed one would wait for them."""
        autoscaling_coordinator_client.AUTOSCALING_REQUESTS_EXPIRE_TIME_S = CLAIM_SECONDS
        autoscaling_coordinator_client.AUTOSCALING_REQUESTS_INTERVAL_S = RENEWAL_SECONDS
        super().after_controller_start(train_run_context)

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        """Start, or wait: without a pause Ray asks again at once, with all of a core."""
        decision = super().make_decision_for_non_running_worker_group()
        if isinstance(decision, NoopDecision):
            time.sleep(WAIT_SECONDS)
        return decision

    def _count_possible_workers(self, reserved_resources: dict[str, dict[str, float]]) -> int:
        draining = draining_nodes()
        staying = {node: amount for node, amount in reserved_resources.items() if node not in draining}
        possible = super()._count_possible_workers(staying)
        return max((size for size in self._sizes if size <= possible), default=0)


class ElasticTrainer(ray.train.torch.TorchTrainer):
    """TorchTrainer under `EqualShares`.

    Args:
        sizes: numbers of workers that share the batch equally, in rising order.
        options: of TorchTrainer.
    """

    def __init__(self, sizes: list[int], **options: Any) -> None:
        super().__init__(**options)
        self._sizes = sizes

    def _initialize_and_run_controller(self, **options: Any) -> ray.train.Result:
        get_or_create_autoscaling_coordinator()  # where the run's driver is, or it would die with a worker's node
        options["scaling_policy"] = EqualShares(self.scaling_config, self._sizes)
        return super()._initialize_and_run_controller(**options)  # type: ignore[misc]  # typed as Train V1's
