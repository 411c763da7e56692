"""Look at this machine, or at every node of a cluster, and say in a line each what to mend.

As `synthcl doctor` where the package is installed, or from a checkout:

python tune/doctor.py                                                this machine
python tune/doctor.py --preset cifar10 --address auto --storage s3://YOUR-BUCKET/synthcl
python tune/doctor.py --cluster cluster.yaml                         the file, before ray up

The exit code is 0 for healthy, 1 for something to mend, 2 when nothing could be examined.
"""

import argparse
import sys
from pathlib import Path

from synthcl.config import cli


def parser() -> argparse.ArgumentParser:
    """What can be given."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_config_arguments(made)
    made.add_argument("--cluster", type=Path, metavar="FILE", help="check this file of ray up, and no machine")
    return made


def main() -> None:
    arguments = parser().parse_intermixed_args()
    if arguments.cluster is not None:
        from synthcl.cluster import launch_file

        lines = launch_file.faults(launch_file.read(arguments.cluster))
    else:
        config = cli.config_from(arguments)
        if arguments.dry_run:
            print(config.model_dump_json(indent=2))
            return
        from synthcl.cluster import doctor

        reports, lines = doctor.visit(config)
        print(doctor.table(reports, config))
    print("\n".join(f"mend: {line}" for line in lines) or "healthy")
    sys.exit(1 if lines else 0)
