"""Compare arms at equal steps and equal views: arms x numbers of unlabelled images x seeds.

As `synthcl compare` where the package is installed, or from a checkout:

python tune/compare.py --headroom --seeds 3                        does more real data help here at all?
python tune/compare.py --arms real-only,frozen-gan,joint --images 500,1000 --oracle all
python tune/compare.py --arms real-only,tuned=winner.yaml          overrides of your own as an arm
python tune/compare.py --equal-time                                and real-only for as long as joint takes
python tune/compare.py --preset cifar10 --no-ray --parallel 4 --minutes 9
python tune/compare.py --report                                    tables and figures of what is there
python tune/compare.py --mechanisms --no-ray --dry-run             mixers and regularisers, each with and without G
python tune/compare.py --tuned --no-ray --dry-run                  every family at its best, chosen on validation

The same command again continues; finished runs are never made again.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from synthcl.comparison import mechanisms_report, tuned_report
from synthcl.comparison.arms import EQUAL_TIME, OWN
from synthcl.comparison.begin import Asked, How, begin, look_at_encoders, planned
from synthcl.comparison.begin_mechanisms import stages as mechanism_stages
from synthcl.comparison.families import read_families
from synthcl.comparison.mechanisms import FIRST_SEED, IMAGES, MECHANISMS, PRESET, read_mechanisms
from synthcl.comparison.plan import read_counts
from synthcl.comparison.records import Place, is_finished
from synthcl.comparison.report import write
from synthcl.comparison.staged import Plan, Slice, carry_out, describe
from synthcl.comparison.tuned import BUDGET
from synthcl.comparison.tuned import FIRST_SEED as FIRST_FRESH
from synthcl.comparison.tuned import Asked as AskedTuned
from synthcl.comparison.tuned import stages as tuned_stages
from synthcl.config import cli
from synthcl.config.schema import Config
from synthcl.core.errors import UserError


def parser() -> argparse.ArgumentParser:
    """What can be given."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_config_arguments(made)
    made.set_defaults(preset=None)  # another one with --mechanisms
    made.add_argument(
        "--arms", help="such as real-only,joint,name=FILE with overrides; each source alone, and all, if left out"
    )
    made.add_argument("--images", help="such as 500,1000,all; the preset's own number if left out")
    made.add_argument("--oracle", help="real-only also with so many images, such as all")
    made.add_argument("--seeds", type=int, default=5, help="how many, from training.seed on")
    made.add_argument("--equal-time", action="store_true", help="then real-only for as long as joint took, too")
    made.add_argument("--headroom", action="store_true", help="real-only with n, 2n, 5n, 10n ... images")
    made.add_argument("--no-ray", action="store_true", help="on this machine, without Ray")
    made.add_argument("--parallel", type=int, default=1, help="processes at a time, with --no-ray")
    made.add_argument("--minutes", type=float, default=math.inf, help="stop cleanly after so many")
    made.add_argument("--report", action="store_true", help="only write the report, from the records alone")
    made.add_argument(
        "--mechanisms",
        action="store_true",
        help=f"does each mechanism add to the generator or replace it? Preset {PRESET}, {IMAGES} images, training.seed "
        f"{FIRST_SEED} and name mechanisms unless given",
    )
    made.add_argument(
        "--tuned",
        action="store_true",
        help=f"every family at the settings that validation chooses, then on fresh draws. Preset {PRESET}, {IMAGES} "
        f"images, training.seed {FIRST_FRESH} and name tuned-PRESET-IMAGES unless given",
    )
    made.add_argument("--budget", type=int, help=f"with --tuned, runs that tune each family; {BUDGET} if left out")
    made.add_argument(
        "--only",
        help=f"with --mechanisms, some of {','.join(MECHANISMS)}; with --tuned, families such as "
        "real-only,real-only+imix,joint",
    )
    made.add_argument(
        "--slice", help="with --mechanisms or --tuned, a part such as 1/3 of every stage, for one of several machines"
    )
    return made


def main() -> None:
    arguments = parser().parse_intermixed_args()
    if arguments.mechanisms or arguments.tuned:
        _staged(arguments)
        return
    for option, meaning in (("only", "chooses mechanisms or families"), ("budget", "tunes"), ("slice", "cuts stages")):
        if (given := getattr(arguments, option)) is not None:
            raise UserError(f"--{option} {given!r} {meaning}; give --mechanisms or --tuned too, or leave it out")
    arguments.preset = arguments.preset or cli.DEFAULT_PRESET
    asked = Asked(arguments.arms, arguments.images, arguments.oracle, arguments.seeds)
    asked = replace(asked, equal_time=arguments.equal_time, headroom=arguments.headroom)
    how = How(ray=not arguments.no_ray, parallel=arguments.parallel, minutes=arguments.minutes)
    config = cli.config_from(arguments)
    place = Place(config)
    if arguments.report:
        print(write(place))
        return
    runs = planned(config, asked)
    if not arguments.dry_run:
        begin(config, runs, how, equal_time=asked.equal_time)
        return
    print(config.model_dump_json(indent=2))
    print("\n".join(f"{run.label}{'  finished' if is_finished(run, place) else ''}" for run in runs))
    if asked.equal_time:
        print(f"then {EQUAL_TIME} with the same images and seeds, for as long as {OWN} took")


def _staged(arguments: argparse.Namespace) -> None:
    """What chooses on validation first, and then trains what is chosen on fresh seeds."""
    _refuse_what_does_not_go_together(arguments)
    seeds = Asked(seeds=arguments.seeds).seeds
    how = How(ray=not arguments.no_ray, parallel=arguments.parallel, minutes=arguments.minutes)
    share = Slice() if arguments.slice is None else Slice.read(arguments.slice)
    arguments.preset = arguments.preset or PRESET
    arguments.images = arguments.images or IMAGES
    first = FIRST_FRESH if arguments.tuned else FIRST_SEED
    name = f"tuned-{Path(arguments.preset).stem}-{arguments.images}" if arguments.tuned else "mechanisms"
    own = (f"name={name}{'-smoke' if arguments.smoke_test else ''}", f"training.seed={first}")
    arguments.overrides[:0] = own  # what is given comes later, and holds
    config = cli.config_from(arguments)
    images, place = _one_number(arguments.images, config), Place(config)
    plan: Plan
    write_report: Callable[[Place], str]
    if arguments.tuned:
        budget = BUDGET if arguments.budget is None else arguments.budget
        asked = AskedTuned(read_families(arguments.only, config), images, seeds, budget)
        plan, write_report = partial(tuned_stages, config, asked), partial(tuned_report.write, images=images)
    else:
        chosen = read_mechanisms(arguments.only)
        plan, write_report = partial(mechanism_stages, config, chosen, images, seeds), mechanisms_report.write
    if arguments.report:
        print(write_report(place))
        return
    look_at_encoders(config)
    if not arguments.dry_run:
        carry_out(plan, place, how, write_report, share)
        return
    print(config.model_dump_json(indent=2))
    print(describe(plan(), place, how.parallel, share))


def _one_number(text: str, config: Config) -> int:
    """The number of images; a report of one that is written out needs no data."""
    counts = [int(text)] if text.isdecimal() else read_counts(text, config, headroom=False)
    if len(counts) > 1:
        raise UserError(f"--images {text!r}: one number at a time here, such as {IMAGES}")
    return counts[0]


def _refuse_what_does_not_go_together(arguments: argparse.Namespace) -> None:
    mode = "--mechanisms" if arguments.mechanisms else "--tuned"
    for option in ("arms", "oracle", "equal_time", "headroom", *(["tuned", "budget"] * arguments.mechanisms)):
        if given := getattr(arguments, option):
            flag = f"--{option.replace('_', '-')}{'' if given is True else f' {given!r}'}"
            raise UserError(f"{flag} does not go with {mode}, which has its own arms; leave one of them out")
