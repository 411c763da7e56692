"""The label-free panel: what an encoder makes of some fixed images under fixed views, and its scores by name.

The views are SimCLR's at full strength whatever a run trains with, and the same numbers at every rung and in every run
of one `data.split_seed`, so that runs differ in their encoders alone. The images are held out where validation is;
a data set without labels has no validation split, and then they are among those that were trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from synthcl.config.schema import Config
from synthcl.config.sections import DataConfig
from synthcl.core.device import normalise, to_float
from synthcl.core.errors import UserError
from synthcl.core.rng import generator
from synthcl.core.updates import evaluating
from synthcl.data import ImageSource, has_labels, open_sample, open_split
from synthcl.data.transform import as_seen
from synthcl.evaluation import label_free
from synthcl.evaluation.features import Labelled
from synthcl.evaluation.probes.linear import ridge
from synthcl.method.objectives.rotation import RotationTermConfig
from synthcl.method.views.rotation import RotationConfig
from synthcl.method.views.simclr import SimclrConfig, apply, draw

IMAGES, VIEWS = 1024, 8
PREFIX = "label_free/"


class Panel(NamedTuple):
    """What there is to score."""

    features: Tensor  # (n, q, f), of q views of n images
    embeddings: Tensor  # (n, q, d), what the head `main` makes of them, not of unit length
    turned: Tensor | None = None  # (4, n, f), features of whole images turned by 0 to 3 right angles, where asked for


def rotation(turned: Tensor) -> float:
    """Accuracy, in percent, of a linear probe that tells by which right angle an image was turned.

    Args:
        turned: (4, n, f) features; half of the images are fitted on, a quarter chooses the penalty, the rest is scored.

    Source: Reed et al., "SelfAugment", CVPR 2021, section 3; of a ridge probe.
    """
    images = turned.shape[1]
    fitted, chosen = images // 2, 3 * images // 4

    def part(rows: slice) -> Labelled:
        features = turned[:, rows]
        return Labelled(
            features.flatten(0, 1), torch.arange(4, device=turned.device).repeat_interleave(features.shape[1])
        )

    return ridge(part(slice(fitted)), part(slice(fitted, chosen)), 4).accuracy(part(slice(chosen, None)))


def _turned(panel: Panel) -> float:
    assert panel.turned is not None
    return rotation(panel.turned)


SCORES: dict[str, Callable[[Panel], float]] = {
    "rankme": lambda panel: label_free.effective_rank(panel.embeddings.flatten(0, 1)),
    "alpha": lambda panel: label_free.power_law(panel.features.flatten(0, 1)),
    "lidar": lambda panel: label_free.lidar(panel.embeddings),
    "alignment": lambda panel: label_free.alignment(panel.embeddings),
    "uniformity": lambda panel: label_free.uniformity(panel.embeddings[:, 0]),
    "contrast": lambda panel: label_free.contrast(panel.embeddings[:, :2]),
    "clid": lambda panel: label_free.clid(panel.features[:, 0]),
    "retrieval": lambda panel: label_free.retrieval(panel.features),
    "rotation": _turned,
}
"""by the name in `evaluation.label_free`; the metric is `label_free/NAME`"""

_LOWER_IS_BETTER = {f"{PREFIX}alignment", f"{PREFIX}uniformity", f"{PREFIX}contrast", "loss/contrast"}
LOGGED = ("features/rank", "features/std", "encoder/variance", "loss/contrast")
"""measured in every run"""
CLAIMED = (*LOGGED, *(f"{PREFIX}{name}" for name in SCORES))
"""every metric without labels that some paper, or common sense, chooses encoders by"""


def goodness(metric: str, value: float) -> float:
    """A value of a label-free metric, turned so that its claim is: the higher the better.

    Args:
        metric: one of `CLAIMED`.
        value: as it is logged.

    Returns:
        Above 0 for every value that the score can have but 0 itself, so that no failed run is above one with a score.

    Example:
        >>> goodness("loss/contrast", 0.0), goodness("label_free/alpha", 1.0), goodness("features/rank", 60.0)
        (1.0, 1.0, 60.0)
    """
    if metric == f"{PREFIX}alpha":
        return math.exp(-abs(value - 1))
    return math.exp(-value) if metric in _LOWER_IS_BETTER else value


def named(config: Config) -> tuple[str, ...]:
    """The scores that a run measures: those of `evaluation.label_free`, and the one that a search chooses by."""
    judge = (config.search.label_free,) if config.search.objective == "label_free" else ()
    return tuple(dict.fromkeys(name for name in (*config.evaluation.label_free, *judge) if name))


def judged(metrics: Mapping[str, float], config: Config) -> float:
    """What objective label_free chooses by: the score that the search names, higher is better."""
    metric = f"{PREFIX}{config.search.label_free}"
    return goodness(metric, metrics[metric])


def require_panel(config: Config) -> None:
    """Refuse a score that a run trains for.

    Raises:
        UserError: naming the view, or the term.
    """
    if "rotation" not in named(config):
        return
    field = "evaluation" if "rotation" in config.evaluation.label_free else "search"
    for name, view in config.views_on.items():
        if isinstance(view, RotationConfig):
            raise UserError(
                f"{field}.label_free has 'rotation', and views.{name} turns images in training, so that an encoder "
                "that cannot tell is no worse; leave one of them out"
            )
    for name, term in config.terms_on.items():
        if isinstance(term, RotationTermConfig):
            raise UserError(
                f"{field}.label_free has 'rotation', which terms.{name} trains for, so that an encoder that can tell "
                "is no better; leave one of them out"
            )


def measure(encoder: nn.Module, head: nn.Module, config: Config, device: torch.device) -> dict[str, float]:
    """The scores of `named`, as `label_free/NAME`; none costs nothing.

    Args:
        encoder: (n, C, view_size, view_size) in [-1, 1] -> (n, feature_dim), on `device`; modes are restored after.
        head: (n, feature_dim) -> (n, dim), what the contrastive loss looks through.
        config: of the run.
        device: where the networks live.
    """
    if not (names := named(config)):
        return {}
    panel = make_panel(encoder, head, config, device, turn="rotation" in names)
    return {f"{PREFIX}{name}": SCORES[name](panel) for name in names}


@torch.no_grad()
def make_panel(
    encoder: nn.Module, head: nn.Module, config: Config, device: torch.device, *, turn: bool = False
) -> Panel:
    """Encode the panel's images; arguments as of `measure`, and whether to turn whole images, too."""
    source = panel_images(config.data, device)
    count, size = min(IMAGES, len(source)), config.view_size
    chosen = torch.randperm(len(source), generator=generator(config.data.split_seed, "label-free images"))[:count]
    views = draw(SimclrConfig(), count * VIEWS, 1.0, generator(config.data.split_seed, "label-free views"))
    features, embeddings, turned = [], [], []
    with evaluating(encoder, head):
        for rows in torch.arange(count).split(max(1, config.evaluation.batch_images // VIEWS)):
            images = source.fetch(chosen[rows])  # (m, C, S, S) uint8
            own = (rows + count * torch.arange(VIEWS)[:, None]).flatten()  # view i shows image i modulo m
            seen = encoder(normalise(apply(to_float(images), views.rows(own).to(device), size))).float()
            features.append(seen.unflatten(0, (VIEWS, -1)).transpose(0, 1))  # (m, q, f)
            embeddings.append(head(seen).float().unflatten(0, (VIEWS, -1)).transpose(0, 1))
            if turn:
                whole = as_seen(images, size)
                turned.append(torch.stack([encoder(torch.rot90(whole, k, (2, 3))).float() for k in range(4)]))
    return Panel(torch.cat(features), torch.cat(embeddings), torch.cat(turned, dim=1) if turn else None)


@lru_cache(maxsize=2)
def panel_images(data: DataConfig, device: torch.device) -> ImageSource:
    """Validation images, or without labels some that were trained on; a batch at a time is copied to the device."""
    cpu = torch.device("cpu")
    images = open_split(data, "validation", cpu).images if has_labels(data) else open_sample(data, IMAGES, cpu)
    images.device = device
    return images
