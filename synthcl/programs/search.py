"""Search for the curriculum that teaches best.

As `synthcl search` where the package is installed, or from a checkout:

python tune/search.py                          the default preset, about ten minutes on two cores
python tune/search.py --smoke-test             the same path in a minute
python tune/search.py --preset cifar10 training.kimg=5000 compute.gpus_per_worker=0.5
python tune/search.py --hours 8                ends in time, confirm runs included
python tune/search.py --equal-time             and real-only for as long as the best of the method took
python tune/search.py --budgets +4             four more whole runs' images for a finished search
"""

import argparse
import re

from synthcl.config import cli
from synthcl.core.errors import UserError
from synthcl.programs.dry_run import add_draw_views, show_data


def parser() -> argparse.ArgumentParser:
    """What can be given."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_config_arguments(made)
    made.add_argument("--budgets", help="whole runs' images; +N adds to a finished search; for search.budgets=...")
    made.add_argument("--hours", help="that search and confirm runs may take; short for search.hours=...")
    made.add_argument("--equal-time", action="store_true", help="then real-only for as long as the winner took, too")
    made.add_argument("--fresh", action="store_true", help="forget an earlier search of this name")
    add_draw_views(made)
    return made


def main() -> None:
    arguments = parser().parse_intermixed_args()

    extend = 0.0
    if arguments.budgets is not None:
        count = arguments.budgets.removeprefix("+")
        if not re.fullmatch(r"\d+(\.\d+)?", count) or float(count) == 0:
            raise UserError(f"--budgets {arguments.budgets!r} is no number above 0; give 12, or +4 to add four")
        if arguments.budgets.startswith("+"):
            extend = float(count)
        else:
            arguments.overrides.append(f"search.budgets={count}")
    if arguments.hours is not None:
        arguments.overrides.append(f"search.hours={arguments.hours}")
    if arguments.equal_time:
        arguments.overrides.append("search.equal_time=true")
    config = cli.config_from(arguments)

    from synthcl.search.budget import describe
    from synthcl.search.sides import load_spaces

    spaces = load_spaces(config)
    if config.search.log_to:
        from synthcl.search.trackers import require_trackers

        require_trackers(config)
    dry = arguments.dry_run or arguments.draw_views
    if dry:
        print(config.model_dump_json(indent=2))
    print(describe(config, spaces), flush=True)
    if dry:
        show_data(config, arguments.draw_views)
        return

    from synthcl.search.stages import run_search

    run_search(config, spaces, fresh=arguments.fresh, extend=extend, preset=arguments.preset)
