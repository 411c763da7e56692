"""Time of a training step of each arm over that of a real-only step with as many views, beside the bound in FLOPs.

The bound is 1 + FLOPs(G, D) / FLOPs(E), counted forward and backward as far as the step needs them (`bounds.py`); it
holds if every operation runs as fast as the encoder's. Steps are whole: data, random numbers, views, losses,
optimisers. `networks alone` are the passes through the networks that the joint step cannot do without, and nothing
else. On the CPU the small encoder's presets are timed; on a GPU also ResNet-18 on CIFAR-10's.

    python -m benchmarks.speed.step [--quick] [--presets NAME,NAME] [--cores N] [--variants] [--penalties K,K]
                                    [field=value ...]

`--variants` times the joint step also in bfloat16 and compiled (all but D where there is a gradient penalty).
`--penalties 4,8,16` times it also with the gradient penalty in every 4th, 8th and 16th step, in place of all else.
"""

import math
import os
import time
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.speed.bounds import finite, make_trainer, networks_alone, of_step, over_real_only, parts
from benchmarks.support.harness import Timing, arguments, comma_separated, finish, interleave, middle_half, ratio, table
from synthcl.config.cli import parse_overrides
from synthcl.config.presets import load_preset
from synthcl.config.schema import Config
from synthcl.core.work import Work
from synthcl.training.trainer import Trainer

ARMS = ("real-only", "frozen-gan", "joint")
ALONE = "networks alone"
STEPS = 2  # between two looks at the clock, at least


def time_arms(
    config: Config, device: torch.device, repeats: int
) -> tuple[dict[str, Timing], dict[str, dict[str, Work]]]:
    """Times and work of a step of every arm, in turns."""
    steps = math.lcm(STEPS, config.gan.penalty_every)
    trainers = {arm: make_trainer(config, arm, device) for arm in ARMS}
    calls: dict[str, Callable[[], object]] = {
        arm: partial(advance, trainer, steps) for arm, trainer in trainers.items()
    }
    calls[ALONE] = partial(repeat, networks_alone(trainers["joint"]), steps)
    timings = {arm: timing.per(steps) for arm, timing in interleave(calls, repeats, warm_ups=2).items()}
    for arm, trainer in trainers.items():
        assert finite(trainer), f"{arm} diverged"
    return timings, {arm: parts(trainer) for arm, trainer in trainers.items()}


def advance(trainer: Trainer, steps: int) -> None:
    trainer.advance(trainer.step + steps)


def repeat(call: Callable[[], object], times: int) -> None:
    for _ in range(times):
        call()


def report(config: Config, timings: dict[str, Timing], work: dict[str, dict[str, Work]]) -> dict[str, float]:
    """Print one preset's tables and give its ratios."""
    views = 2 * config.training.batch_images
    rows = []
    ratios: dict[str, float] = {}
    for arm, timing in timings.items():
        measured, bound = ratio(timing, timings["real-only"]), over_real_only(work["joint" if arm == ALONE else arm])
        spread = f"{1e3 * timing.fastest:.1f} to {1e3 * timing.slowest:.1f}"
        rows.append((arm, 1e3 * timing.median, spread, views / timing.median, measured, bound, measured / bound))
        if arm in ("frozen-gan", "joint"):
            ratios |= {f"{config.name}_{arm}": measured, f"{config.name}_{arm}_over_bound": measured / bound}
    ratios[f"{config.name}_joint_over_networks_alone"] = ratio(timings["joint"], timings[ALONE])
    table(["", "ms/step", "range", "views/s", "over real-only", "bound", "over bound"], rows)
    print()
    parts_of_joint = [(name, part.flops / 1e9, part.bytes / 1e6) for name, part in work["joint"].items()]
    table(["joint step", "GFLOP", "MB in and out of operators"], parts_of_joint)
    rates = {arm: of_step(work[arm]).flops / timings[arm].median / 1e9 for arm in ARMS}
    print(f"GFLOP/s achieved: {', '.join(f'{arm} {rate:.0f}' for arm, rate in rates.items())}\n")
    return ratios


def time_variants(config: Config, device: torch.device, repeats: int) -> None:
    """Print the joint step's time in bfloat16 and compiled over the plain one's."""
    variants = {
        "as configured": config,
        "bfloat16": config.with_overrides({"training.precision": "bf16"}),
        "compiled": config.with_overrides({"training.compile": True}),
    }
    calls = {
        name: partial(advance, make_trainer(variant, "joint", device), STEPS) for name, variant in variants.items()
    }
    timings = interleave(calls, repeats, warm_ups=2)
    first = timings["as configured"]
    table(
        ["joint step", "ms/step", "over as configured"],
        [(name, 1e3 * timing.per(STEPS).median, ratio(timing, first)) for name, timing in timings.items()],
    )


def time_penalties(config: Config, device: torch.device, repeats: int, every: list[int]) -> dict[str, float]:
    """Print the joint step's time with lazy gradient penalties over a real-only step's, and give the ratios.

    On a CPU it is time of the processor.
    """
    steps = math.lcm(STEPS, *every)
    trainers = {"real-only": make_trainer(config, "real-only", device)}
    for number in every:
        lazy = config.with_overrides({"synthetic.gan.penalty_every": number})
        trainers[f"joint, penalty_every {number}"] = make_trainer(lazy, "joint", device)
    calls = {name: partial(advance, trainer, steps) for name, trainer in trainers.items()}
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    timings = interleave(calls, repeats, clock=clock)
    rows, ratios = [], {}
    for (name, timing), trainer in zip(timings.items(), trainers.values(), strict=True):
        assert finite(trainer), f"{name} diverged"
        measured, bound = ratio(timing, timings["real-only"]), over_real_only(parts(trainer))
        spread = middle_half(timing, timings["real-only"])
        rows.append((name, 1e3 * timing.per(steps).median, measured, spread, bound, measured / bound))
        if name != "real-only":
            ratios[f"{config.name} {name}"] = measured
    table(["", "ms/step", "over real-only", "middle half of rounds", "bound", "over bound"], rows)
    return ratios


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--presets", type=comma_separated(str), help="the small ones, and cifar10 where there is a GPU")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="threads")
    parser.add_argument("--variants", action="store_true", help="also in bfloat16 and compiled")
    parser.add_argument("--penalties", type=comma_separated(int), help="of synthetic.gan.penalty_every, in turns")
    parser.add_argument("overrides", nargs="*", metavar="field=value")
    options = parser.parse_intermixed_args()
    torch.set_num_threads(options.cores)
    device = torch.device(options.device)
    presets = options.presets or ["fashion-mini", "cifar10-small", *["cifar10"] * (device.type == "cuda")]
    ratios: dict[str, float] = {}
    for preset in presets:
        config = load_preset(preset).with_overrides(parse_overrides(options.overrides))
        print(f"{preset}: {2 * config.training.batch_images} views a step, {device.type}, {options.cores} cores\n")
        repeats = 10 if options.quick else 40
        if options.penalties:
            ratios |= time_penalties(config, device, repeats, options.penalties)
            continue
        ratios |= report(config, *time_arms(config, device, repeats))
        if options.variants:
            time_variants(config, device, max(3, repeats // 5))
            print()
    finish(ratios)


if __name__ == "__main__":
    main()
