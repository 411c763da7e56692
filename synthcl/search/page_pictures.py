"""The pictures of a search's page: what a generator makes beside real images, and what the winner finds alike."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from PIL import Image

from synthcl.config.schema import Config
from synthcl.core.atomic import write_whole
from synthcl.core.device import resize, to_float
from synthcl.core.image_grid import grid_png
from synthcl.core.page import picture, text
from synthcl.data import ImageSource, open_sample
from synthcl.runs.export import ENCODER, load_any
from synthcl.runs.label_free import nearest_in_sample
from synthcl.runs.neighbours import QUERY, Seen, gallery
from synthcl.search.findings import Findings
from synthcl.search.now import OF_GENERATOR, Now

REAL = "real.png"
"""beside the folders of the runs' samples"""
_COLUMNS = 8
_ROWS = 2
_GRIDS = 3
_SAMPLE_IMAGES = 512
"""that neighbours are looked for in: the page is made where the search is driven, perhaps without a GPU"""
_REALISM_GAP, _DIVERSITY, _ACCURACY = OF_GENERATOR


def draw_real(folder: Path, config: Config, images: ImageSource) -> None:
    """Real images as D sees them, for the page to show beside those of G.

    Args:
        folder: of the run.
        config: its size of synthetic images.
        images: at least one; those shown are spread evenly.
    """
    file = folder / "samples" / REAL
    if file.is_file() or not config.needs_gan:
        return
    rows = torch.linspace(0, len(images) - 1, _ROWS * _COLUMNS).round().long()
    pixels = resize(to_float(images.fetch(rows)), config.gan_image_size).cpu()  # (16, C, h, w) in [0, 1]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, grid_png(pixels.clamp(0, 1), _COLUMNS))


def samples(found: Findings, now: Now) -> str:
    """Real images, and G(z) over G_ema(z) from the beginning of a run to its end, with a word on realism."""
    candidates = [found.sampled[1]] if found.sampled else [*reversed(now.works)]
    folder = found.folder / "samples"
    run = next((name for name in candidates if any((folder / name).glob("*.png"))), None)
    if run is None:
        raise ValueError("no run with a generator has kept samples yet")
    files = sorted((folder / run).glob("*.png"))
    chosen = sorted({round(at * (len(files) - 1) / (_GRIDS - 1)) for at in range(_GRIDS)})
    shown = []
    if (folder / REAL).is_file():
        shown.append(_grid(folder / REAL, "Real images, at the size that the generator makes"))
    else:
        shown.append('<p class="left-out">Left out: real images, for the data set was not at hand.</p>')
    for at in chosen:
        kimg = int(files[at].stem) / 1000
        shown.append(_grid(files[at], f"{run} after {kimg:,.1f} thousand images: G above, its slow copy G_ema below"))
    winner = found.board.winner
    whose = ""
    if found.sampled and winner and found.sampled[0] != winner.name:
        whose = f"<p>The winner {text(winner.name)} has no generator; these are of {text(run)}.</p>"
    return f'{whose}{_realism(found, now, run)}<div class="samples">{"".join(shown)}</div>'


def _grid(file: Path, says: str) -> str:
    content = file.read_bytes()
    width, height = Image.open(io.BytesIO(content)).size
    shown = picture(content, "png", says, width=2 * width, height=2 * height, pixelated=True)
    return f"<figure>{shown}<figcaption>{text(says)}</figcaption></figure>"


def _realism(found: Findings, now: Now, run: str) -> str:
    """What the last logged statistics say of the images, in sentences."""
    told = now.works[run].statistics if run in now.works else {}
    for record in found.confirmed:
        if f"{record.arm}-seed{record.seed}" == run:
            told = record.statistics
    said = []
    if _REALISM_GAP in told:
        said.append(
            f"Realism gap {told[_REALISM_GAP]:.2f}: how far the encoder's features of synthetic images are from those "
            "of real ones, over the variance of the real ones; 0 cannot be told apart."
        )
    if _DIVERSITY in told:
        said.append(f"Diversity {told[_DIVERSITY]:.2f}: 1 varies as real images do, 0 is a collapsed generator.")
    if _ACCURACY in told:
        said.append(f"The discriminator is right in {100 * told[_ACCURACY]:.0f} % of the cases; 50 % is a guess.")
    if not said:
        return '<p class="left-out">Left out: numbers on realism, which this run has not logged.</p>'
    return f"<p>{' '.join(said)} All at the end of {text(run)}. Hard samples need not look real.</p>"


def neighbours(found: Findings, *, trust_code: bool) -> str:
    """Images that the winner's encoder finds alike.

    Raises:
        ValueError: where its encoder, its code or its images are not at hand.
    """
    winner, file = found.board.winner, found.folder / ENCODER
    if winner is None or not file.is_file():
        raise ValueError("the winner's encoder is written when the search is complete")
    made = json.loads(file.with_suffix(".json").read_text())["scores"]["run"]
    if made.rpartition("-seed")[0] != winner.name:
        raise ValueError(f"{ENCODER} is still that of {made}")
    encoder, config = load_any(file, trust_code=trust_code)
    rows, similarities = nearest_in_sample(encoder, config, _SAMPLE_IMAGES)
    shown = []
    for number, (images, cosines) in enumerate(zip(rows, similarities.tolist(), strict=True), 1):
        query = Seen(images[0], f"{number}", QUERY)
        nearest = (Seen(pixels, "", f"{cosine:.3f}") for pixels, cosine in zip(images[1:], cosines, strict=True))
        shown.append([query, *nearest])
    return (
        f"<p>Images by {text(made)}, each before those nearest to it among at most {_SAMPLE_IMAGES} that it was "
        f"trained on; the number is the cosine of their features.</p>{gallery(shown)}"
    )


def real_images(found: Findings) -> None:
    """`draw_real` from the data set, where it is at hand."""
    if not (found.folder / "samples" / REAL).is_file() and (found.folder / "samples").is_dir():
        draw_real(found.folder, found.config, open_sample(found.config.data, _ROWS * _COLUMNS, "cpu"))
