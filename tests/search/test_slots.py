"""As many trials are under way as the cluster has room for, which changes."""

import pytest
from ray.tune.search import Searcher

from synthcl.search import slots
from synthcl.search.slots import Planned, Slots

PLAN = [{"label": f"run-{number}", "overrides": {"training.seed": number}} for number in range(9)]


class Room:
    """So many places for trials; counts how often it was asked."""

    def __init__(self, places):
        self.places, self.asked = places, 0

    def __call__(self):
        self.asked += 1
        return self.places


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

    monkeypatch.setattr(slots.time, "monotonic", lambda: Clock.now)
    return Clock


def start(searcher, *names):
    return [name for name in names if searcher.suggest(name) not in (None, Searcher.FINISHED)]


def test_trials_begin_as_nodes_come_and_wait_when_they_go(clock):
    room = Room(2)
    searcher = Slots(Planned(PLAN), room)
    assert searcher.max_concurrent == 2  # Tune lets as many wait at a time
    assert start(searcher, "a", "b", "c") == ["a", "b"]
    room.places = 4
    assert start(searcher, "c") == []  # looked just now
    clock.now += slots.LOOK_SECONDS
    assert start(searcher, "c", "d", "e") == ["c", "d"]
    room.places = 1
    clock.now += slots.LOOK_SECONDS
    for name in ("a", "b", "c"):
        searcher.on_trial_complete(name)
        assert start(searcher, f"after-{name}") == []
    searcher.on_trial_complete("d")
    assert start(searcher, "e", "f") == ["e"]
    assert room.asked == 3


def test_planned_runs_come_in_their_order_and_then_no_more():
    searcher = Planned(PLAN[:2])
    assert [searcher.suggest(name) for name in "abc"] == [{"run": PLAN[0]}, {"run": PLAN[1]}, Searcher.FINISHED]
    assert PLAN[0]["label"] == "run-0"
