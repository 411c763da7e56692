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
import time
from contextlib import AbstractContextManager, nullcontext

from synthcl.comparison import references
from synthcl.comparison.arms import EQUAL_TIME, OWN, REAL_ONLY
from synthcl.comparison.equal_time import equal_time_runs
from synthcl.comparison.execute import Pool, execute, in_this_process, on_ray, processes
from synthcl.comparison.plan import plan, read_arms, read_counts
from synthcl.comparison.records import Place, is_finished
from synthcl.config import cli
from synthcl.core.errors import UserError
from synthcl.runs.encoder_check import describe_encoders, require_encoder, require_references


def parser() -> argparse.ArgumentParser:
    """What can be given."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_config_arguments(made)
    made.add_argument("--arms", default="real-only,frozen-gan,joint", help="arms, or name=FILE with overrides")
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
    for option in ("seeds", "parallel", "minutes"):
        if not getattr(arguments, option) > 0:
            raise UserError(f"--{option} {getattr(arguments, option)} must be above 0")
    config = cli.config_from(arguments)
    place = Place(config)
    from synthcl.comparison.report import write

    if arguments.report:
        print(write(place))
        return

    arms = read_arms("real-only" if arguments.headroom else arguments.arms)
    counts = read_counts(arguments.images, config, arguments.headroom)
    oracle = read_counts(arguments.oracle, config, headroom=False) if arguments.oracle else []
    if arguments.equal_time and not {REAL_ONLY, OWN} <= arms.keys():
        raise UserError(
            f"--equal-time compares the times of {REAL_ONLY} and {OWN}; --arms {arguments.arms!r} needs both"
        )
    runs = plan(config, arms, counts, arguments.seeds, oracle)
    require_encoder(config.encoder, config.data.channels, config.view_size)
    require_references(config)
    for name, told in describe_encoders(config):
        print(f"{name:<10} {told}", flush=True)
    if arguments.dry_run:
        print(config.model_dump_json(indent=2))
        print("\n".join(f"{run.label}{'  finished' if is_finished(run, place) else ''}" for run in runs))
        if arguments.equal_time:
            print(f"then {EQUAL_TIME} with the same images and seeds, for as long as {OWN} took")
        return
    chosen: AbstractContextManager[Pool]
    if not arguments.no_ray:
        chosen = nullcontext(on_ray(config))
    else:
        chosen = nullcontext(in_this_process) if arguments.parallel == 1 else processes(arguments.parallel)
    stop_at = time.monotonic() + 60 * arguments.minutes
    with chosen as pool:
        whole = execute(runs, place, pool, arguments.minutes)
        if arguments.equal_time and whole:
            longer = equal_time_runs(runs, place)
            runs += longer
            whole = execute(longer, place, pool, max(0.0, (stop_at - time.monotonic()) / 60))
        if whole and config.evaluation.references:
            references.score_left(
                config, sorted({run.seed for run in runs}), place.records / references.FOLDER, pool, print
            )
    finished = sum(is_finished(run, place) for run in runs)
    if finished:
        print(write(place))
    if not whole:
        print(f"{finished} of {len(runs)} runs are finished; the same command goes on")
