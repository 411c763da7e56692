"""Search for the curriculum that teaches best.

As `synthcl search` where the package is installed, or from a checkout:

python tune/search.py                          the default preset, about ten minutes on two cores
python tune/search.py --smoke-test             the same path in a minute
python tune/search.py --preset cifar10 training.kimg=5000 compute.gpus_per_worker=0.5
python tune/search.py --hours 8                ends in time, confirm runs included
python tune/search.py --equal-time             and real-only for as long as the best of the method took
python tune/search.py --budgets +4             four more whole runs' images for a finished search
python tune/search.py --refit all              and its winner again on every image, for an encoder without a score
"""

import argparse

from synthcl.config import cli
from synthcl.programs.dry_run import add_draw_views, show_data


def parser() -> argparse.ArgumentParser:
    """What can be given."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_config_arguments(made)
    made.add_argument("--budgets", help="whole runs' images; +N adds to a finished search; for search.budgets=...")
    made.add_argument("--hours", help="that search and confirm runs may take; short for search.hours=...")
    made.add_argument("--equal-time", action="store_true", help="then real-only for as long as the winner took, too")
    made.add_argument("--refit", help="all: then train the winner on every image, test too; for search.refit=...")
    made.add_argument("--fresh", action="store_true", help="forget an earlier search of this name")
    add_draw_views(made)
    return made


def main() -> None:
    arguments = parser().parse_intermixed_args()

    from synthcl.search.begin import begin, options, planned

    asked, added = options(
        budgets=arguments.budgets, hours=arguments.hours, equal_time=arguments.equal_time, refit=arguments.refit
    )
    config = cli.config_from(arguments, asked)
    if not (arguments.dry_run or arguments.draw_views):
        begin(config, added=added, fresh=arguments.fresh, preset=arguments.preset)
        return
    print(config.model_dump_json(indent=2))
    print(planned(config)[1], flush=True)
    show_data(config, arguments.draw_views)
