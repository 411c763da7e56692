"""One trial in one process: reused without a trace, scored without the test split."""

import pytest
import torch
from tiny_run import TINY

from synthcl import load_preset
from synthcl.data import open_split
from synthcl.evaluation import protocol
from synthcl.search.trial import CurriculumTrial, resolve
from synthcl.warmup import warm_up

BASE = load_preset("fashion-mini").with_overrides(TINY)
FIRST = {"label": "a", "overrides": {"curriculum.hardness.start": 0.9, "training.seed": 3}}
SECOND = {"label": "b", "overrides": {"training.temperature": 0.1}}


@pytest.fixture(scope="module")
def gan():
    images = open_split(BASE.data, "unlabelled", torch.device("cpu")).images
    return warm_up(BASE, images, torch.device("cpu"), progress=False)[0]


def make(run, gan, test=False):
    """A trial in this process, given its parameters as `tune.with_parameters` gives them."""

    class Bound(CurriculumTrial):
        def setup(self, config):
            super().setup(config, BASE, gan, test)

    return Bound(run)


def run(trial):
    results = [trial.train()]
    while not results[-1]["done"]:
        results.append(trial.train())
    return results


def scores(results):
    return [result["score"] for result in results]


def weights(trial):
    return trial._trainer.networks.encoder.state_dict()


def test_a_reused_process_gives_the_numbers_of_a_new_one(gan):
    new = make(SECOND, gan)
    expected = run(new)
    reused = make(FIRST, gan)
    run(reused)
    assert reused.reset(SECOND)
    assert scores(run(reused)) == scores(expected)
    torch.testing.assert_close(weights(reused), weights(new), rtol=0, atol=0)


def test_a_trial_goes_on_from_its_checkpoint_with_the_same_numbers(gan, tmp_path):
    unbroken = make(FIRST, gan)
    expected = run(unbroken)
    broken = make(FIRST, gan)
    broken.train()
    broken.save_checkpoint(str(tmp_path))
    resumed = make(FIRST, gan)
    resumed.load_checkpoint(str(tmp_path))
    assert scores(run(resumed)) == scores(expected)[1:]
    torch.testing.assert_close(weights(resumed), weights(unbroken), rtol=0, atol=0)


def test_the_test_split_is_read_at_the_last_rung_of_a_confirm_run_and_nowhere_else(gan, monkeypatch):
    opened = []
    real_open = protocol._open

    def spy(target, data, name, device):
        opened.append(name)
        return real_open(target, data, name, device)

    monkeypatch.setattr(protocol, "_open", spy)
    protocol._open_for_fit.cache_clear()
    search = make(FIRST, gan)
    assert not any(name.startswith("test/") for result in run(search) for name in result)
    assert opened
    assert "test" not in opened

    confirm = make(FIRST, gan, test=True)
    for _ in BASE.evaluation.rungs[:-1]:
        confirm.train()
        assert "test" not in opened
    assert "test/linear/fashion-mini@100" in confirm.train()
    assert "test" in opened


def test_the_suggested_value_is_the_used_value(gan):
    trial = make({"label": "a", "overrides": {"training.learning_rate": 0.0123}}, gan)
    trial._trainer.advance(1)
    used = trial.train()["history"][0]
    assert trial._trainer.config.training.learning_rate == 0.0123
    assert used["knob/hardness"] == BASE.curriculum.hardness.start
    assert resolve(BASE, {"run": FIRST}) == resolve(BASE, FIRST)
