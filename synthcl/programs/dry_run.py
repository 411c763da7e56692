"""What a dry run shows of the data: numbers, and on request what views do to it."""

from __future__ import annotations

import argparse
from pathlib import Path

from synthcl.config.schema import Config
from synthcl.core.errors import UserError


def add_draw_views(parser: argparse.ArgumentParser) -> None:
    """The option that asks for pictures."""
    parser.add_argument(
        "--draw-views", type=Path, metavar="PNG", help="as --dry-run, and draw what each view does to three images"
    )


def show_data(config: Config, pictures: Path | None, *, test: bool = True, chooses: bool = True) -> None:
    """Print what was found, and draw the views of three images.

    Args:
        config: of the run.
        pictures: a PNG to be written; none draws nothing.
        test: whether the run reads test parts in the end.
        chooses: whether something is chosen by scores, which takes labels.

    Raises:
        UserError: as `open_data`, and for a file that is no PNG.
    """
    from synthcl.runs.preflight import open_data

    if pictures is not None and pictures.suffix.lower() != ".png":
        raise UserError(f"--draw-views {str(pictures)!r} does not end in .png; give a PNG, such as views.png")
    data = open_data(config, test=test, chooses=chooses)
    print(data.describe())
    if pictures is not None:
        from synthcl.runs.view_pictures import draw_views

        draw_views(pictures, config, data.images)
        print(f"{'views':<10} {pictures}: three of the images, view by view")
