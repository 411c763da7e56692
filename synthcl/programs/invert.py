"""Write twins of your images: what the GAN shows beside each of them, as a folder that a run can train on.

synthcl invert --preset folder data.root=photos name=photos --out twins
synthcl invert --preset cifar10-weak-views data.root=PATH --out twins --per-image 8 --distance 0.5

Each image is searched for in the latent space of the warmed-up GAN, which is that of the same configuration's search or
training, or is warmed up now. The last line that is printed is what to train with.
"""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

from synthcl.config import cli
from synthcl.programs.dry_run import show_data


def parser() -> argparse.ArgumentParser:
    """What can be given."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_config_arguments(made)
    made.add_argument("--out", type=Path, required=True, help="folder of the twins, with pairs.csv")
    made.add_argument("--per-image", type=int, default=4, help="twins of each image (default: 4)")
    made.add_argument(
        "--distance", type=float, default=0.3, help="of a twin's latent from its image's, 0 to 1 (default: 0.3)"
    )
    made.add_argument("--steps", type=int, default=200, help="of Adam, for each image (default: 200)")
    return made


def main() -> None:
    arguments = parser().parse_intermixed_args()
    config = cli.config_from(arguments)
    settings = {name: getattr(arguments, name) for name in ("per_image", "distance", "steps")}

    from synthcl.runs.inversion import PAIRS, require_settings, write_twins

    if arguments.dry_run:
        require_settings(config, arguments.out, **settings)
        show_data(config, None, test=False, chooses=False)
        return
    twins = write_twins(config, arguments.out, **settings)
    print(
        f"{arguments.out}: {arguments.per_image} twins of {twins.paired:,} of {twins.images:,} images; G(z) is "
        f"{twins.over_nearest:.2f} times as far from its image as the nearest other image is (medians)"
    )
    path = json.dumps(str(arguments.out), ensure_ascii=False)  # it may have spaces and commas
    source = f"synthetic.twins={{kind: folder, path: {path}, pairs: {PAIRS}}}"
    print(f"train with {shlex.quote(source)}")
