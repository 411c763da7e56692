"""The short form of the chaos benchmark: a search whose trial and driver are killed ends as an unbroken one."""

from benchmarks.reliability import chaos


def test_a_search_ends_as_an_unbroken_one_after_kills_of_a_trial_and_of_the_driver(tmp_path, monkeypatch):
    monkeypatch.setattr(chaos, "NODE_CPUS", (1, 1))  # trials that share a core take no less time together
    ledger = chaos.Ledger(tmp_path / "runs", seed=0)
    few = {"search.budgets": 3, "search.startup_trials": 2, "search.opponent_share": 0, "training.kimg": 4}
    hunt = chaos.Hunt(ledger, kinds=["trial", "driver"], overrides=few)
    hunt.run()

    assert [kill["kind"] for kill in ledger.kills] == ["trial", "driver"]
    assert sum(ledger.searches[0].values()) == 0, ledger.searches[0]  # nothing lost, run twice, or unequal
    assert {file.stem for file in (hunt.folder / "confirm").glob("*.json")} >= {"real-only-seed1000", "joint-seed1000"}
