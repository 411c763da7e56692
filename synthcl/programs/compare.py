"""Compare arms at equal steps and equal views: arms x numbers of unlabelled images x seeds.

As `synthcl compare` where the package is installed, or from a checkout:

python tune/compare.py --headroom --seeds 3                        does more real data help here at all?
python tune/compare.py --arms real-only,frozen-gan,joint --images 500,1000 --oracle all
python tune/compare.py --arms real-only,tuned=winner.yaml          overrides of your own as an arm
python tune/compare.py --equal-time                                and real-only for as long as joint takes
python tune/compare.py --preset cifar10 --no-ray --parallel 4 --minutes 9
python tune/compare.py --report                                    tables and figures of what is there
python tune/compare.py --mechanisms --no-ray --dry-run             mixers and regularisers, each with and without G

The same command again continues; finished runs are never made again.
"""

import argparse
import math
from dataclasses import replace

from synthcl.comparison import begin_mechanisms, mechanisms_report
from synthcl.comparison.arms import EQUAL_TIME, OWN
from synthcl.comparison.begin import Asked, How, begin, planned
from synthcl.comparison.mechanisms import FIRST_SEED, IMAGES, MECHANISMS, PRESET, read_mechanisms
from synthcl.comparison.plan import read_counts
from synthcl.comparison.records import Place, is_finished
from synthcl.comparison.report import write
from synthcl.config import cli
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
    made.add_argument("--only", help=f"with --mechanisms, some of {','.join(MECHANISMS)}")
    return made


def main() -> None:
    arguments = parser().parse_intermixed_args()
    if arguments.mechanisms:
        _mechanisms(arguments)
        return
    if arguments.only is not None:
        raise UserError(f"--only {arguments.only!r} chooses mechanisms; give --mechanisms too, or --arms instead")
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


def _mechanisms(arguments: argparse.Namespace) -> None:
    """The first experiments on mechanisms: strengths on validation, then a factorial with and without the generator."""
    for option in ("arms", "oracle", "equal_time", "headroom"):
        if given := getattr(arguments, option):
            flag = f"--{option.replace('_', '-')}{'' if given is True else f' {given!r}'}"
            raise UserError(f"{flag} does not go with --mechanisms, which has its own arms; leave one of them out")
    chosen = read_mechanisms(arguments.only)
    seeds = Asked(seeds=arguments.seeds).seeds
    how = How(ray=not arguments.no_ray, parallel=arguments.parallel, minutes=arguments.minutes)
    arguments.preset = arguments.preset or PRESET
    own = (f"name=mechanisms{'-smoke' if arguments.smoke_test else ''}", f"training.seed={FIRST_SEED}")
    arguments.overrides[:0] = own  # what is given comes later, and holds
    config = cli.config_from(arguments)
    place = Place(config)
    if arguments.report:
        print(mechanisms_report.write(place))
        return
    counts = read_counts(arguments.images or IMAGES, config, headroom=False)
    if len(counts) > 1:
        raise UserError(f"--images {arguments.images!r}: --mechanisms takes one number, such as {IMAGES}")
    if arguments.dry_run:
        plan = begin_mechanisms.planned(config, chosen, counts[0], seeds)
        print(config.model_dump_json(indent=2))
        print(begin_mechanisms.describe(*plan, place, how.parallel))
        return
    begin_mechanisms.begin(config, chosen, counts[0], seeds, how)
