"""How long a search still takes, as the runs heard of so far say."""

import pytest
from tiny_run import TINY

from synthcl.config.presets import load_preset
from synthcl.search.budget import confirm_images, confirm_runs, equal_time_images
from synthcl.search.outlook import Outlook

BOTH = {"search": (4000.0, 0.0), "opponent": (0.0, 2000.0), "confirm": (3000.0, 1000.0)}


def test_stages_take_what_runs_of_their_kind_took_shared_by_those_side_by_side():
    outlook = Outlook(BOTH, ("search", "opponent"), at_a_time=2, before={"confirm": 60})
    outlook.hear("trial-000", False, images=100, seconds=40)
    assert (outlook.seconds(), outlook.following(), outlook.plan()) == ({}, 0, "")  # of real-only nothing is known
    outlook.hear("real-only-000", True, images=100, seconds=20)
    assert outlook.seconds() == {"search": 800, "opponent": 200, "confirm": 600 + 100 + 60}
    assert outlook.following() == 760
    assert outlook.plan() == "search 13 min, opponent 3 min, confirm 13 min; about 29 min in all, 2 runs at a time"


def test_a_run_that_is_heard_of_again_counts_as_it_is_now_and_runs_by_their_images():
    outlook = Outlook({"search": (1000.0, 0.0)}, ("search",), at_a_time=1)
    outlook.hear("trial-000", False, images=100, seconds=100)
    outlook.hear("trial-000", False, images=300, seconds=120)
    outlook.hear("trial-001", False, images=100, seconds=80)
    assert outlook.seconds() == {"search": 1000 * 200 / 400}


def test_without_an_opponent_real_images_are_taken_to_be_as_slow_as_the_method():
    outlook = Outlook({"search": (1000.0, 0.0), "confirm": (0.0, 500.0)}, ("search",), at_a_time=1)
    outlook.hear("trial-000", False, images=100, seconds=50)
    assert outlook.seconds() == {"search": 500, "confirm": 250}


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("equal", [False, True])
def test_images_of_the_confirm_stage_are_those_of_its_runs(share, equal):
    more = {"search.opponent_share": share, "search.equal_time": equal, "search.confirm_top": 2}
    config = load_preset("fashion-mini").with_overrides(TINY | more | {"search.confirm_seeds": 3})
    method, real = confirm_images(config)
    whole = config.training.steps * config.training.batch_images
    assert method == 3 * (2 + 2) * whole  # two trials, joint and frozen-gan
    assert real == 3 * (1 + 2 * (share > 0)) * whole
    assert method + real == confirm_runs(config) * whole
    assert equal_time_images(config) == 3 * equal * whole
