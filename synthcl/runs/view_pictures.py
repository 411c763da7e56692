"""What each view does to a few images, as a picture to choose views by."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from synthcl.config.schema import Config
from synthcl.core.atomic import write_whole
from synthcl.core.rng import generator
from synthcl.data import ImageSource
from synthcl.method.scene import View, Views
from synthcl.method.views.hard_views import HardViews
from synthcl.training.lab import views_of

IMAGES = 3
DRAWS = 4


def draw_views(path: Path, config: Config, images: ImageSource) -> None:
    """A PNG with a row a view: three of the images, each as four draws of that view alone, then of all together.

    A view alone is drawn at the largest strength of the curriculum's start and end, all together at both.

    Args:
        path: of the PNG.
        config: its views and their strength.
        images: at least one; those shown are spread evenly.
    """
    pixels = images.fetch(torch.linspace(0, len(images) - 1, min(IMAGES, len(images))).long()).cpu() / 255
    figure = Figure(figsize=(1.1 + 0.55 * len(pixels) * DRAWS, 0.25))
    rows = rows_of(config, pixels)
    figure.set_size_inches(figure.get_figwidth(), 0.75 * len(rows))
    for row, (name, views) in enumerate(rows.items()):
        axes = figure.add_subplot(len(rows), 1, row + 1)
        shown = views.unflatten(0, (-1, len(pixels))).transpose(0, 1).flatten(0, 1)  # draws of an image side by side
        strip = torch.cat([torch.nn.functional.pad(view, (1, 1, 1, 1), value=1.0) for view in shown], dim=2)
        axes.imshow(strip.expand(3, -1, -1).permute(1, 2, 0).numpy(), interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=130, bbox_inches="tight", pad_inches=0.08)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, png.getvalue())


def rows_of(config: Config, images: Tensor) -> dict[str, Tensor]:
    """What the picture shows, by its label.

    Args:
        config: its views and their strength.
        images: (m, C, S, S) float in [0, 1].

    Returns:
        label -> views (m * DRAWS, C, s, s) float in [0, 1]; view i shows image i modulo m.
    """
    views = views_of(config, config.views)
    resizing = {name: view for name, view in views.items() if view.site == "base"}
    strengths = {progress: config.knobs_at(progress).view_strength for progress in (0.0, 1.0)}
    most = max(strengths, key=lambda progress: strengths[progress])

    def shown(chosen: Mapping[str, View], progress: float, still: Collection[str] = ()) -> Tensor:
        count = len(images) * DRAWS
        seen = Views((images,), (count,), {"real": slice(0, count)}, torch.arange(len(images)).repeat(DRAWS)[:, None])
        knobs = config.knobs_at(progress)
        for name, view in chosen.items():
            strength = 0.0 if name in still else knobs.view_strength
            draw = view.draw(count, strength, generator(config.training.seed, f"pictures of {name}"))
            seen = view(seen, draw, knobs.own(f"views.{name}"))
        return torch.cat(seen.parts)

    rows = {"as they are": shown(resizing, most, resizing)}
    rows |= {f"views.{name}": shown({name: view}, most) for name, view in resizing.items()}
    alone = {name: view for name, view in views.items() if name not in resizing and not isinstance(view, HardViews)}
    rows |= {f"views.{name}": shown(resizing | {name: view}, most, resizing) for name, view in alone.items()}
    rows[f"all, strength {strengths[0.0]:.3g}"] = shown(views, 0.0)
    rows[f"all, strength {strengths[1.0]:.3g}"] = shown(views, 1.0)
    return rows
