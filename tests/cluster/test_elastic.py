"""Fewer workers, the same batch: which numbers of workers a trial may run on."""

from types import SimpleNamespace

import pytest
import ray.train

from synthcl import load_preset
from synthcl.cluster import elastic
from synthcl.cluster.elastic import EqualShares, world_sizes
from synthcl.config.sections import ComputeConfig
from synthcl.core.errors import UserError


@pytest.mark.parametrize(
    ("most", "least", "sizes"),
    [(4, 1, [1, 2, 4]), (4, 2, [2, 4]), (6, 1, [1, 2, 3, 6]), (4, None, [4]), (1, None, [1])],
)
def test_workers_come_in_numbers_that_share_the_batch_equally(most, least, sizes):
    assert world_sizes(ComputeConfig(workers_per_trial=most, min_workers_per_trial=least)) == sizes


def test_a_least_number_that_cannot_share_the_batch_equally_is_refused():
    with pytest.raises(UserError, match=r"min_workers_per_trial 3 must divide compute.workers_per_trial 4"):
        load_preset("fashion-mini").with_overrides({"compute.workers_per_trial": 4, "compute.min_workers_per_trial": 3})


@pytest.mark.parametrize(
    ("cpus", "workers"),
    [({"a": 4.0}, 4), ({"a": 2.0, "b": 1.0}, 2), ({"a": 1.0}, 0), ({"a": 2.0, "leaves": 2.0}, 2), ({}, 0)],
)
def test_a_trial_goes_on_with_what_the_nodes_that_stay_have_room_for(cpus, workers, monkeypatch):
    monkeypatch.setattr(elastic, "draining_nodes", lambda: {"leaves"})
    scaling = ray.train.ScalingConfig(num_workers=(2, 4), resources_per_worker={"CPU": 1})
    policy = EqualShares(scaling, [2, 4])
    assert policy._count_possible_workers({node: {"CPU": count} for node, count in cpus.items()}) == workers


def test_a_killed_run_claims_its_workers_not_much_longer_than_a_living_one_renews_its_claim(monkeypatch):
    client, claims, pauses = elastic.autoscaling_coordinator_client, [], []
    for name in ("AUTOSCALING_REQUESTS_EXPIRE_TIME_S", "AUTOSCALING_REQUESTS_INTERVAL_S"):
        monkeypatch.setattr(client, name, getattr(client, name))  # put back what Ray had
    coordinator = SimpleNamespace(
        request_resources=SimpleNamespace(remote=lambda **claim: claims.append(claim)),
        get_reserved_resources=SimpleNamespace(remote=lambda run: {}),
    )
    monkeypatch.setattr(client, "get_or_create_autoscaling_coordinator", lambda: coordinator)
    monkeypatch.setattr(client.ray, "get", lambda value, timeout: value)
    monkeypatch.setattr(elastic, "draining_nodes", set)
    monkeypatch.setattr(elastic.time, "sleep", pauses.append)
    policy = EqualShares(ray.train.ScalingConfig(num_workers=(2, 4), resources_per_worker={"CPU": 1}), [2, 4])

    policy.after_controller_start(SimpleNamespace(run_id="run"))
    assert [claim["expire_after_s"] for claim in claims] == [30]
    assert client.AUTOSCALING_REQUESTS_INTERVAL_S == 10
    assert isinstance(policy.make_decision_for_non_running_worker_group(), elastic.NoopDecision)
    assert pauses == [0.2]
