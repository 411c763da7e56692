"""Fewer workers, the same batch: which numbers of workers a trial may run on."""

import pytest
import ray.train

from synthcl import elastic, load_preset
from synthcl.config import ComputeConfig
from synthcl.elastic import EqualShares, world_sizes
from synthcl.errors import UserError


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
    monkeypatch.setattr(elastic.ray_state, "get_draining_nodes", lambda: {"leaves": 0})
    scaling = ray.train.ScalingConfig(num_workers=(2, 4), resources_per_worker={"CPU": 1})
    policy = EqualShares(scaling, [2, 4])
    assert policy._count_possible_workers({node: {"CPU": count} for node, count in cpus.items()}) == workers
