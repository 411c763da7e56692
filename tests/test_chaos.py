"""The short form of `benchmarks/chaos.py`: a search that is killed and interrupted ends as an unbroken one."""

import subprocess
import sys

from optuna.trial import TrialState
from program import ROOT

import chaos
from synthcl.search.searcher import load_study

RATES = f"[0.001, {', '.join(f'1.0e+{power}' for power in range(22, 31))}]"


def test_a_search_ends_as_an_unbroken_one_past_kills_an_interrupt_and_diverged_trials(tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text(
        f"training.learning_rate: {{choices: {RATES}}}\n"  # most of them diverge
        "curriculum.hardness.start: {low: 0.1, high: 1.0}\n"
    )
    overrides = {"search.space": str(space), "search.trials": 4, "search.startup_trials": 4, "training.kimg": 8}
    ledger = chaos.Ledger(tmp_path / "runs", seed=0)
    hunt = chaos.Hunt(ledger, kinds=["trial", "interrupt", "driver"], overrides=overrides)
    hunt.run()

    assert [kill["kind"] for kill in ledger.kills] == ["trial", "interrupt", "driver"]
    assert sum(ledger.searches[0].values()) == 0, ledger.searches[0]
    assert (ledger.root / "driver.log").read_text().count("goes on where it stopped") >= 2
    trials = load_study(hunt.folder / "study.journal").trials
    assert len(trials) == 6
    diverged = [trial for trial in trials if "diverged" in trial.user_attrs]
    assert diverged
    assert all(trial.state == TrialState.PRUNED and trial.params["training.learning_rate"] > 1 for trial in diverged)
    assert any(trial.state == TrialState.COMPLETE and trial.params for trial in trials)

    given = [f"{field}={value}" for field, value in hunt.overrides.items()]
    confirmed = {file.stem for file in (hunt.folder / "confirm").glob("*.json")}
    command = [sys.executable, str(ROOT / "tune/search.py"), "--trials", "+1", *given]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    assert len(load_study(hunt.folder / "study.journal").trials) == 7
    assert confirmed <= {file.stem for file in (hunt.folder / "confirm").glob("*.json")}
