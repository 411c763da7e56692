"""What `benchmarks/reliability/soak.py` makes of its samples: a leak is seen, and what every trial leaves is none."""

import json
import subprocess
import sys

import psutil
import pytest

from benchmarks.reliability import soak


def sample(index, leak):
    """Half a minute and ten trials apart; the first tenth of the time is far from the rest."""
    flat = {f"{role} {what}": 100.0 for role in soak.ROLES for what in ("MB", "handles", "processes")}
    warm = 1 if index < 24 else 10
    left = {"storage MB": 0.5 * index, "storage files": 40 * index, "Ray's folder MB": 3.0, "object store MB": 0.0}
    grown = {"driver MB": warm * (100 + leak * index), "seconds": 30.0 * index, "trials": 10 * index}
    return flat | left | grown


def ratios(samples, capsys):
    soak.show(samples)
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_memory_that_grows_is_told_from_memory_that_does_not(capsys):
    of = "driver MB, last over first quarter"
    assert ratios([sample(index, leak=0) for index in range(241)], capsys)[of] == 1
    found = ratios([sample(index, leak=1) for index in range(241)], capsys)
    assert found[of] == pytest.approx((100 + 213) / (100 + 51), abs=0.01)  # the middles of the quarters
    assert found["driver kB a trial"] == pytest.approx(1000)
    assert found["hours"] == 2
    assert found["trials"] == 2400


def test_what_every_trial_leaves_on_disk_is_counted_a_trial(capsys):
    found = ratios([sample(index, leak=0) for index in range(241)], capsys)
    assert found["storage MB a trial, last over first quarter"] == pytest.approx(1)
    assert found["Ray's folder MB a second, last over first quarter"] == 1  # nothing in both
    more = [sample(index, leak=0) | {"storage files": index**2} for index in range(241)]
    assert ratios(more, capsys)["storage files a trial, last over first quarter"] > 3


HOLD = """
import mmap, sys
print("nothing", flush=True)
input()
held = mmap.mmap(-1, 50_000_000, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for _ in range(50):
    held.write(bytes([1]) * 1_000_000)
file = open(sys.argv[1], "w")
print("all", flush=True)
input()
"""


def test_a_footprint_counts_open_files_and_memory_of_the_process_alone(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "file")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "nothing\n"
        before = soak.footprint(psutil.Process(holder.pid))
        print(file=holder.stdin, flush=True)
        assert holder.stdout.readline() == "all\n"
        after = soak.footprint(psutil.Process(holder.pid))
        print(file=holder.stdin, flush=True)
    assert after["handles"] == before["handles"] + 1
    assert after["MB"] - before["MB"] == pytest.approx(50, abs=10)
    (tmp_path / "file").write_bytes(bytes(1_000_000))
    assert soak.disk(tmp_path) == (pytest.approx(1, abs=0.01), 1)


def test_samples_of_a_run_that_was_stopped_are_reported(tmp_path, monkeypatch, capsys):
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(sample(index, leak=0)) + "\n" for index in range(60)))
    monkeypatch.setattr(sys, "argv", ["soak.py", "--report", "--storage", str(tmp_path)])
    soak.main()
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["samples"] == 60
