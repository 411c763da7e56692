"""The winning encoder as plain weights: `encoder.safetensors` and a JSON card beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from synthcl.config.schema import Config
from synthcl.core.atomic import write_whole
from synthcl.core.errors import UserError
from synthcl.data import find
from synthcl.data.transform import Transform
from synthcl.method.encoders.custom import CustomEncoder
from synthcl.method.encoders.normalise import HALF
from synthcl.method.encoders.parted_conv import plain
from synthcl.runs import checkpoint

ENCODER = "encoder.safetensors"


def save_encoder(
    path: Path, encoder: nn.Module, config: Config, scores: dict[str, Any], more: dict[str, Any] | None = None
) -> None:
    """Write the weights and the card, each whole or not at all.

    Args:
        path: ends in `.safetensors`; the card takes the same name with `.json`.
        encoder: a ResNet keeps torchvision's parameter names.
        config: the configuration it was trained with.
        scores: metric name to value, copied into the card.
        more: other entries of the card.
    """
    statistics = config.encoder.statistics().of(config.data.channels)
    inside = {} if statistics == HALF.of(config.data.channels) else {"network": statistics._asdict()}
    card = {
        "encoder": config.encoder.model_dump(mode="json", exclude={"style"}),  # which is no part of it
        "input": {
            "channels": config.data.channels,
            "size_pixels": config.view_size,
            "range": [-1.0, 1.0],
            "mean": 0.5,
            "std": 0.5,
            **inside,  # what the network itself then brings them to, as the weights that it began with expect
        },
        "data": _counts(path.with_suffix(".json"), config),
        "scores": scores,
        "config": config.model_dump(mode="json"),
        "versions": checkpoint.versions(),
    } | (more or {})
    weights = {name: value.contiguous() for name, value in encoder.state_dict().items()}
    write_whole(path, safetensors.torch.save(weights))
    write_whole(path.with_suffix(".json"), json.dumps(card, indent=2) + "\n")


def _counts(card: Path, config: Config) -> dict[str, int]:
    """What it was trained on and scored by, as the plan counts; of data that is gone, what an earlier card had."""
    try:
        return find(config.data, config.data.source, pretrains=True, test=True).counts
    except UserError:
        pass
    try:
        return dict(json.loads(card.read_text())["data"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def load_encoder(path: str | Path, *, trust_code: bool = False) -> nn.Module:
    """Build an encoder from `encoder.safetensors` and its card.

    Args:
        path: the `.safetensors` file.
        trust_code: whether the module that a card of kind `custom` names may be imported and called.

    Returns:
        A plain `nn.Module` in eval mode on the CPU: images (n, C, H, W) in [-1, 1] -> features (n, feature_dim). It
        goes through `torch.jit.script`, `torch.compile` and `torch.onnx.export`. Its attribute `transform` turns a
        PIL image, a file or a tensor into what it takes, as evaluation does (see `synthcl.data.transform.Transform`).

    Raises:
        UserError: when a file is missing, is not safetensors, weights and card disagree, or code is not trusted.

    Example:
        encoder = synthcl.load_encoder("runs/fashion-mini/encoder.safetensors")
        features = encoder(encoder.transform("photo.jpg"))
    """
    return _load_exported(Path(path), trust_code)[0]


def load_any(path: Path, *, trust_code: bool = False) -> tuple[nn.Module, Config]:
    """The encoder of an exported file or of a checkpoint, in eval mode, and the config it was trained with.

    Args:
        path: an `encoder.safetensors`, a `checkpoint.pt`, or a folder with one of them.
        trust_code: as of `load_encoder`.

    Raises:
        UserError: when there is neither, it cannot be read, or code is not trusted.
    """
    if path.is_dir() and not (path / checkpoint.FILE).is_file() and (path / ENCODER).is_file():
        path = path / ENCODER
    if path.suffix == ".safetensors":
        return _load_exported(path, trust_code)
    state = checkpoint.load(path, torch.device("cpu"))
    config = checkpoint.config_of(state)
    _require_trust(path, config, trust_code)
    encoder = config.encoder.build(config.data.channels, config.view_size)
    try:
        encoder.load_state_dict(state["trainer"]["networks"]["encoder"])
    except (RuntimeError, KeyError, TypeError):
        raise UserError(
            f"checkpoint {str(path)!r} does not hold the encoder its config describes; restore it"
        ) from None
    return _ready(encoder, config), config


def require_same_encoder(trained: Config, config: Config) -> None:
    """Refuse overrides of what the weights were made for.

    Args:
        trained: the configuration of the encoder.
        config: the one it is to be scored under.

    Raises:
        UserError: naming the first field that differs.
    """
    made_of, asked_for = (each.encoder.model_dump(exclude={"style"}) for each in (trained, config))
    fields = {f"encoder.{name}": (made_of.get(name), asked_for.get(name)) for name in {**made_of, **asked_for}}
    fields["data.channels"] = (trained.data.channels, config.data.channels)
    for field, (made, asked) in fields.items():
        if made != asked:
            raise UserError(f"{field}={asked!r}: this encoder was trained with {made!r}; leave {field} as it is")


def _require_trust(path: Path, config: Config, trust_code: bool) -> None:
    """A file that somebody else made must not choose what is imported here."""
    if isinstance(config.encoder, CustomEncoder) and not trust_code:
        raise UserError(
            f"encoder {str(path)!r} is made by the code {config.encoder.code!r}, which would be imported and called; "
            "read that module, then give trust_code=True, or --trust-code on the command line (of a teacher: "
            "terms.NAME.trust_code=true)"
        )


def _load_exported(path: Path, trust_code: bool) -> tuple[nn.Module, Config]:
    card_path = path.with_suffix(".json")
    for file in (path, card_path):
        if not file.is_file():
            raise UserError(f"encoder {str(path)!r}: there is no file {str(file)!r}; weights and card travel together")
    try:
        config = Config.model_validate(json.loads(card_path.read_text())["config"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"encoder card {str(card_path)!r} was not written by synthcl; restore it") from None
    _require_trust(path, config, trust_code)
    encoder = config.encoder.build(config.data.channels, config.view_size)
    try:
        encoder.load_state_dict(load_file(path))
    except SafetensorError as error:
        raise UserError(f"encoder {str(path)!r} is not a safetensors file: {error}; restore it") from None
    except RuntimeError:
        raise UserError(f"encoder {str(path)!r} does not hold the weights its card describes; restore both") from None
    return _ready(encoder, config), config


def _ready(encoder: nn.Module, config: Config) -> nn.Module:
    """The encoder as others are given it: without what only training needs, in eval mode, with its transform."""
    encoder = plain(encoder).eval()
    encoder.transform = Transform(config.data.image_size, config.view_size, config.data.channels)  # type: ignore[assignment]
    return encoder
