"""What a step's views are drawn with: the numbers of its batch, less those of which the encoder finds harder ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from synthcl.core.updates import evaluating
from synthcl.method.curriculum.knobs import Knobs
from synthcl.method.objectives.keys import ppcl_to_keys
from synthcl.method.scene import Draw, Seen, Views
from synthcl.method.views.hard_views import HardViews
from synthcl.training.batch import Batch
from synthcl.training.lab import Lab


def drawn(lab: Lab, views: Views, batch: Batch, knobs: Knobs) -> dict[str, Any]:
    """The random numbers of all views by name; where hard views are on, those of the base view are chosen.

    Args:
        lab: its encoder judges.
        views: the images of a step, before the base view.
        batch: of the step.
        knobs: of the step.
    """
    draws: dict[str, Any] = {**batch.draws}
    for name, view in lab.views.items():
        own = knobs.own(f"views.{name}")
        if isinstance(view, HardViews) and own["share"] > 0 and "real" in views.spans:
            count = len(views.parts[0]) if view.sides == "one" else views.counts[0]
            judge = partial(judged, lab, views, count, own["temperature"])
            every: list[Any] = [draws["base"], *batch.proposed[name]]
            draws["base"] = view.choose(every, draws[name], judge, own)
    return draws


@torch.no_grad()
def judged(lab: Lab, views: Views, count: int, temperature: float, draws: Sequence[Draw]) -> Tensor:
    """PPCL of views of real images as each draw makes them, among the first draws of all others of real images.

    Networks look in evaluation mode, so that no statistic of BatchNorm moves and each view is seen by itself.

    Args:
        lab: its encoder looks, through the head `main`.
        views: the images of a step, real ones first.
        count: how many of the views of real images are judged, from the first on.
        temperature: above 0, of the loss.
        draws: of the base view for this process's views; the others have the first.

    Returns:
        (count, draws) float32, at least 0.
    """
    number, base, head = views.counts[0], lab.views["base"], lab.heads["main"]
    images = None if views.images is None else views.images[:number]
    real = Views(views.parts[:1], (number,), {}, views.members[:number], images=images)

    def look(draw: Draw, rows: int) -> Tensor:
        own = draw.rows(torch.arange(rows, device=real.members.device))
        shown = base(real._replace(counts=(rows,), members=real.members[:rows]), own, {})
        return Seen(shown, lab.encoder, {"main": head}).embeddings("main")

    with evaluating(lab.encoder, head):
        keys = look(draws[0], number)
        proposed = [torch.cat([look(draw, count), keys[count:]]) for draw in draws[1:]]
        return torch.stack([ppcl_to_keys(own, keys, real, temperature)[:count] for own in (keys, *proposed)], dim=1)
