"""Families tuned against each other, from the first step to the report: in slices, on machines that share nothing."""

import json
import shutil

import program
from tiny_run import TINY_COMPARISON, arguments

from synthcl.comparison.arms import EQUAL_TIME

GIVEN = arguments(TINY_COMPARISON | {"evaluation.label_fractions": [100, 20], "evaluation.transfer": ["digits"]})
FAMILIES = ("real-only", "joint+imix")


def compare(folder, *given):
    words = ("--tuned", "--preset", "fashion-mini", "--no-ray", "--images", "60", "--seeds", "2", "--budget", "6")
    return program.run("compare", *words, "--only", ",".join(FAMILIES), "--storage", str(folder), *given, *GIVEN)


def test_two_machines_tune_choose_and_judge_and_their_records_make_one_report(tmp_path, monkeypatch):
    for counted in ("training_flops", "warmup_flops"):  # of so many configurations takes longer than training
        monkeypatch.setattr(f"synthcl.comparison.records.{counted}", lambda *config: None)
    machines = [tmp_path / "one", tmp_path / "two"]
    plan = compare(machines[0], "--dry-run")
    assert plan.returncode == 0, plan.stderr
    assert "stage 1, search: 8 runs, 0 finished" in plan.stdout
    assert "18 runs are left, 1 at a time: hours are known once" in plan.stdout

    folders = [machine / "tuned-fashion-mini-60" / "evidence" for machine in machines]
    for finished in (8, 12, 16, 18):
        for number, machine in enumerate(machines, start=1):
            done = compare(machine, "--slice", f"{number}/2")
            assert done.returncode == 0, done.stderr
        assert "slice 2/2 waits for the records of the others" in done.stdout
        for source, target in (folders, folders[::-1]):
            for file in source.glob("*.json"):
                shutil.copy(file, target)
        assert len(list(folders[0].glob("*.json"))) == finished

    final = compare(machines[1])
    assert final.returncode == 0, final.stderr
    assert "chosen: real-only: setting 0" in final.stdout
    assert compare(machines[0], "--report").returncode == 0
    reports = [(folder / "report" / "tuned.md").read_text() for folder in folders]
    assert reports[0] == reports[1]
    after = compare(machines[0], "--dry-run").stdout
    assert "stage 4, equal time: 2 runs, 2 finished" in after
    assert "0 runs are left" in after

    report = reports[0]
    assert report.startswith("**joint+imix - real-only: ")
    for heading in (
        "linear@100-labels",
        "linear@20-labels",
        "kNN",
        "transfer",
        "view strength",
        "mix share",
        "seconds",
    ):
        assert heading in report
    assert f"| joint+imix - {EQUAL_TIME} |" in report
    records = [json.loads(file.read_text()) for file in folders[0].glob("*.json")]
    assert len({record["steps"] for record in records if not record["arm"].startswith(EQUAL_TIME)}) == 1
