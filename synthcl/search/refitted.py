"""The encoder that a search has trained on every image, after its winner: where it is, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

from synthcl.core.errors import UserError
from synthcl.runs.export import ENCODER

FOLDER = "encoder-refit"
"""beside the winner's own"""
CARD = "refit"
"""entry of its card"""


def described(folder: Path, winner: str | None) -> str:
    """What the encoder is and is not, in sentences; empty where nothing has been trained again.

    Args:
        folder: of the run.
        winner: of the search as it is now.

    Raises:
        UserError: when its card is damaged.
    """
    file = (folder / FOLDER / ENCODER).with_suffix(".json")
    if not file.is_file():
        return ""
    try:
        note = json.loads(file.read_text())[CARD]
        name, has_won, images = note["of"], note["winner"], int(note["images"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{file} is damaged; remove its folder, and --fresh or --refit all makes it anew") from None
    what = f"{name}, the winner{'' if name == winner else ' before the search went on'}, trained again"
    if not has_won:
        what = f"No configuration was confirmed, so the preset's own curriculum ({name}) was trained"
    return (
        f"{what} on all {images:,} images there are, those of validation and test too. No score belongs to it: every "
        "score here is of trainings that had not seen those images."
    )
