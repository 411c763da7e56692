"""Features of a folder of images by a frozen encoder, in one file.

synthcl embed runs/fashion-mini/encoder.safetensors photos --out features.parquet
synthcl embed encoder.safetensors list.txt --out features.npz      a path a line, relative to the list's folder

The file holds the path of every image and its features: .parquet, .npz or .pt. The same command resumes when it was
interrupted. Images that cannot be read are named and left out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from synthcl.runs.embed import find_files, loaded
from synthcl.runs.feature_file import KINDS, require_writable, write_features


def parser() -> argparse.ArgumentParser:
    """What can be given."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_encoder_and_images(made)
    made.add_argument("--out", type=Path, required=True, help="features.parquet, features.npz or features.pt")
    return made


def main() -> None:
    arguments = parser().parse_args()

    require_writable("--out", arguments.out, KINDS)
    files = find_files(arguments.images)
    encoder = loaded(arguments.encoder, trust_code=arguments.trust_code)
    written = write_features(arguments.out, encoder, files)
    for line in written.unreadable:
        print(f"left out: {line}", file=sys.stderr)
    rate = f", {written.rate:,.0f} images/s" if written.rate else ""
    left_out = f", {len(written.unreadable):,} left out that cannot be read" if written.unreadable else ""
    print(f"{arguments.out}: {written.images:,} images x {written.feature_dim} features{rate}{left_out}")


def add_encoder_and_images(parser: argparse.ArgumentParser) -> None:
    """The arguments that name an encoder and what it is to look at."""
    parser.add_argument("encoder", type=Path, help="encoder.safetensors, checkpoint.pt, or a folder with one of them")
    parser.add_argument("images", type=Path, help="a folder, searched at any depth, or a text file with a path a line")
    parser.add_argument("--trust-code", action="store_true", help="import the module that an encoder of yours names")
