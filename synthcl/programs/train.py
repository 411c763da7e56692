"""Train one configuration on 1..N Ray Train workers; the same command again continues.

As `synthcl train` where the package is installed, or from a checkout:

python tune/train.py                                         the default preset's own curriculum
python tune/train.py --arm real-only training.seed=1         one arm of a comparison
python tune/train.py --preset cifar10 compute.workers_per_trial=4
"""

import argparse

from synthcl.comparison.arms import ARMS, apply_arm
from synthcl.config import cli
from synthcl.programs.dry_run import add_draw_views, show_data


def parser() -> argparse.ArgumentParser:
    """What can be given."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_config_arguments(made)
    made.add_argument("--arm", default="joint", help=f"one of {', '.join(ARMS)}")
    made.add_argument("--fresh", action="store_true", help="forget an earlier run of this name")
    add_draw_views(made)
    return made


def main() -> None:
    arguments = parser().parse_intermixed_args()
    config = apply_arm(cli.config_from(arguments), arguments.arm)
    if arguments.dry_run or arguments.draw_views:
        print(config.model_dump_json(indent=2))
        views = 2 * config.training.batch_images
        print(f"{'a run':<10} {config.training.steps} steps of {config.training.batch_images} images ({views} views)")
        show_data(config, arguments.draw_views, test=False, chooses=False)
        return

    from synthcl.cluster.train import run_training

    run_training(config, f"train-{arguments.arm}", fresh=arguments.fresh)
