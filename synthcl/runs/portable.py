"""An encoder for programs without synthcl: ONNX and TorchScript, checked before they are written."""

from __future__ import annotations

import importlib
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from synthcl.core.atomic import disk_failures_named, write_whole
from synthcl.core.errors import UserError
from synthcl.data.transform import Transform

_TOLERANCE = 1e-4
"""of the largest feature: the largest difference that another runtime may make"""


def require_onnx() -> None:
    """Refuse before anything is computed.

    Raises:
        UserError: naming the package that ONNX needs and that is not installed.
    """
    for package in ("onnx", "onnxscript"):
        try:
            importlib.import_module(package)
        except ImportError:
            raise UserError(f"--onnx needs the package {package!r}; pip install 'synthcl[onnx]' has it") from None


def write_onnx(file: Path, encoder: nn.Module) -> float | None:
    """Write an ONNX model with inputs `images` (n, C, S, S) in [-1, 1] for any n, and outputs `features`.

    Args:
        file: written whole or not at all.
        encoder: with its transform, on the CPU and in eval mode.

    Returns:
        The largest difference to the encoder's own features by onnxruntime; None where that is not installed.

    Raises:
        UserError: when a package is missing, the encoder cannot be exported, or onnxruntime gives other features.
    """
    require_onnx()
    with _quiet():
        try:
            made: Any = torch.onnx.export(
                encoder,
                (_images(encoder, 2),),
                dynamo=True,
                input_names=["images"],
                output_names=["features"],
                dynamic_shapes=({0: torch.export.Dim("n")},),
                verbose=False,
            )
        except Exception as error:  # the exporter's own, for code of a user's that it does not take
            raise UserError(f"--onnx {str(file)!r}: the encoder cannot be exported: {_reason(error)}") from None
    model = made.model_proto
    transform = cast(Transform, encoder.transform)
    for key, value in {"preprocessing": repr(transform), "mean": "0.5", "std": "0.5"}.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    content = model.SerializeToString()
    difference = None
    try:
        import onnxruntime
    except ImportError:
        pass
    else:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        images = _images(encoder, 3)
        features = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
        difference = _require_equal(f"--onnx {str(file)!r}", encoder, images, features)
    with disk_failures_named("--onnx", file):
        write_whole(file, content)
    return difference


@torch.no_grad()
def write_torchscript(file: Path, encoder: nn.Module) -> float:
    """Write a TorchScript module: images (n, C, S, S) in [-1, 1], for any n, to features; `torch.jit.load` reads it.

    Args:
        file: written whole or not at all.
        encoder: with its transform, on the CPU and in eval mode.

    Returns:
        The largest difference to the encoder's own features, of another number of images than were traced.

    Raises:
        UserError: when the encoder cannot be traced, or its trace gives other features.
    """
    stream = io.BytesIO()
    with _quiet():
        try:
            torch.jit.save(torch.jit.trace(encoder, _images(encoder, 2)), stream)
        except Exception as error:  # the tracer's own, for code of a user's that it does not take
            raise UserError(f"--torchscript {str(file)!r}: the encoder cannot be traced: {_reason(error)}") from None
        stream.seek(0)
        images = _images(encoder, 3)
        features = torch.jit.load(stream)(images)
    difference = _require_equal(f"--torchscript {str(file)!r}", encoder, images, features)
    with disk_failures_named("--torchscript", file):
        write_whole(file, stream.getbuffer())
    return difference


def _images(encoder: nn.Module, count: int) -> Tensor:
    transform = cast(Transform, encoder.transform)
    shape = (count, transform.channels, transform.size, transform.size)
    return torch.rand(shape, generator=torch.Generator().manual_seed(count)) * 2 - 1


@torch.no_grad()
def _require_equal(said: str, encoder: nn.Module, images: Tensor, features: Tensor) -> float:
    own = encoder(images)
    difference = float((own - features).abs().max()) if own.shape == features.shape else float("inf")
    if not difference <= _TOLERANCE * max(1.0, float(own.abs().max())):
        raise UserError(f"{said}: the exported encoder gives other features, by {difference:.2g}; nothing was written")
    return difference


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, the exporters do not say what concerns their own developers."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
