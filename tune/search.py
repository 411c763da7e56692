"""Search for the curriculum that teaches best.

python tune/search.py                          the default preset, about ten minutes on two cores
python tune/search.py --smoke-test             the same path in a minute
python tune/search.py --preset cifar10 training.kimg=5000 compute.gpus_per_worker=0.5
python tune/search.py --trials +8              eight more trials for a finished search
"""

import argparse
from pathlib import Path

from synthcl.config import cli
from synthcl.core.errors import UserError

SPACES = Path(__file__).parent / "spaces"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_config_arguments(parser)
    parser.add_argument("--trials", help="how many; +N adds to a finished search; short for search.trials=...")
    parser.add_argument("--fresh", action="store_true", help="forget an earlier search of this name")
    arguments = parser.parse_intermixed_args()

    extend = 0
    if arguments.trials is not None:
        count = arguments.trials.removeprefix("+")
        if not count.isdigit() or int(count) == 0:
            raise UserError(f"--trials {arguments.trials!r} is not a count; give 16, or +8 to add eight")
        if arguments.trials.startswith("+"):
            extend = int(count)
        else:
            arguments.overrides.append(f"search.trials={count}")
    config = cli.config_from(arguments)

    from synthcl.search.budget import describe
    from synthcl.search.space import load_space

    named = config.search.space
    space = load_space(Path(named) if named.endswith(".yaml") else SPACES / f"{named}.yaml", config)
    if arguments.dry_run:
        print(config.model_dump_json(indent=2))
    print(describe(config, space), flush=True)
    if arguments.dry_run:
        from synthcl.runs.preflight import open_data

        print(open_data(config).describe())
        return

    from synthcl.search.stages import run_search

    run_search(config, space, fresh=arguments.fresh, extend=extend)


if __name__ == "__main__":
    cli.main(main)
