"""Two processes equal one: the loss, its gradient, every network after a few steps and what is logged."""

import copy
from pathlib import Path

import pytest
import torch
from small_trainer import CPU, random_images, tiny_config, unit, untrained_gan

from synthcl.core import distributed
from synthcl.method.objectives.ppcl import nt_xent, ppcl
from synthcl.runs.session import evaluation
from synthcl.training.loop import run_to_end
from synthcl.training.trainer import Trainer

PROCESSES = 2
GROUPS = torch.tensor([0, 1, 2, 2, 3, 0, 1, 2, 4, 3, 0, 3])  # positives and a loner, split over both processes
RUNS = {
    "joint": {},
    "weight": {
        "synthetic.gan.hardness_unit": "weight",
        "synthetic.gan.loss": "relativistic",
        "synthetic.gan.gradient_penalty": 1.0,
    },
    "no pairs": {"synthetic.gan.pair": False, "training.views_per_image": 4},
    # With seed 0 a unit lies at its kink in step 4: losses agree to 1e-7, gradients do not.
    "one view each": {"synthetic.gan.views_per_pair": 2, "training.seed": 1},
    "moving mix": {"curriculum.synthetic_fraction": {"kind": "step", "start": 0.0, "end": 1.0, "ramp_begin": 0.25}},
}


def measure(rank: int) -> dict:
    """What one process sees of everything compared; tensors of the loss are its own rows."""
    share = slice(rank * 12 // distributed.world_size(), (rank + 1) * 12 // distributed.world_size())
    weight = unit(5, 4, "weight").requires_grad_()
    z = unit(12, 5, "z")[share].clone().requires_grad_()
    loss = ppcl(torch.nn.functional.normalize(z @ weight, dim=1), GROUPS[share], 0.3)
    loss.backward()
    distributed.average_gradients([weight, torch.nn.Parameter(torch.zeros(3))])
    first, second = unit(12, 4, "first")[share], unit(12, 4, "second")[share]
    pair_loss = nt_xent(first, second, 0.3)
    measured = {"ppcl": loss.detach(), "of weight": weight.grad, "of views": z.grad, "nt_xent": pair_loss}
    measured["anywhere"] = (distributed.anywhere(rank == 1, CPU), distributed.anywhere(False, CPU))
    for name, overrides in RUNS.items():
        config = tiny_config(overrides | {"compute.workers_per_trial": PROCESSES})
        trainer = Trainer(config, random_images(), untrained_gan(config), CPU)
        for optimizer in (trainer.optimizers.generator, trainer.optimizers.discriminator):
            optimizer.param_groups[0]["eps"] = 1e-3  # else Adam turns rounding errors of vanishing gradients into steps
        history = trainer.advance(4)
        networks = copy.deepcopy(trainer.state_dict()["networks"])
        measured[name] = {"history": history, "networks": networks}
    clocks = Trainer(tiny_config({"compute.workers_per_trial": PROCESSES}), random_images(), untrained_gan(config), CPU)
    clocks.advance(8, lambda: rank == 1)  # only one process finds that time is up
    measured["paused at"] = clocks.step

    config = tiny_config({"training.learning_rate": 1e30, "evaluation.rungs": (0.125, 1.0)})
    config = config.with_overrides({"data.source": "digits", "compute.workers_per_trial": PROCESSES})
    trainer = Trainer(config, random_images(), untrained_gan(config), CPU)
    measured["diverged"] = [bool(report.failure) for report in run_to_end(trainer, evaluation(config, test=False))]
    return measured


def run_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=PROCESSES)
    torch.save(measure(rank), Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def one() -> dict:
    return measure(0)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(run_process, (str(folder),), nprocs=PROCESSES)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]


def test_loss_over_two_processes_is_the_mean_of_theirs(one, two):
    for name in ("ppcl", "nt_xent"):
        torch.testing.assert_close(sum(process[name] for process in two) / 2, one[name])


def test_gradient_over_two_processes_equals_that_of_one(one, two):
    for process in two:
        torch.testing.assert_close(process["of weight"], one["of weight"])
    # A view's gradient is that of the sum of both losses; the mean over processes halves it again.
    torch.testing.assert_close(torch.cat([process["of views"] for process in two]) / 2, one["of views"])


@pytest.mark.parametrize("run", RUNS)
def test_training_on_two_processes_equals_training_on_one(one, two, run):
    for process in two:
        assert process[run]["networks"].keys() == one[run]["networks"].keys()
        for network, state in one[run]["networks"].items():
            for name, value in state.items():
                actual = process[run]["networks"][network][name]
                torch.testing.assert_close(
                    actual, value, rtol=1e-4, atol=1e-5, msg=lambda text, name=f"{network}.{name}": f"{name}: {text}"
                )


@pytest.mark.parametrize("run", RUNS)
def test_two_processes_log_what_one_logs(one, two, run):
    assert two[0][run]["history"] == two[1][run]["history"]
    for actual, expected in zip(two[0][run]["history"], one[run]["history"], strict=True):
        assert actual == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_processes_hold_the_same_networks(two):
    for run in RUNS:
        for network, state in two[0][run]["networks"].items():
            for name, value in state.items():
                assert torch.equal(value, two[1][run]["networks"][network][name]), f"{run}: {network}.{name}"


def test_a_pause_of_one_process_pauses_all_at_the_same_step(one, two):
    assert [process["paused at"] for process in two] == [1, 1]
    assert one["paused at"] == 8
    assert [process["anywhere"] for process in two] == [(True, False)] * 2


def test_all_processes_end_when_the_first_finds_features_that_are_not_finite(one, two):
    assert one["diverged"] == [True]
    assert [process["diverged"] for process in two] == [[True], [True]]


def test_one_process_has_the_whole_batch_and_collects_nothing():
    assert (distributed.world_size(), distributed.rank(), distributed.rows(7)) == (1, 0, slice(0, 7))
    values = torch.arange(3.0)
    for function in (distributed.gather, distributed.gather_with_gradient, distributed.mean):
        assert torch.equal(function(values), values)
    assert distributed.anywhere(True, CPU)
    assert not distributed.anywhere(False, CPU)


def test_rows_that_cannot_be_shared_equally_are_refused(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    assert distributed.rows(6) == slice(3, 6)
    assert distributed.rows(0) == slice(0, 0)
    with pytest.raises(ValueError, match="7 rows cannot be shared equally by 2 processes"):
        distributed.rows(7)
