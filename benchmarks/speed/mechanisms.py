"""Time of a training step with each mechanism over that of a plain one, beside operations and passes of the encoder.

Plain steps and steps with a mechanism take turns in one process, on real images alone and with the generator; a ratio
is the median over rounds. On a CPU it is time of the processor. `operations` are those that `training/flops.py` counts,
which are no times: what is element by element counts as nothing there. `passes` are the forward passes of the encoder
that docs/mechanisms.md says a step has more; forward and backward of a plain step of real images are three.

    python -m benchmarks.speed.mechanisms [--quick] [--preset NAME] [--only NAME,NAME] [--cores N] [field=value ...]
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from benchmarks.speed.bounds import finite, make_trainer
from benchmarks.speed.step import STEPS, advance
from benchmarks.support.harness import arguments, comma_separated, finish, interleave, middle_half, ratio, table
from synthcl.comparison.arms import OWN, REAL_ONLY, apply_arm
from synthcl.config.cli import main as with_one_line_errors
from synthcl.config.cli import parse_overrides
from synthcl.config.presets import load_preset
from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.training.flops import training_flops

ARMS = (REAL_ONLY, OWN)


@dataclass(frozen=True)
class Mechanism:
    """How one is switched on."""

    fields: Mapping[str, Any]
    passes: float = 0.0
    """forward passes of the encoder over all views that a step of real images has more"""
    arms: tuple[str, ...] = ARMS
    beside: Mapping[str, Any] = field(default_factory=dict)
    """what it cannot do without, in the plain step, too"""

    def steps(self, base: Config) -> tuple[Config, Config]:
        """The configurations of a plain step and of one with the mechanism."""
        plain = base.with_overrides(dict(self.beside))
        return plain, plain.with_overrides(dict(self.fields))


def _view(kind: str, passes: float = 0.0) -> Mechanism:
    return Mechanism({"views.more.kind": kind}, passes)


def _term(kind: str, *, arms: tuple[str, ...] = ARMS, **beside: Any) -> Mechanism:
    return Mechanism({"terms.more.kind": kind}, arms=arms, beside=beside)


def _contrast(kind: str, passes: float = 0.0) -> Mechanism:
    return Mechanism({"terms.contrast.kind": kind}, passes)


def _gan(**fields: Any) -> Mechanism:
    return Mechanism({f"synthetic.gan.{name}": value for name, value in fields.items()}, arms=(OWN,))


MECHANISMS = {
    **{name: _view(name) for name in ("vertical_flip", "solarise", "erase", "randaugment", "field", "fill_mask")},
    "quarter turns": _view("rotation"),
    "viewmaker": _view("viewmaker"),
    "hard_views": _view("hard_views", passes=2.0),
    **{name: _view(name) for name in ("mixup", "cutmix", "resizemix")},
    "decoupled": Mechanism({"terms.more.kind": "decoupled"}, beside={"views.more.kind": "mixup"}),
    **{name: _term(name) for name in ("vicreg", "barlow", "halp")},
    "dann": _term("dann", arms=(OWN,)),
    "rotation": _term("rotation"),
    "within_source": Mechanism({"terms.contrast.within_source": True}, arms=(OWN,)),
    "soft_positives": Mechanism({"terms.contrast.soft_positives": 0.5}),
    **{name: _contrast(name) for name in ("adaptive", "mochi", "implicit")},
    "moco": _contrast("moco", passes=1.0),
    "byol": _contrast("byol", passes=1.0),
    **{name: _contrast(name) for name in ("simsiam", "nnclr")},
    **{name: Mechanism({"encoder.style.kind": name}) for name in ("dsu", "advstyle")},
    "fixed": Mechanism({"heads.main": {"kind": "fixed"}}),
    "a second head": Mechanism(
        {"heads.second.kind": "mlp", "terms.second": {"kind": "ppcl", "head": "second", "weight": 0.5}}
    ),
    "four views an image": Mechanism({"training.views_per_image": 4}),
    "walk": _gan(walk=0.1),
    "pool": _gan(pool=1024),
    "candidates 4": _gan(candidates=4),
    "teacher": _gan(teacher=1.0),
    "hardness in gradient_ratio": _gan(hardness_unit="gradient_ratio"),
}
"""`folder` and `distil` read files, and what steers a schedule or draws images is no part of a step."""


def operations(mechanism: Mechanism, base: Config, arm: str) -> float | None:
    """Of a run with the mechanism over those without; None where they cannot be counted."""
    plain, own = (training_flops(apply_arm(config, arm)) for config in mechanism.steps(base))
    return own / plain if own and plain else None


def times(chosen: Mapping[str, Mechanism], base: Config, device: torch.device, repeats: int) -> dict[str, float]:
    """Print the table and give the ratios of the times, by name and arm."""
    calls: dict[str, Callable[[], object]] = {}
    trainers = {}
    for name, mechanism in chosen.items():
        for arm in mechanism.arms:
            for label, config in zip((_plain(mechanism, arm), f"{name} {arm}"), mechanism.steps(base), strict=True):
                if label not in calls:
                    trainers[label] = make_trainer(config, arm, device)
                    calls[label] = partial(advance, trainers[label], STEPS)
    timings = interleave(calls, repeats, clock=time.process_time if device.type == "cpu" else time.perf_counter)
    for label, trainer in trainers.items():
        assert finite(trainer), f"{label} diverged"
    ratios: dict[str, float] = {}
    rows = []
    for name, mechanism in chosen.items():
        row: list[object] = [name]
        for arm in ARMS:
            if arm not in mechanism.arms:
                row += ["-", "-", "-"]
                continue
            own, without = timings[f"{name} {arm}"], timings[_plain(mechanism, arm)]
            ratios[f"{name} {arm}"] = ratio(own, without)
            counted = operations(mechanism, base, arm)
            row += [ratios[f"{name} {arm}"], middle_half(own, without), "-" if counted is None else counted]
        rows.append([*row, mechanism.passes])
    each = ["over plain", "middle half", "operations"]
    table(["", *(f"{arm}: {what}" for arm in ARMS for what in each), "passes"], rows)
    plain_steps = {arm: timings[arm] for arm in ARMS if arm in timings}
    print(
        "\nplain step, ms:", ", ".join(f"{arm} {1e3 * each.per(STEPS).median:.1f}" for arm, each in plain_steps.items())
    )
    return ratios


def _plain(mechanism: Mechanism, arm: str) -> str:
    return f"{arm} {dict(mechanism.beside)}" if mechanism.beside else arm


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--preset", default="cifar10-weak-views")
    parser.add_argument("--only", type=comma_separated(str), help="of the mechanisms; all without it")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cores", type=int, default=1, help=f"threads, of {os.cpu_count()}")
    parser.add_argument("overrides", nargs="*", metavar="field=value")
    options = parser.parse_intermixed_args()
    for name in options.only or []:
        if name not in MECHANISMS:
            raise UserError(f"--only {name!r}: choose {', '.join(MECHANISMS)}")
    torch.set_num_threads(options.cores)
    base = load_preset(options.preset).with_overrides(parse_overrides(options.overrides))
    chosen = {name: MECHANISMS[name] for name in options.only or MECHANISMS}
    finish(times(chosen, base, torch.device(options.device), 10 if options.quick else 40))


if __name__ == "__main__":
    with_one_line_errors(main)
