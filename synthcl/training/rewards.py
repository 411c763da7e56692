"""What a bandit pays its arms: how far views of a source pull the encoder where real images pull it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from synthcl.core import distributed
from synthcl.method.objectives.ppcl import ppcl
from synthcl.method.scene import Seen, Statistics


def rewards(seen: Seen, views_per_image: int, temperature: float) -> Statistics:
    """`reward/ARM`: the mean cosine of an arm's gradient with those of two halves of the real images, in [-1, 1].

    Gradients are of PPCL, with the views of one arm as anchors, in a linear layer from the features to the output of
    head `main`, added to that at 0. Real images are an arm, too: `reward/real` is the cosine of their two halves, as it
    would be 1 with themselves. Fewer views make a noisier gradient, and a smaller cosine.

    Args:
        seen: what the encoder makes of the views; no gradient reaches it.
        views_per_image: of a real image; real rows lie in blocks of one view an image.
        temperature: of PPCL.

    Source: Albalak et al., "Improving Few-Shot Generalization by Exploring and Exploiting Auxiliary Data" (FLAD),
    NeurIPS 2023, section 3.2, with the gradients of the output layer; there the target is no arm.
    """
    spans, members = seen.views.spans, seen.views.members
    real = spans.get("real", slice(0, 0))
    images = (real.stop - real.start) // views_per_image
    if images < 2:
        return {}
    number = distributed.rank() * images + torch.arange(images, device=members.device)
    second = torch.zeros(len(members), dtype=torch.bool, device=members.device)
    second[real] = (number % 2 == 1).repeat(views_per_image)
    parts = {"first": second.logical_not() & _rows(real, members), "second": second}
    parts |= {name: _rows(span, members) for name, span in spans.items() if name != "real" and span.stop > span.start}
    gradients = _gradients(seen, parts, temperature)
    halves = gradients[:2]
    found = {"reward/real": (halves[0] * halves[1]).sum()}
    for name, gradient in zip(list(parts)[2:], gradients[2:], strict=True):
        found[f"reward/{name}"] = (halves @ gradient).mean()
    return found


def _rows(span: slice, members: Tensor) -> Tensor:
    """(V,) bool: which rows lie in a span."""
    row = torch.arange(len(members), device=members.device)
    return (row >= span.start) & (row < span.stop)


def _gradients(seen: Seen, parts: Mapping[str, Tensor], temperature: float) -> Tensor:
    """(parts, dim * feature_dim) float32 of length 1: the gradient of each part's loss, over all processes."""
    with torch.autocast(seen.features.device.type, enabled=False), torch.enable_grad():
        vectors, features = seen.head("main").detach().float().requires_grad_(), seen.features.detach().float()
        found = []
        for anchors in parts.values():
            embeddings = F.normalize(vectors, dim=1)
            loss = ppcl(embeddings, seen.views.members, temperature, seen.views.weights, anchors.float())
            (towards,) = torch.autograd.grad(loss, vectors)
            found.append((towards.T @ features).flatten())
    return F.normalize(distributed.mean(torch.stack(found)), dim=1)
