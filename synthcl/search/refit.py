"""The winner of a search trained once more, on every image there is: validation and test too, so without a score."""

from __future__ import annotations

from pathlib import Path

from synthcl.cluster.train import trained_to_the_end
from synthcl.comparison.arms import OWN
from synthcl.config.schema import Config
from synthcl.runs.export import ENCODER, save_encoder
from synthcl.runs.preflight import open_data
from synthcl.runs.storage import Storage
from synthcl.search.findings import Findings
from synthcl.search.refitted import CARD, FOLDER
from synthcl.search.results import open_study

_ON_ALL = {
    "data.pretrain_on": "all",
    "data.image_fraction": 1.0,
    "evaluation.transfer": [],  # nothing is scored
    "evaluation.references": {},
    "search.objective": "linear",  # another one would ask for a transfer set
}


def chosen(config: Config, folder: Path) -> tuple[str, bool, Config]:
    """What is trained again: the winner, or the configuration's own curriculum where nothing was confirmed.

    Args:
        config: of the search.
        folder: of its run.

    Returns:
        (its name, whether it is the winner, its configuration with every image), at the seed of the search.
    """
    winner = Findings.read(config, folder, open_study(folder)).board.winner
    overrides = winner.overrides if winner else {}
    return winner.name if winner else OWN, winner is not None, config.with_overrides(overrides | _ON_ALL)


def refit(config: Config, storage: Storage, stage: str) -> None:
    """Train it, from its last checkpoint on, and export it.

    Args:
        config: of the search.
        storage: of its run.
        stage: names the training, such as `refit-1`.

    Raises:
        UserError: on unreadable images, or when the training diverges.
    """
    name, has_won, own = chosen(config, storage.folder)
    data = open_data(own, test=False, chooses=False)
    count = data.own.unlabelled_images
    print(f"{config.name}: {stage} trains {name} on all {count:,} images there are", flush=True)
    encoder, trained, _ = trained_to_the_end(own, stage, storage, data.images)
    (storage.folder / FOLDER).mkdir(exist_ok=True)
    note = {"of": name, "winner": has_won, "images": count}
    note["scores"] = "none belongs to this encoder: it was trained on validation and test images, too"
    save_encoder(storage.folder / FOLDER / ENCODER, encoder, trained, {}, {CARD: note})
