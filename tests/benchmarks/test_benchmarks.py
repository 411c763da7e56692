"""The benchmarks of speed count and run what they say; their figures are for people."""

import json
import queue
import sys
import threading
from contextlib import nullcontext
from functools import partialmethod
from types import SimpleNamespace

import pytest
import torch
from small_trainer import CPU, SMALL, tiny_config
from torch import nn

from benchmarks.search import generator, inversion
from benchmarks.speed import bounds, gpu, mechanisms, plan, probes, scale, startup, step
from benchmarks.support import harness
from synthcl.config.presets import load_preset, preset_names
from synthcl.core.errors import UserError
from synthcl.core.plugin import members
from synthcl.method.encoders import AnyHead, AnyStyle
from synthcl.method.objectives import AnyTerm
from synthcl.method.views import AnyView

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


def test_counted_bytes_are_those_that_enter_and_leave_operators():
    images = torch.empty(5, 3, 16, 16, device="meta")
    assert bounds.count(lambda: images.view(-1)).bytes == 0
    assert bounds.count(lambda: images + images).bytes == 3 * images.nbytes


def test_the_bound_counts_every_network_of_the_arm():
    config = tiny_config({"synthetic.gan.spectral_norm": False})
    assert bounds.over_real_only(bounds.parts(bounds.make_trainer(config, "real-only", CPU))) == 1
    frozen = bounds.parts(bounds.make_trainer(config, "frozen-gan", CPU))
    joint = bounds.parts(bounds.make_trainer(config, "joint", CPU))
    assert frozen.keys() == {"E alone", "E", "G"}
    assert joint["E alone"].flops == frozen["E"].flops < joint["E"].flops
    assert frozen["G"].flops == 2 * joint["G_ema"].flops  # two views of a latent instead of four: twice the latents
    assert 2 * joint["G_ema"].flops < joint["G"].flops < 3 * joint["G_ema"].flops  # no gradient to the latents
    assert joint["G through D"].flops < joint["D"].flops < 3 * joint["G through D"].flops
    penalised = bounds.parts(bounds.make_trainer(tiny_config({"synthetic.gan.gradient_penalty": 1.0}), "joint", CPU))
    assert penalised["D"].flops > 1.5 * joint["D"].flops
    lazy = {"synthetic.gan.gradient_penalty": 1.0, "synthetic.gan.penalty_every": 2}
    seldom = bounds.parts(bounds.make_trainer(config.with_overrides(lazy), "joint", CPU))["D"].flops
    eager = config.with_overrides({"synthetic.gan.gradient_penalty": 1.0})
    often = bounds.parts(bounds.make_trainer(eager, "joint", CPU))["D"].flops
    assert seldom == (joint["D"].flops + often) // 2


def test_step_benchmark_gives_a_ratio_for_every_arm(monkeypatch, capsys):
    monkeypatch.setattr(step, "STEPS", 1)
    ratios = ratios_of(step, ["--quick", "--cores", "1", "--presets", "fashion-mini", *TINY], monkeypatch, capsys)
    names = ("frozen-gan", "frozen-gan_over_bound", "joint", "joint_over_bound", "joint_over_networks_alone")
    assert ratios.keys() == {f"fashion-mini_{name}" for name in names}
    assert all(value > 0 for value in ratios.values())


def test_step_benchmark_compares_lazy_penalties_in_turns(monkeypatch, capsys):
    monkeypatch.setattr(step, "STEPS", 1)
    arguments = ["--quick", "--cores", "1", "--presets", "fashion-mini", "--penalties", "1,2", *TINY]
    ratios = ratios_of(step, [*arguments, "synthetic.gan.gradient_penalty=1.0"], monkeypatch, capsys)
    assert ratios.keys() == {f"fashion-mini joint, penalty_every {every}" for every in (1, 2)}
    assert all(value > 0 for value in ratios.values())


def test_every_kind_of_view_term_style_and_head_is_timed_or_named():
    timed = {
        value if isinstance(value, str) else value["kind"]
        for mechanism in mechanisms.MECHANISMS.values()
        for path, value in mechanism.fields.items()
        if path.endswith(".kind") or isinstance(value, dict)
    }
    kinds = {kind for family in (AnyView, AnyTerm, AnyStyle, AnyHead) for kind in members(family)}
    assert kinds - timed == {"simclr", "custom", "distil"}


def test_mechanisms_are_timed_on_real_images_and_with_the_generator_beside_plain_steps(monkeypatch, capsys):
    monkeypatch.setattr(mechanisms, "STEPS", 1)
    arguments = ["--quick", "--preset", "fashion-mini", "--only", "byol,decoupled,dann", *TINY]
    ratios = ratios_of(mechanisms, arguments, monkeypatch, capsys)
    both = [f"{name} {arm}" for name in ("byol", "decoupled") for arm in ("real-only", "joint")]
    assert [*ratios] == [*both, "dann joint"]
    assert all(value > 0 for value in ratios.values())


def test_a_mechanism_that_is_unknown_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mechanisms", "--only", "moco,moko"])
    with pytest.raises(UserError, match="--only 'moko': choose vertical_flip, "):
        mechanisms.main()


@pytest.mark.parametrize("name", ["byol", "hard_views"])
def test_operations_of_a_mechanism_have_the_passes_of_the_encoder_that_its_page_says(name):
    """A plain step of real images is three passes of encoder and head; the pages leave out what is small."""
    mechanism = mechanisms.MECHANISMS[name]
    more = mechanisms.operations(mechanism, load_preset("cifar10-weak-views"), "real-only") - 1
    assert 1 <= more / (mechanism.passes / 3) < 1.2


def test_gpu_benchmark_runs_its_steps_compiled_and_not_with_a_gradient_penalty_anywhere(monkeypatch, capsys):
    # Traced and differentiated as compiled code is, without the minutes of a C++ compiler.
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))
    penalised = ["synthetic.gan.loss=relativistic", "synthetic.gan.gradient_penalty=1.0"]
    arguments = ["--device", "cpu", "--quick", "--compiled", "--preset", "fashion-mini", *TINY, *penalised]
    ratios = ratios_of(gpu, [*arguments, "--trials", ""], monkeypatch, capsys)
    names = ("real-only_rate_over_bare", "joint_over_real-only", "joint_over_bound")
    assert ratios.keys() == {*names, *(f"{name}_compiled" for name in names)}
    assert all(value > 0 for value in ratios.values())


def test_gpu_benchmark_compiles_unless_it_is_quick(monkeypatch):
    asked = []
    monkeypatch.setattr(gpu, "report_steps", lambda config, device, options: asked.append(options.compiled) or {})
    for given in ([], ["--quick"], ["--quick", "--compiled"], ["--no-compiled"]):
        monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--trials", "", *given])
        gpu.main()
    assert asked == [True, False, True, False]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is not skipped")
def test_gpu_benchmark_without_a_gpu_says_so_and_gives_no_ratio(monkeypatch, capsys):
    assert ratios_of(gpu, [], monkeypatch, capsys) == {}


def test_a_trial_on_a_shared_card_tells_its_steps_a_second():
    rates = queue.Queue()
    gpu.train_for(tiny_config().model_dump_json(), "cpu", 0.1, threading.Barrier(1), rates)
    assert rates.get_nowait() > 0


def test_trials_share_a_card_in_processes_of_their_own():
    assert gpu.trials_per_hour(tiny_config(), CPU, count=2, seconds=0.1) > 0


def test_probes_benchmark_compares_fits_and_gives_their_share_of_a_trial(monkeypatch, capsys):
    monkeypatch.setattr(probes, "EPOCHS", 20)
    few = [
        "training.kimg=0.512",
        "evaluation.label_fractions=[400]",
        "evaluation.max_label_images=400",
        "evaluation.early_label_images=200",
    ]
    ratios = ratios_of(probes, ["--quick", *TINY, *few], monkeypatch, capsys)
    assert ratios["sgd_over_logistic"] == pytest.approx(5 * ratios["one_sgd_fit_over_logistic"], rel=1e-2)
    assert abs(ratios["logistic_minus_sgd_validation_points"]) < 15  # both fit; on 400 labels not alike
    assert 0 < ratios["evaluation_share_of_trial_stopped_first"] < 1
    assert 0 < ratios["evaluation_share_of_whole_trial"] < 1


def test_a_plan_follows_its_formulae_and_tells_what_breaks_first(monkeypatch, capsys):
    options = ["--preset", "fashion-mini", "--gpus", "2,4", *TINY]
    ratios = ratios_of(plan, options, monkeypatch, capsys)
    layouts = ("side_by_side", "one_trial", "one_trial_large_batch")
    assert ratios.keys() == {f"{gpus}_gpus_{name}_communication_over_compute" for gpus in (2, 4) for name in layouts}
    assert ratios["2_gpus_side_by_side_communication_over_compute"] == 0  # a process a trial sends nothing

    config = tiny_config({"compute.workers_per_trial": 2})  # 16 images, of them half a batch's views from latents
    side_by_side, alone, large = plan.layouts(config, 4)
    assert (side_by_side.trials, alone.workers, large.workers, large.batch) == (2, 4, 4, 32)
    networks = plan.Networks(flops_per_image=1e9, learning=1000, batch_norms=5, feature_dim=32)
    links = {"node_gpus": 2, "node_gb": 100.0, "network_gb": 1.0, "latency_us": 10.0}
    rates = {"tflops": 1.0, "storage_gb": 1.0, "jpeg_kb": 100.0, "decoded": 100}
    step = plan.plan(alone, networks, SimpleNamespace(**links, **rates))
    assert step.compute == pytest.approx(16 / 4 * 1e-3)
    assert step.gradient_bytes == 2 * 3 / 4 * 4 * 1000
    assert step.contrastive_bytes == 3 / 4 * 32 * (2 * 4 * 8 + 8)
    assert step.statistics_bytes == 3 / 4 * 32 * 4 * 32
    assert step.latency == pytest.approx(19e-5)
    assert step.gradients == pytest.approx(step.gradient_bytes / 1e9)  # beyond a node
    assert step.images == 8 + 4
    assert step.first_to_break(streamed=False).startswith("latency of collectives, 0.0")
    assert step.first_to_break(streamed=True) == "decoding, 7.5 x"


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_has_a_plan_and_a_layout_that_does_not_fit_is_left_out_in_a_line(preset, monkeypatch, capsys):
    monkeypatch.setattr(plan, "measure", lambda config: plan.Networks(1e9, 1000, 5, 32))  # is measured above
    monkeypatch.setattr(sys, "argv", ["plan", "--preset", preset])
    plan.main()
    text = capsys.readouterr().out
    batch = load_preset(preset).training.batch_images
    for gpus in (8, 256):
        fits = batch % (2 * gpus) == 0
        assert (f"training.batch_images {batch} is no multiple of {2 * gpus}" in text) != fits
        assert (f"{gpus}_gpus_one_trial_communication_over_compute" in json.loads(text.splitlines()[-1])) == fits


def test_a_plan_for_a_part_of_a_trial_is_refused():
    with pytest.raises(UserError, match=r"--gpus 2 must be a multiple of compute\.workers_per_trial 4"):
        plan.layouts(load_preset("imagenet100"), 2)


def test_a_search_of_trials_that_do_nothing_reports_what_trials_report():
    trial = scale.NoOp.__new__(scale.NoOp)
    trial.setup({"label": "trial-000", "overrides": {}, "heard": 0, "until": 40}, images=[10, 20, 40])
    reports = [trial.step() for _ in range(3)]
    assert [report["progress"] for report in reports] == [0.25, 0.5, 1.0]
    assert [report["done"] for report in reports] == [False, False, True]
    assert 0 <= reports[0]["score"] < 100


def test_scale_benchmark_compares_the_last_trials_with_the_first(monkeypatch, capsys):
    def search(config, trials):  # every trial takes a second longer than the one before
        return [scale.Mark(number**2 / 2, number**2, 2**20) for number in range(trials + 3)]  # the start, two baselines

    monkeypatch.setattr(scale, "search", search)
    monkeypatch.setattr(scale, "one_machine", nullcontext)
    monkeypatch.setattr(scale, "nodes", nullcontext)
    ratios = ratios_of(scale, ["--trials", "12", "--nodes", "4"], monkeypatch, capsys)
    assert ratios.pop("study_cpu_of_last_trials_over_first") > 0  # the real study, without Ray
    assert scale.at(search(None, 8), 10) == (15000.0, 7500.0, 1.0)
    assert ratios == {
        "cpu_of_last_trials_over_first": 18 / 15,
        "memory_at_end_over_start": 1.0,
        "cpu_on_most_nodes_over_fewest": 27 / 9,  # over 18 ends and over 6
    }


def test_start_up_is_what_a_trial_takes_beyond_its_own_compute():
    spent = startup.Spent(wall=[9.0, 3.0, 6.0, 4.0], compute=[2.0, 2.0, 2.0, 3.0])
    assert spent.beyond == [7.0, 1.0, 4.0, 1.0]
    assert spent.later == 1.0


def test_startup_benchmark_compares_the_product_with_the_nest(monkeypatch, capsys):
    spent = {"synthcl": startup.Spent([9.0, 2.0], [1.0, 1.0]), "nest": startup.Spent([9.0, 6.0], [1.0, 2.0])}
    asked = []

    def alone(name, config, gan, trials):
        asked.append((name, config.compute.workers_per_trial, trials))
        return spent[name]

    monkeypatch.setattr(startup, "alone", alone)
    monkeypatch.setattr(startup, "warm_up", lambda *given, **options: ({}, {}))
    assert ratios_of(startup, ["--quick"], monkeypatch, capsys) == {
        "synthcl_1_worker_seconds": 1.0,
        "nest_1_worker_seconds": 4.0,
        "nest_over_synthcl_1_worker": 4.0,
    }
    assert asked == [("synthcl", 1, 2), ("nest", 1, 2)]


def test_the_distance_of_two_gaussians_is_what_their_means_and_covariances_say():
    drawn = torch.randn(500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn -= drawn.mean(dim=0)
    white = drawn @ torch.linalg.inv(torch.linalg.cholesky(drawn.T.cov())).T  # covariance: the identity
    assert generator.frechet(white, white) == pytest.approx(0, abs=1e-9)
    assert generator.frechet(white + 2, white) == pytest.approx(3 * 2**2)
    assert generator.frechet(3 * white + 2, white) == pytest.approx(3 * (2**2 + (3 - 1) ** 2))


def test_the_generator_is_judged_by_its_distance_to_validation_images(monkeypatch, capsys):
    for name, value in (("SAMPLES", 60), ("STEPS", 30), ("BATCH_IMAGES", 16)):
        monkeypatch.setattr(generator, name, value)
    given = [
        "--preset",
        "fashion-mini",
        "--images",
        "40,80",
        *TINY,
        "data.source=digits",
        "synthetic.gan.warmup_kimg=0.5",
    ]
    found = ratios_of(generator, given, monkeypatch, capsys)
    assert list(found) == [f"distance of samples over that of {count} images" for count in (40, 80)]
    assert all(ratio > 1 for ratio in found.values()), "an untrained generator is further away than images are"


def test_settings_of_the_generator_are_compared_on_several_draws_and_a_second_command_reads_the_records(
    monkeypatch, capsys, tmp_path
):
    for name, value in (("SAMPLES", 60), ("STEPS", 30), ("BATCH_IMAGES", 16)):
        monkeypatch.setattr(generator, name, value)
    records = tmp_path / "gans.jsonl"
    given = ["--preset", "fashion-mini", "--images", "40", *TINY, "data.source=digits", "synthetic.gan.warmup_kimg=0.5"]
    given += ["--compare", "synthetic.gan.augment_strength=0.2,1", "--draws", "2", "--records", str(records)]
    found = ratios_of(generator, given, monkeypatch, capsys)
    assert list(found) == [
        f"distance of samples over that of 40 images, augment_strength={value}" for value in (0.2, 1)
    ]
    assert len({line["key"] for line in map(json.loads, records.read_text().splitlines())}) == 4
    monkeypatch.setattr(generator, "warm_up", None)  # whatever is recorded is not run again
    assert ratios_of(generator, given, monkeypatch, capsys) == found


def test_the_gate_of_inverted_images_gives_a_ratio_in_both_spaces(monkeypatch, capsys):
    for name, value in (("SAMPLES", 60), ("STEPS", 30), ("BATCH_IMAGES", 16)):
        monkeypatch.setattr(generator, name, value)
    given = ["--quick", "--preset", "fashion-mini", "--images", "40", *TINY, "data.source=digits"]
    found = ratios_of(inversion, [*given, "synthetic.gan.warmup_kimg=0.5"], monkeypatch, capsys)
    assert list(found) == [f"{space} of inverted over nearest, 40 images" for space in inversion.SPACES]
    assert all(ratio > 0 for ratio in found.values())
