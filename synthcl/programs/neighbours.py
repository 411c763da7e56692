"""A page of images, each beside those that a frozen encoder finds most like it.

synthcl neighbours runs/fashion-mini/encoder.safetensors photos --out neighbours.html
synthcl neighbours encoder.safetensors photos --out neighbours.html --query cat/1.jpg --query dog/7.jpg

The page holds its pictures, so it can be sent to somebody and works offline.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from synthcl.core.atomic import disk_failures_named, write_whole
from synthcl.programs.embed import add_encoder_and_images
from synthcl.runs.embed import find_files, loaded
from synthcl.runs.feature_file import require_writable
from synthcl.runs.neighbours import neighbours_of, page, require_counts


def parser() -> argparse.ArgumentParser:
    """What can be given."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_encoder_and_images(made)
    made.add_argument("--out", type=Path, required=True, help="the page, neighbours.html")
    made.add_argument("--queries", type=int, default=12, help="images to show, spread evenly over all (default: 12)")
    made.add_argument("--query", action="append", metavar="PATH", help="show this image, as named in the folder")
    made.add_argument("--neighbours", type=int, default=8, help="nearest images of each (default: 8)")
    return made


def main() -> None:
    arguments = parser().parse_args()

    require_writable("--out", arguments.out, (".html",))
    files = find_files(arguments.images)
    queries = arguments.query or arguments.queries
    require_counts(files.names, queries, arguments.neighbours)
    encoder = loaded(arguments.encoder, trust_code=arguments.trust_code)
    found, unreadable = neighbours_of(encoder, files, queries, arguments.neighbours)
    for line in unreadable:
        print(f"left out: {line}", file=sys.stderr)
    title = f"Nearest neighbours in {arguments.images} by {arguments.encoder}"
    shown = page(found, files.folder, title)
    with disk_failures_named("--out", arguments.out):
        write_whole(arguments.out, shown)
    left_out = f", {len(unreadable):,} left out that cannot be read" if unreadable else ""
    print(f"{arguments.out}: {len(found.queries)} of {len(found.paths):,} images beside their nearest{left_out}")
