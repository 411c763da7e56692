"""The benchmarks of speed count and run what they say; their figures are for people."""

import json
import queue
import sys
import threading

import pytest
import torch
from small_trainer import CPU, SMALL, tiny_config
from torch import nn

import bounds
import gpu
import harness
import step

TINY = [f"{field}={value}" for field, value in SMALL.items() if field != "training.kimg"]


def ratios_of(program, arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [program.__name__, *arguments])
    threads = torch.get_num_threads()
    try:
        program.main()
    finally:
        torch.set_num_threads(threads)
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_pieces_take_turns_and_are_compared_within_a_round():
    calls = []
    work = {name: lambda name=name: calls.append(name) for name in ("slow", "fast")}
    timings = harness.interleave(work, repeats=3, warm_ups=1)
    assert calls == ["slow", "fast"] * 4
    assert all(len(timing.seconds) == 3 for timing in timings.values())
    assert harness.ratio(harness.Timing((2.0, 9.0, 8.0)), harness.Timing((1.0, 3.0, 2.0))) == 3.0


def test_counted_operations_of_a_convolution_are_the_formula():
    layer = nn.Conv2d(3, 8, 3, padding=1, bias=False, device="meta")
    images = torch.empty(5, 3, 16, 16, device="meta")
    forward = 2 * 5 * 8 * 3 * 9 * 16**2
    assert bounds.count(lambda: layer(images)).flops == forward
    assert bounds.count(lambda: layer(images).sum().backward()).flops == 2 * forward
    assert bounds.count(lambda: layer(images.requires_grad_()).sum().backward()).flops == 3 * forward
    assert bounds.count(lambda: images.view(-1)).bytes == 0
    assert bounds.count(lambda: images + images).bytes == 3 * images.nbytes


def test_the_bound_counts_every_network_of_the_arm():
    config = tiny_config({"gan.spectral_norm": False})
    assert bounds.over_real_only(bounds.parts(bounds.make_trainer(config, "real-only", CPU))) == 1
    frozen = bounds.parts(bounds.make_trainer(config, "frozen-gan", CPU))
    joint = bounds.parts(bounds.make_trainer(config, "joint", CPU))
    assert frozen.keys() == {"E alone", "E", "G"}
    assert joint["E alone"].flops == frozen["E"].flops < joint["E"].flops
    assert frozen["G"].flops == 2 * joint["G_ema"].flops  # two views of a latent instead of four: twice the latents
    assert 2 * joint["G_ema"].flops < joint["G"].flops < 3 * joint["G_ema"].flops  # no gradient to the latents
    assert joint["G through D"].flops < joint["D"].flops < 3 * joint["G through D"].flops
    penalised = bounds.parts(bounds.make_trainer(tiny_config({"gan.gradient_penalty": 1.0}), "joint", CPU))
    assert penalised["D"].flops > 1.5 * joint["D"].flops


def test_step_benchmark_gives_a_ratio_for_every_arm(monkeypatch, capsys):
    monkeypatch.setattr(step, "STEPS", 1)
    ratios = ratios_of(step, ["--quick", "--cores", "1", "--presets", "fashion-mini", *TINY], monkeypatch, capsys)
    names = ("frozen-gan", "frozen-gan_over_bound", "joint", "joint_over_bound", "joint_over_networks_alone")
    assert ratios.keys() == {f"fashion-mini_{name}" for name in names}
    assert all(value > 0 for value in ratios.values())


def test_gpu_benchmark_runs_its_steps_anywhere(monkeypatch, capsys):
    arguments = ["--device", "cpu", "--quick", "--preset", "fashion-mini", *TINY, "--trials", ""]
    ratios = ratios_of(gpu, arguments, monkeypatch, capsys)
    assert ratios.keys() == {"real-only_rate_over_bare", "joint_over_real-only", "joint_over_bound"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is not skipped")
def test_gpu_benchmark_without_a_gpu_says_so_and_gives_no_ratio(monkeypatch, capsys):
    assert ratios_of(gpu, [], monkeypatch, capsys) == {}


def test_a_trial_on_a_shared_card_tells_its_steps_a_second():
    rates = queue.Queue()
    gpu.train_for(tiny_config().model_dump_json(), "cpu", 0.1, threading.Barrier(1), rates)
    assert rates.get_nowait() > 0
