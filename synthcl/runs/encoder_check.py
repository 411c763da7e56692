"""What can be found wrong with an encoder and its weights before a run begins, without a download."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from synthcl.config.schema import Config
from synthcl.core.errors import UserError, first_line, named
from synthcl.method.encoders import AnyEncoder
from synthcl.method.encoders.style import Stage

_TRIED_IMAGES = 2
REFERENCE_CHANNELS = 3
"""of the images that references are shown: their weights are for colours, and grey has three equal ones"""


def require_encoder(section: AnyEncoder, channels: int, image_size: int) -> int:
    """Build an encoder, look at its weights, and use it once.

    A file of weights is loaded; of weights by name only the name is looked up. Without a file the network has no
    memory: shapes are all that is tried.

    Args:
        section: of the encoder.
        channels: of the images.
        image_size: pixels a side.

    Returns:
        Dimensions of its features.

    Raises:
        UserError: naming what is wrong.
    """
    section.require_named_weights()
    from_file = section.weights_file is not None
    with torch.device("cpu" if from_file or section.kind == "custom" else "meta"):
        made = section.begin if from_file else section.build
        encoder = made(channels, image_size).eval()
        width = cast(int, encoder.feature_dim)
        for stage in section.style.chosen(section.stages(encoder), section.called) if section.style else ():
            stage.module.register_forward_hook(partial(_require_maps, section, stage))
        if section.kind == "custom":  # which has been tried when it was made
            return width
        images = torch.zeros(_TRIED_IMAGES, channels, image_size, image_size)
        try:
            with torch.no_grad():
                features = encoder(images)
        except UserError:
            raise
        except Exception as error:  # a network that its images are too small for can raise anything
            raise UserError(
                f"encoder {section.called!r} fails on images of {image_size} px: {first_line(error)}; "
                "change data.image_size, views.base.size or the encoder"
            ) from None
    if not isinstance(features, Tensor) or tuple(features.shape) != (_TRIED_IMAGES, width):
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise UserError(f"encoder {section.called!r} gives {shape} for {_TRIED_IMAGES} images; choose one that pools")
    return width


def _require_maps(section: AnyEncoder, stage: Stage, _module: nn.Module, _inputs: Any, maps: Tensor) -> None:
    """Refuse a stage whose outputs are no maps with their channels in front, as tokens are not."""
    if maps.ndim != 4 or maps.shape[1] != stage.channels:
        raise UserError(
            f"encoder.style: a stage of {section.called} gives {tuple(maps.shape)}, no maps (n, channels, height, "
            "width); take it out, or choose a network of convolutions"
        )


def require_references(config: Config) -> None:
    """`require_encoder` of every network that is scored beside what is trained.

    Raises:
        UserError: naming the reference, and what is wrong with it.
    """
    for name, section in config.evaluation.references.items():
        with named(f"evaluation.references.{name}"):
            require_encoder(section, REFERENCE_CHANNELS, config.evaluation.reference_image_size)


def describe_encoders(config: Config) -> list[tuple[str, str]]:
    """What encoder and references begin with, for a plan; nothing where all begins at random."""
    rows = []
    if told := config.encoder.describe():
        factor = config.encoder.trunk_learning_rate_factor
        told += f"; it learns at {factor:g} of the heads' rate" if factor != 1 else ""
        rows.append(("encoder", told))
    for name, section in config.evaluation.references.items():
        told = section.describe() or section.called
        size = config.evaluation.reference_image_size
        rows.append(("reference", f"{name}: {told}; frozen, shown {size} px; a search or a comparison scores it"))
    return rows
