"""`training.compile`: the same training, alone, on two processes and after a resume. Needs a C++ compiler, as it does.

Compiling takes most of a minute, and what a machine has compiled it keeps for the next time.
"""

from pathlib import Path

import pytest
import torch
from small_trainer import CPU, random_images, tiny_config, unit, untrained_gan

from synthcl import load_encoder
from synthcl.runs.checkpoint_store import load, save
from synthcl.runs.export import load_any, save_encoder
from synthcl.training.trainer import Trainer

PROCESSES = 2
PENALISED = {"synthetic.gan.loss": "relativistic", "synthetic.gan.gradient_penalty": 1.0}
HALVES = {"training.precision": "bf16", "training.learning_rate": 0.01, "compute.workers_per_trial": PROCESSES}


def make(compiled, overrides=None) -> Trainer:
    config = tiny_config(PENALISED | {"training.compile": compiled} | (overrides or {}))
    trainer = Trainer(config, random_images(), untrained_gan(config), CPU)
    for optimizer in (trainer.optimizers.generator, trainer.optimizers.discriminator):
        optimizer.param_groups[0]["eps"] = 1e-3  # else Adam turns rounding errors of vanishing gradients into steps
    return trainer


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {
        f"{network}.{name}": value.clone()
        for network, state in trainer.state_dict()["networks"].items()
        for name, value in state.items()
    }


@pytest.fixture(scope="module")
def compiled() -> Trainer:
    """Has trained two steps."""
    trainer = make(True)
    trainer.advance(2)
    return trainer


def test_a_compiled_joint_step_with_a_gradient_penalty_equals_the_uncompiled_one(compiled):
    plain, again = make(False), make(True)
    for one, other in zip(plain.advance(2), again.advance(2), strict=True):
        assert other == pytest.approx(one, rel=1e-4, abs=1e-5)
    expected = weights(plain)
    for name, value in weights(compiled).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


def test_the_discriminator_is_compiled_where_no_penalty_differentiates_it_twice():
    is_compiled = lambda network: network._compiled_call_impl is not None  # noqa: E731
    penalised, plain = vars(make(True).networks), vars(make(True, {"synthetic.gan.gradient_penalty": 0.0}).networks)
    assert [name for name, network in penalised.items() if not is_compiled(network)] == ["discriminator"]
    assert all(is_compiled(network) for network in plain.values())


def test_a_compiled_run_resumes_bit_by_bit_and_its_encoder_is_exported(compiled, tmp_path):
    save(compiled, tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["trainer"]["networks"]
    for network, values in vars(make(False).networks).items():
        assert state[network].keys() == values.state_dict().keys()  # none begins with _orig_mod
    resumed = make(True)
    load(resumed, tmp_path)
    assert resumed.advance(3) == compiled.advance(3)
    for name, value in weights(compiled).items():
        assert torch.equal(weights(resumed)[name], value), name

    save(resumed, tmp_path)
    encoder, config = load_any(tmp_path)
    assert config.training.compile
    save_encoder(tmp_path / "encoder.safetensors", resumed.networks.encoder, config, {})
    exported = load_encoder(tmp_path / "encoder.safetensors")
    for name, value in resumed.networks.encoder.state_dict().items():
        assert torch.equal(exported.state_dict()[name], value), name
    images = unit(256, 16).view(16, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(exported(images), encoder(images))


def measure(compiled: bool, precision: str = "bf16") -> dict:
    trainer = make(compiled, HALVES | {"training.precision": precision})
    before = weights(trainer)
    return {"before": before, "history": trainer.advance(3), "after": weights(trainer)}


def run_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=PROCESSES)
    torch.save(measure(compiled=True), Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_compiled_processes_in_bfloat16_train_as_one_that_is_neither_split_nor_compiled(tmp_path):
    torch.multiprocessing.spawn(run_process, (str(tmp_path),), nprocs=PROCESSES)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES))
    assert first["history"] == second["history"]
    for name, value in first["after"].items():
        assert torch.equal(value, second["after"][name]), name

    # How far bfloat16 is from float32 depends on the processor, and tells what two ways to compute in it may differ by.
    one, exact = measure(compiled=False), measure(compiled=False, precision="fp32")
    for name in ("loss/contrast", "loss/discriminator", "loss/generator"):
        two_, one_, exact_ = ([point[name] for point in each["history"]] for each in (first, one, exact))
        error = max(abs(a - b) for a, b in zip(one_, exact_, strict=True))
        assert two_ == pytest.approx(one_, abs=2 * error + 0.005 * max(exact_)), name
    assert all(torch.tensor(value).isfinite() for point in first["history"] for value in point.values())

    def way(run: dict, network: str) -> torch.Tensor:
        names = [name for name in run["after"] if name.startswith(f"{network}.")]
        return torch.cat([(run["after"][name].double() - run["before"][name].double()).flatten() for name in names])

    for network in ("encoder", "projector", "generator", "discriminator"):
        two_, one_, exact_ = (way(each, network) for each in (first, one, exact))
        assert one_.norm() > 0
        apart = (two_ - one_).norm() / one_.norm()
        error = (one_ - exact_).norm() / one_.norm()
        assert apart < 2 * error + 0.02, f"{network}: {apart:.3f} of the way it went, bfloat16 itself {error:.3f}"
