"""The workers' side of a crew: runs one after the other in the same processes, and again after a loss."""

from types import SimpleNamespace

import pytest
import torch
from small_trainer import CPU, random_images, tiny_config, untrained_gan

from synthcl.cluster import train_workers, worker_pool
from synthcl.runs import checkpoint
from synthcl.training.trainer import Trainer

RUNS = {"slow": {"training.learning_rate": 0.01}, "fast": {"training.learning_rate": 0.2}}
RUNGS = [0.25, 0.5, 1.0]


class Mailbox:
    """Hands out the legs of some runs in order, each until it is answered, and loses workers after some answers."""

    def __init__(self, plan, lost_after=()):
        self.plan, self.lost_after = list(plan), set(lost_after)
        self.number, self.heard_seconds, self.answers = 0, 0.0, []
        self.take, self.answer = SimpleNamespace(remote=self._take), SimpleNamespace(remote=self._answer)

    def _take(self):
        if self.number in self.lost_after:
            self.lost_after.remove(self.number)
            raise ConnectionError("the workers were lost")
        if not self.plan:
            return None
        return self.number, self.plan[0], RUNS[self.plan[0]], self.heard_seconds, None

    def _answer(self, number, report):
        assert number == self.number
        self.answers.append((self.plan[0], report))
        self.number, self.heard_seconds = self.number + 1, report["seconds"]
        if report["progress"] == 1 or self._early_stopped():
            self.plan.pop(0)
            self.heard_seconds = 0.0

    def _early_stopped(self):
        return self.plan.count("slow") and len(self.answers) == 2


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Serve a mailbox in this process, again whenever the workers are lost."""
    monkeypatch.setattr(worker_pool, "broadcast_from_rank_zero", lambda leg: leg)
    monkeypatch.setattr(worker_pool.ray, "get", lambda value: value)
    monkeypatch.setattr(worker_pool.ray.train, "get_context", lambda: SimpleNamespace(get_world_rank=lambda: 0))
    monkeypatch.setattr(train_workers.ray.train.torch, "get_device", lambda: CPU)
    monkeypatch.setattr("synthcl.runs.session.unlabelled_images", lambda data, device: random_images())
    monkeypatch.setattr(train_workers, "evaluation", lambda config, test: lambda trainer, last: {"score": trainer.step})
    base = tiny_config({"evaluation.rungs": RUNGS})
    settings = {"base": base, "gans": {0: untrained_gan(base)}, "root": str(tmp_path), "test": False}

    def served(mailbox):
        while True:
            try:
                return worker_pool._serve(settings | {"mailbox": mailbox})
            except ConnectionError:
                continue

    return served


def alone(name):
    config = tiny_config({"evaluation.rungs": RUNGS} | RUNS[name])
    trainer = Trainer(config, random_images(), untrained_gan(config), CPU)
    trainer.advance(config.training.steps)
    return trainer.networks.encoder.state_dict()


def test_the_next_run_in_the_same_workers_is_what_it_is_in_new_ones(serve, tmp_path):
    mailbox = Mailbox(["slow", "fast"])
    serve(mailbox)
    assert [(name, report["progress"]) for name, report in mailbox.answers] == [
        ("slow", 0.25), ("slow", 0.5), ("fast", 0.25), ("fast", 0.5), ("fast", 1.0),
    ]  # fmt: skip
    kept = checkpoint.load(tmp_path / "fast", CPU)["trainer"]["networks"]["encoder"]
    assert all(torch.equal(kept[name], value) for name, value in alone("fast").items())


def test_after_a_loss_a_run_goes_on_with_the_leg_that_nobody_has_heard(serve, tmp_path):
    mailbox = Mailbox(["fast"], lost_after=[0, 1, 2])
    serve(mailbox)
    assert [report["progress"] for _, report in mailbox.answers] == RUNGS
    kept = checkpoint.load(tmp_path / "fast", CPU)["trainer"]["networks"]["encoder"]
    assert all(torch.equal(kept[name], value) for name, value in alone("fast").items())


def test_a_report_that_was_kept_and_not_heard_is_told_again(serve, tmp_path):
    mailbox = Mailbox(["fast"])
    heard = mailbox._answer

    def lose_one(number, report):
        mailbox.answer.remote = heard
        raise ConnectionError(report["progress"])

    mailbox.answer.remote = lose_one
    serve(mailbox)
    assert [report["progress"] for _, report in mailbox.answers] == RUNGS
