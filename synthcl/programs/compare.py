"""Compare arms at equal steps and equal views: arms x numbers of unlabelled images x seeds.

As `synthcl compare` where the package is installed, or from a checkout:

python tune/compare.py --headroom --seeds 3                        does more real data help here at all?
python tune/compare.py --arms real-only,frozen-gan,joint --images 500,1000 --oracle all
python tune/compare.py --arms real-only,tuned=winner.yaml          overrides of your own as an arm
python tune/compare.py --equal-time                                and real-only for as long as joint takes
python tune/compare.py --preset cifar10 --no-ray --parallel 4 --minutes 9
python tune/compare.py --report                                    tables and figures of what is there

The same command again continues; finished runs are never made again.
"""

import argparse
import math
from dataclasses import replace

from synthcl.comparison.arms import EQUAL_TIME, OWN
from synthcl.comparison.begin import Asked, How, begin, planned
from synthcl.comparison.records import Place, is_finished
from synthcl.comparison.report import write
from synthcl.config import cli


def parser() -> argparse.ArgumentParser:
    """What can be given."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_config_arguments(made)
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
    return made


def main() -> None:
    arguments = parser().parse_intermixed_args()
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
