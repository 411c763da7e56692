"""Training steps on one GPU: how near to the bare encoder, how often the host waits, and what K trials get out of it.

ResNet-18 at 32 pixels in bfloat16 on resident images (`--preset`, cifar10):

- *bare* is the encoder alone, forward and backward over tensors that lie there: the bound of a real-only step.
- *real-only* and *joint* are whole steps of the trainer; joint is bounded by real-only times the ratio in FLOPs.
- *host waits* are CUDA calls at which the host stops for the GPU; the trainer needs one, to log.
- *compiled* and *cudnn.benchmark* are the same with `training.compile` (D stays as it is under a gradient penalty) and
  with cuDNN choosing by trial.

Then K processes train the small encoder (`--trial-preset`, fashion-mini) on the card at once: trials per hour, of
training alone. Needs torch and torchvision, not Ray. Without a GPU it says so and ends.

    python -m benchmarks.speed.gpu [--quick] [--compiled] [--preset cifar10] [--trials 1,2,4] [field=value ...]
"""

import argparse
import itertools
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import cast

import torch
import torch.multiprocessing

from benchmarks.speed.bounds import finite, make_trainer, over_real_only, parts
from benchmarks.support.harness import Timing, arguments, comma_separated, finish, interleave, ratio, table
from synthcl.config.cli import parse_overrides
from synthcl.config.presets import load_preset
from synthcl.config.schema import Config
from synthcl.core.device import normalise
from synthcl.training.trainer import Trainer


def bare(config: Config, device: torch.device) -> Callable[[], object]:
    """Encoder and projector forward and backward over as many resident views as a step has."""
    encoder = (
        config.encoder.build(config.data.channels, config.view_size).to(device).to(memory_format=torch.channels_last)
    )
    projector = config.heads["main"].build(cast(int, encoder.feature_dim)).to(device)
    size = (2 * config.training.batch_images, config.data.channels, config.view_size, config.view_size)
    views = normalise(torch.rand(size, device=device))
    if config.training.compile:
        encoder.compile()
        projector.compile()

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=config.training.precision == "bf16"):
            embeddings = projector(encoder(views))
        embeddings.float().square().sum().backward()
        for network in (encoder, projector):
            network.zero_grad(set_to_none=True)

    return step


def repeat(call: Callable[[], object], times: int) -> None:
    for _ in range(times):
        call()


def advance(trainer: Trainer, steps: int) -> None:
    trainer.advance(trainer.step + steps)


def time_steps(config: Config, device: torch.device, steps: int, repeats: int) -> tuple[dict[str, Timing], float, int]:
    """Seconds a step of each piece, the joint step's FLOPs over real-only's, and the joint step's waits in `steps`."""
    trainers = {arm: make_trainer(config, arm, device) for arm in ("real-only", "joint")}
    calls: dict[str, Callable[[], object]] = {"bare": partial(repeat, bare(config, device), steps)}
    calls |= {arm: partial(advance, trainer, steps) for arm, trainer in trainers.items()}
    timings = {name: timing.per(steps) for name, timing in interleave(calls, repeats, warm_ups=2).items()}
    waits = host_waits(calls["joint"])
    assert all(finite(trainer) for trainer in trainers.values()), "a step diverged"
    return timings, over_real_only(parts(trainers["joint"])), waits


def host_waits(call: Callable[[], object]) -> int:
    """How often a call makes the host wait for the GPU."""
    if not torch.cuda.is_available():
        return 0
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def trials_per_hour(config: Config, device: torch.device, count: int, seconds: float) -> float:
    """Whole budgets of `count` processes that train at once, from their steps within some seconds."""
    context = torch.multiprocessing.get_context("spawn")
    barrier, rates = context.Barrier(count), context.Queue()
    crowd = [
        context.Process(target=train_for, args=(config.model_dump_json(), str(device), seconds, barrier, rates))
        for _ in range(count)
    ]
    for process in crowd:
        process.start()
    steps_per_second = sum(rates.get(timeout=600) for _ in crowd)
    for process in crowd:
        process.join()
    return 3600 * steps_per_second / config.training.steps


def train_for(config: str, device: str, seconds: float, barrier, rates) -> None:
    """One of the processes: it trains as the others do, and tells its steps a second."""
    torch.set_num_threads(1)
    trainer = make_trainer(Config.model_validate_json(config), "joint", torch.device(device))
    advance(trainer, 5)
    barrier.wait()
    began, first = time.monotonic(), trainer.step
    while time.monotonic() - began < seconds:
        advance(trainer, 5)  # ends with a wait for the GPU
    rates.put((trainer.step - first) / (time.monotonic() - began))
    barrier.wait()  # none leaves the card to the others before all have counted


def report_steps(config: Config, device: torch.device, options: argparse.Namespace) -> dict[str, float]:
    """Time the steps as configured, compiled and with cuDNN's choice; print them and give the ratios."""
    steps, repeats = (2, 3) if options.quick else (10, 15)
    ratios: dict[str, float] = {}
    compiling = (False, True) if options.compiled else (False,)
    choosing = (False, True) if device.type == "cuda" else (False,)
    for compiled, benchmark in itertools.product(compiling, choosing):
        torch.backends.cudnn.benchmark = benchmark
        variant = config.with_overrides({"training.compile": compiled})
        timings, bound, waits = time_steps(variant, device, steps, repeats)
        title = ", ".join([config.encoder.kind, config.training.precision, *["compiled"] * compiled])
        print(f"\n{title}{', cudnn.benchmark' * benchmark}: {waits} host waits in {steps} joint steps")
        images = config.training.batch_images
        rows = [
            (name, images / timing.median, 1e3 * timing.median, ratio(timings["bare"], timing))
            for name, timing in timings.items()
        ]
        table(["", "images/s", "ms/step", "rate over bare"], rows)
        measured = ratio(timings["joint"], timings["real-only"])
        print(f"joint over real-only {measured:.3f}, bound {bound:.3f}: {measured / bound:.3f} times the bound")
        suffix = "_compiled" * compiled + "_benchmark" * benchmark
        ratios |= {
            f"real-only_rate_over_bare{suffix}": rows[1][-1],
            f"joint_over_real-only{suffix}": measured,
            f"joint_over_bound{suffix}": measured / bound,
        }
    torch.backends.cudnn.benchmark = False
    return ratios


def report_trials(config: Config, device: torch.device, options: argparse.Namespace) -> dict[str, float]:
    """Time trials side by side, print their rates and give them over that of the first number."""
    seconds = min(options.seconds, 5.0) if options.quick else options.seconds
    rates = {count: trials_per_hour(config, device, count, seconds) for count in options.trials}
    print(f"\n{config.name}: trials of {config.training.kimg:g} kimg side by side on one card")
    gains = {count: rate / rates[options.trials[0]] for count, rate in rates.items()}
    table(["at once", "trials/h", "over the first"], [(str(count), rates[count], gains[count]) for count in rates])
    return {f"trials_at_once_{count}": gain for count, gain in gains.items()}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--preset", default="cifar10")
    parser.add_argument("--trial-preset", default="fashion-mini")
    parser.add_argument("--trials", type=comma_separated(int), default=[1, 2, 4], help="at once on the card")
    parser.add_argument("--seconds", type=float, default=20.0, help="for which trials share the card")
    parser.add_argument(
        "--compiled", action=argparse.BooleanOptionalAction, help="also compiled; without --quick by default"
    )
    parser.add_argument("--device", default="cuda", help=argparse.SUPPRESS)  # the tests run the same on a CPU
    parser.add_argument("overrides", nargs="*", metavar="field=value", help="of --preset")
    options = parser.parse_intermixed_args()
    if options.compiled is None:
        options.compiled = not options.quick
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("skipped: torch sees no GPU here")
        finish({})
        return
    if device.type == "cuda":
        print(torch.cuda.get_device_name(device))
    config = load_preset(options.preset).with_overrides(parse_overrides(options.overrides))
    ratios = report_steps(config, device, options)

    if options.trials:
        ratios |= report_trials(load_preset(options.trial_preset), device, options)
    if device.type == "cuda":
        print(f"largest memory of the steps: {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")
    finish(ratios)


if __name__ == "__main__":
    main()
