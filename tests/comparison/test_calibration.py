"""Calibration: statistics meet their references, the rule is kept, and documented tables follow from the records."""

import json

import numpy as np
import program
import pytest
from scipy.stats import kendalltau, spearmanr

from synthcl.comparison.calibration import RULE, calibrate, chosen
from synthcl.comparison.records import Record
from synthcl.config.schema import Config
from synthcl.core.tables import markdown
from synthcl.programs.calibrate import PUBLISHED, read_place, told

CONFIG = Config(name="calibration")
ARMS = ("real-only", "frozen-gan", "pairs-only", "hard-only", "joint")
TRUE = dict(zip(ARMS, (40.0, 42.0, 41.0, 43.0, 46.0), strict=True))
WITH_GENERATOR = ("frozen-gan", "frozen-gan-weak-views", "hard-only", "pairs-only", "joint", "hand-set")
LAST = "linear/fashion-mini@100"


def record(arm, seed, scores, images=100, **more):
    return Record(
        arm=arm,
        images=images,
        seed=seed,
        steps=10,
        views_per_step=8,
        metrics={f"test/{LAST}": TRUE[arm] + 0.1 * seed, f"val/{LAST}": TRUE[arm]} | scores,
        seconds={"train": 1.0},
        config=CONFIG.model_dump(mode="json"),
        **more,
    )


def comparison(score, arms=ARMS, seeds=(0, 1, 2), name="label_free/lidar"):
    """Records of which a score says what `score(arm, seed)` does."""
    return {"made": (CONFIG, [record(arm, seed, {name: score(arm, seed)}) for arm in arms for seed in seeds])}


def hindrance(*given, **named):
    name = named.setdefault("name", "label_free/lidar")
    return calibrate(comparison(*given, **named)).hindrance(name)


@pytest.mark.parametrize("case", range(6))
def test_correlations_are_those_of_the_reference_with_ties(case):
    source = np.random.default_rng(case)
    own, truth = source.integers(0, 4 + case, 9).astype(float), source.integers(0, 5, 9).astype(float)
    tau, rho, *_ = chosen(own, truth)
    assert tau == pytest.approx(kendalltau(own, truth).statistic)
    assert rho == pytest.approx(spearmanr(own, truth).statistic)


def test_a_choice_among_equals_counts_as_their_mean_and_a_constant_score_as_chance():
    assert chosen(np.array([2.0, 2.0, 1.0]), np.array([40.0, 46.0, 43.0])) == pytest.approx([0, 0, 0, 3, 3], abs=1e-9)
    assert chosen(np.ones(4), np.array([1.0, 2.0, 3.0, 6.0])) == [0, 0, 0, 3, 3]


def test_who_orders_as_the_probe_does_may_judge():
    assert hindrance(lambda arm, seed: 5 * TRUE[arm] + seed) == ""
    assert hindrance(lambda arm, seed: -TRUE[arm] + seed, name="label_free/contrast") == ""  # lower is better
    assert hindrance(lambda arm, seed: 1 - abs(TRUE[arm] - 47) / 10, name="label_free/alpha") == ""  # nearest to 1


@pytest.mark.parametrize(
    ("why", "given"),
    [
        ("worse than a random arm", {"score": lambda arm, seed: -TRUE[arm]}),
        ("its order is not the probe's", {"score": lambda arm, seed: 1.0}),
        ("2 of 3 seeds", {"score": lambda arm, seed: TRUE[arm], "seeds": (0, 1)}),
        ("3 of 4 arms", {"score": lambda arm, seed: TRUE[arm], "arms": ARMS[:3]}),
        ("without real-only", {"score": lambda arm, seed: TRUE[arm], "arms": ARMS[1:]}),
        # It orders all arms but the best, which it likes least of those better than the mean.
        ("too far from the best arm", {"score": lambda arm, seed: {"joint": 42.5}.get(arm, TRUE[arm])}),
    ],
)
def test_every_part_of_the_rule_can_refuse(why, given):
    assert hindrance(**given) == why


def test_a_score_that_no_run_has_is_not_measured_and_says_so():
    found = calibrate(comparison(lambda arm, seed: 1.0))
    assert found.hindrance("features/rank") == found.hindrance("label_free/clid") == "not measured"


def test_diverged_runs_and_other_budgets_are_left_out():
    made = comparison(lambda arm, seed: TRUE[arm])
    TRUE["real-only-equal-time"] = 99.0
    made["made"][1].append(record("real-only-equal-time", 0, {"label_free/lidar": 0.0}))
    made["made"][1].append(record("joint", 3, {}, diverged="not finite"))
    del TRUE["real-only-equal-time"]
    assert calibrate(made) == calibrate(comparison(lambda arm, seed: TRUE[arm]))


def test_a_mean_over_images_comes_before_the_interval_over_seeds():
    config, records = comparison(lambda arm, seed: TRUE[arm])["made"]
    more = [record(arm, seed, {"label_free/lidar": -TRUE[arm]}, images=200) for arm in ARMS for seed in range(3)]
    choice = calibrate({"made": (config, records + more)}).choices["label_free/lidar"]
    assert (choice.groups, choice.kendall.n, choice.kendall.value) == (6, 3, pytest.approx(0))
    assert choice.regret.value == pytest.approx((0 + 6) / 2)
    assert choice.chance.value == pytest.approx(46 - 42.4)


# ---- the published records, and the command


@pytest.fixture(scope="module")
def published():
    return {"published": read_place(PUBLISHED)}


@pytest.mark.parametrize("arms", [(), WITH_GENERATOR], ids=["all", "with a generator"])
def test_documented_tables_follow_from_the_published_records(published, arms):
    documented = (program.ROOT / "docs/label-free.md").read_text()
    found = calibrate(published, arms)
    assert markdown(found.table()) in documented
    assert RULE in " ".join(documented.split())
    assert all(found.hindrance(metric) for metric in found.choices)  # none may judge


def test_rank_and_loss_choose_worse_than_chance_on_the_published_records(published):
    choices = calibrate(published).choices
    for metric in ("features/rank", "loss/contrast"):
        assert choices[metric].over_chance.high < 0
        assert choices[metric].kendall.high < 0


def test_the_command_reads_a_comparisons_folder_and_writes_what_a_search_reads(tmp_path):
    folder = tmp_path / "runs" / "panel" / "evidence"
    for made in comparison(lambda arm, seed: TRUE[arm])["made"][1]:
        made.write(folder / f"{made.arm}-n{made.images}-seed{made.seed}.json")
    done = program.run("calibrate", str(tmp_path / "runs" / "panel"), "--out", str(tmp_path / "panel.json"))
    assert done.returncode == 0, done.stderr
    assert "may judge" in done.stdout
    written = json.loads((tmp_path / "panel.json").read_text())
    assert written["hindrances"]["label_free/lidar"] == ""
    assert written["hindrances"]["features/rank"] == "not measured"
    assert "| label_free/lidar |" in "\n".join(told(calibrate({"x": read_place(folder)}), markdown))
