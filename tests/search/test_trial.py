"""One trial in one process: reused without a trace, scored without the test split."""

import signal

import pytest
import torch
from tiny_run import TINY

from synthcl import load_preset
from synthcl.cluster import preemption
from synthcl.core.errors import Leaving
from synthcl.data import open_split
from synthcl.evaluation import protocol
from synthcl.evaluation.names import headline
from synthcl.runs.gan_cache import warm_up
from synthcl.search.lineage import continued
from synthcl.search.trial import CurriculumTrial, resolve

BASE = load_preset("fashion-mini").with_overrides(TINY)
FIRST = {"label": "a", "overrides": {"curriculum.hardness.start": 0.9, "training.seed": 3}}
SECOND = {"label": "b", "overrides": {"terms.contrast.temperature": 0.1}}


@pytest.fixture(scope="module")
def gan():
    images = open_split(BASE.data, "unlabelled", torch.device("cpu")).images
    return warm_up(BASE, images, torch.device("cpu"), progress=False)[0]


@pytest.fixture
def make(gan, tmp_path):
    """Makes a trial in this process, given its parameters as `tune.with_parameters` gives them."""

    def made(run, root="one", test=False):
        class Bound(CurriculumTrial):
            def setup(self, config):
                super().setup(config, BASE, {0: gan}, test, str(tmp_path / root))

        (tmp_path / root).mkdir(exist_ok=True)  # as the stage does before its first trial
        return Bound(run)

    return made


def run(trial):
    results = [trial.train()]
    while not results[-1]["done"]:
        results.append(trial.train())
    return results


def scores(results):
    return [result.get("score") for result in results]


def weights(trial):
    return trial._trainer.networks.encoder.state_dict()


def test_a_reused_process_gives_the_numbers_of_a_new_one(make):
    new = make(SECOND)
    expected = run(new)
    reused = make(FIRST, "another")
    run(reused)
    assert reused.reset(SECOND)
    assert scores(run(reused)) == scores(expected)
    torch.testing.assert_close(weights(reused), weights(new), rtol=0, atol=0)


def test_a_trial_goes_on_from_its_checkpoint_with_the_same_numbers(make):
    unbroken = make(FIRST, "another")
    expected = run(unbroken)
    broken = make(FIRST)
    broken.train()
    resumed = make(FIRST)
    assert scores(run(resumed)) == scores(expected)  # the leg that was kept is told again
    torch.testing.assert_close(weights(resumed), weights(unbroken), rtol=0, atol=0)


def test_a_trial_that_ended_unheard_is_told_again_and_not_trained_again(make):
    first = make(FIRST)
    expected = run(first)
    again = make(FIRST)
    again._trainer.advance = None  # calling it would fail
    results = run(again)
    assert scores(results) == scores(expected)[-1:]
    assert results[0]["seconds"] == expected[-1]["seconds"]


def test_a_diverged_trial_leaves_its_last_good_checkpoint(make, tmp_path):
    diverging = FIRST | {"overrides": {"training.learning_rate": 1e30}}
    first = run(make(diverging))
    assert first[-1]["diverged"]
    again = run(make(diverging))
    assert [result["diverged"] for result in again] == [result["diverged"] for result in first]
    kept = tmp_path / "one/a/checkpoint.pt"
    assert kept.is_file() == (len(first) > 1)


HALF = 256
"""images"""
STEADY = {"label": "a", "overrides": {"curriculum.hardness": {"kind": "constant", "start": 0.9}, "training.seed": 3}}


@pytest.fixture
def copied(make):
    """A run as it is at the half, and a copy of it that changes its hardness from there."""
    donor = make(STEADY | {"heard": 0, "until": HALF})
    told = run(donor)
    knobs = {"curriculum.hardness.start": 0.1, "terms.contrast.temperature": 0.3}
    knobs |= {"synthetic.gan.generator_learning_rate": 2e-3}
    changed = continued(STEADY["overrides"], knobs, 0.5, BASE)
    return donor, told, {"label": "copy", "overrides": changed}


FROM_DONOR = {"heard": 0, "until": HALF, "parent": "a"}
REST = {"heard": HALF, "until": 2 * HALF}


def test_a_copy_that_changes_nothing_is_its_parent(make, copied):
    donor, told, _ = copied
    copy = make(STEADY | {"label": "copy"} | FROM_DONOR)
    (taken,) = run(copy)
    assert (taken["images"], taken["score"], taken["history"]) == (HALF, told[-1]["score"], [])
    for trial, label in ((donor, "a"), (copy, "copy")):
        trial.reset(STEADY | {"label": label} | REST)
    assert scores(run(copy)) == scores(run(donor))
    torch.testing.assert_close(weights(copy), weights(donor), rtol=0, atol=0)


def test_a_copy_that_changes_is_what_its_lineage_is_from_the_start(make, copied):
    donor, _, lineage = copied
    copy = make(lineage | FROM_DONOR)
    run(copy)
    make(STEADY | REST).train()  # whatever becomes of its parent
    resumed = make(lineage | REST)  # in another process
    replayed = make(lineage, "replayed")
    assert scores(run(replayed))[-1:] == scores(run(resumed))
    torch.testing.assert_close(weights(resumed), weights(replayed), rtol=0, atol=0)
    assert donor.reset(STEADY | REST)
    run(donor)
    assert any(not torch.equal(a, b) for a, b in zip(weights(donor).values(), weights(copy).values(), strict=True))


def test_a_copy_that_is_interrupted_once_it_has_the_checkpoint_keeps_it(make, copied):
    *_, lineage = copied
    (first,) = run(make(lineage | FROM_DONOR))
    make(STEADY | REST).train()
    (again,) = run(make(lineage | FROM_DONOR))
    assert (again["images"], again["score"], again["seconds"]) == (HALF, first["score"], first["seconds"])


def test_a_copy_whose_parent_has_no_checkpoint_is_trained_to_the_same_numbers(make, copied, tmp_path):
    _, told, lineage = copied
    (tmp_path / "one/a/checkpoint.pt").unlink()
    alone = run(make(lineage | FROM_DONOR))
    assert scores(alone) == scores(told)


def test_on_notice_a_trial_keeps_what_it_has_and_leaves(make):
    unbroken = make(FIRST, "another")
    expected = run(unbroken)
    told = make(FIRST)
    log = told._trainer._logged

    def terminated_meanwhile(*given):
        signal.raise_signal(signal.SIGTERM)
        return log(*given)

    told._trainer._logged = terminated_meanwhile
    with preemption.catching_signals(signal.SIGTERM):
        left = told.train()
        assert left["preempted"]
        assert left["images"] == 64  # the first logged point, not the first rung
        with pytest.raises(Leaving):
            told.train()
    resumed = make(FIRST)
    assert [score for score in scores(run(resumed)) if score] == scores(expected)
    torch.testing.assert_close(weights(resumed), weights(unbroken), rtol=0, atol=0)


def test_the_test_split_is_read_at_the_last_rung_of_a_confirm_run_and_nowhere_else(make, monkeypatch):
    opened = []
    real_open = protocol._open

    def spy(target, data, name, device):
        opened.append(name)
        return real_open(target, data, name, device)

    monkeypatch.setattr(protocol, "_open", spy)
    protocol._open_for_fit.cache_clear()
    search = make(FIRST)
    assert not any(name.startswith("test/") for result in run(search) for name in result)
    assert opened
    assert "test" not in opened

    confirm = make(FIRST, "confirm", test=True)
    for _ in BASE.evaluation.rungs[:-1]:
        confirm.train()
        assert "test" not in opened
    assert f"test/{headline(BASE)}" in confirm.train()
    assert "test" in opened


def test_the_suggested_value_is_the_used_value(make):
    trial = make({"label": "a", "overrides": {"training.learning_rate": 0.0123}})
    trial._trainer.advance(1)
    used = trial.train()["history"][0]
    assert trial._trainer.config.training.learning_rate == 0.0123
    assert used["knob/hardness"] == BASE.curriculum.hardness.start
    assert resolve(BASE, {"run": FIRST}) == resolve(BASE, FIRST)
