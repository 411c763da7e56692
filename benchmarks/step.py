"""Time of a training step of each arm over that of a real-only step with as many views, beside the bound in FLOPs.

The bound is 1 + FLOPs(G, D) / FLOPs(E), counted forward and backward as far as the step needs them (`bounds.py`); it
holds if every operation runs as fast as the encoder's. Steps are whole: data, random numbers, views, losses,
optimisers. On the CPU the small encoder's presets are timed; on a GPU also ResNet-18 on CIFAR-10's.

    python benchmarks/step.py [--quick] [--presets NAME,NAME] [--cores N] [--variants] [field=value ...]

`--variants` times the joint step also in bfloat16 and compiled.
"""

import os
from functools import partial

import torch

from bounds import Work, finite, make_trainer, over_real_only, parts
from harness import Timing, arguments, comma_separated, finish, interleave, ratio, table
from synthcl.config import Config, load_preset, parse_overrides

ARMS = ("real-only", "frozen-gan", "joint")
STEPS = 2  # between two looks at the clock


def time_arms(
    config: Config, device: torch.device, repeats: int
) -> tuple[dict[str, Timing], dict[str, dict[str, Work]]]:
    """Times and work of a step of every arm, in turns."""
    trainers = {arm: make_trainer(config, arm, device) for arm in ARMS}
    calls = {arm: partial(advance, trainer, STEPS) for arm, trainer in trainers.items()}
    timings = {arm: timing.per(STEPS) for arm, timing in interleave(calls, repeats, warm_ups=2).items()}
    for arm, trainer in trainers.items():
        assert finite(trainer), f"{arm} diverged"
    return timings, {arm: parts(trainer) for arm, trainer in trainers.items()}


def advance(trainer, steps: int) -> None:
    trainer.advance(trainer.step + steps)


def report(config: Config, timings: dict[str, Timing], work: dict[str, dict[str, Work]]) -> dict[str, float]:
    """Print one preset's tables and give its ratios."""
    views = 2 * config.training.batch_images
    rows = []
    ratios: dict[str, float] = {}
    for arm, timing in timings.items():
        measured, bound = ratio(timing, timings["real-only"]), over_real_only(work[arm])
        spread = f"{1e3 * timing.fastest:.1f} to {1e3 * timing.slowest:.1f}"
        rows.append((arm, 1e3 * timing.median, spread, views / timing.median, measured, bound, measured / bound))
        if arm != "real-only":
            ratios |= {f"{config.name}_{arm}": measured, f"{config.name}_{arm}_over_bound": measured / bound}
    table(["arm", "ms/step", "range", "views/s", "over real-only", "bound", "over bound"], rows)
    print()
    seconds = timings["joint"].median
    parts_of_joint = [(name, part.flops / 1e9, part.bytes / 1e6) for name, part in work["joint"].items()]
    total = sum(work["joint"].values(), Work())
    rates = ("all", total.flops / 1e9, total.bytes / 1e6)
    table(["joint step", "GFLOP", "MB in and out of operators"], [*parts_of_joint, rates])
    print(f"achieved: {total.flops / seconds / 1e9:.0f} GFLOP/s\n")
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


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--presets", type=comma_separated(str), help="the small ones, and cifar10 where there is a GPU")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="threads")
    parser.add_argument("--variants", action="store_true", help="also in bfloat16 and compiled")
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
        ratios |= report(config, *time_arms(config, device, repeats))
        if options.variants:
            time_variants(config, device, max(3, repeats // 5))
            print()
    finish(ratios)


if __name__ == "__main__":
    main()
