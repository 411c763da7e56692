"""Weights of a network from a file or a name, read without pickle and fitted strictly."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from synthcl.core.errors import UserError, first_line
from synthcl.method.encoders.normalise import HALF, Statistics

State = dict[str, Tensor]
Fetched = TypeVar("Fetched")

_NESTED = ("state_dict", "model")
"""where files of other programs have it"""
_PREFIXES = ("", "network.", "module.", "encoder.", "backbone.")
"""of names, in files of other programs and of synthcl itself"""
_LONGEST = 200
"""characters of a reason that another library gives"""


def read(file: Path) -> State:
    """The state dict of a file.

    Args:
        file: `.safetensors`, or what `torch.save` wrote of tensors and plain values.

    Raises:
        UserError: when there is none, it is broken, or it holds pickled code.
    """
    said = f"encoder.weights {str(file)!r}"
    if not file.is_file():
        raise UserError(f"{said}: there is no such file; give a file, torchvision:NAME or timm")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        found = torch.load(file, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise UserError(f"{said} is not a safetensors file: {first_line(error)}; restore it") from None
    except pickle.UnpicklingError:
        raise UserError(
            f"{said} holds more than tensors and plain values, or is broken; save its state_dict as safetensors"
        ) from None
    except Exception as error:  # a broken file can raise anything inside its decoder
        raise UserError(f"{said} cannot be read ({first_line(error)}); give a state dict") from None
    for name in _NESTED:
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        held = (
            f"the entries {', '.join(map(str, list(found)[:3]))}" if isinstance(found, dict) else type(found).__name__
        )
        raise UserError(f"{said} has {held} where a state dict has tensors by name; give a state dict")
    return found


def require_same_statistics(file: Path, expected: Statistics) -> None:
    """Refuse weights of synthcl's own whose images were normalised otherwise; their card says how.

    Raises:
        UserError: with the value of `encoder.normalise` that is right.
    """
    try:
        entry = json.loads(file.with_suffix(".json").read_text())["input"].get("network", HALF._asdict())
        own = Statistics(tuple(entry["mean"]), tuple(entry["std"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # of another program
    if own != expected:
        right = "half" if own == HALF else "auto or imagenet"
        raise UserError(
            f"encoder.weights {str(file)!r}: their card says mean {_shown(own.mean)} and std {_shown(own.std)}, "
            f"encoder.normalise gives {_shown(expected.mean)} and {_shown(expected.std)}; "
            f"give encoder.normalise={right}"
        )


def without(state: State, unused: Sequence[str], first: str) -> State:
    """A state dict under a network's own names.

    Args:
        state: as it was read.
        unused: beginnings of names to leave out.
        first: any name of the network, to tell a prefix by.
    """
    prefix = next((prefix for prefix in _PREFIXES if prefix + first in state), "")
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return {name: value for name, value in own.items() if not name.startswith(tuple(unused))}


def load(encoder: nn.Module, state: State, said: str, unused: Sequence[str] = ()) -> None:
    """Put a state dict into an encoder; colours are added up where it takes grey images.

    Args:
        encoder: its features are of a `network`, where it has one.
        state: from `read`, or fetched.
        said: `encoder.weights`, for the error.
        unused: beginnings of names to leave out.

    Raises:
        UserError: naming the first mismatch.
    """
    network = encoder.network if isinstance(getattr(encoder, "network", None), nn.Module) else encoder
    own = network.state_dict()  # type: ignore[union-attr]
    state = without(state, unused, next(iter(own), ""))
    state = {name: _in_grey(value, own.get(name)) for name, value in state.items()}
    fitted(said, lambda: network.load_state_dict(state))  # type: ignore[union-attr]


def fitted(said: str, load_them: Callable[[], Fetched]) -> Fetched:
    """Call what loads a state dict strictly.

    Raises:
        UserError: with the first thing that does not fit, in one line.
    """
    try:
        return load_them()
    except UserError:
        raise
    except Exception as error:  # what brings foreign names to a network's own can raise anything
        raise UserError(
            f"encoder.weights {said!r} do not fit the network: {_first_mismatch(error)}; "
            "give weights of the same network, or the network of these weights"
        ) from None


def fetched(said: str, fetch: Callable[[], Fetched]) -> Fetched:
    """Call what downloads weights, or finds them where an earlier run has put them.

    Raises:
        UserError: when neither works.
    """
    try:
        return fetch()
    except UserError:
        raise
    except Exception as error:  # network, checksums, full disks: every one has its own type
        raise UserError(
            f"encoder.weights {said!r} cannot be fetched here ({first_line(error)[:_LONGEST]}); "
            "put the file on every node and give its path as encoder.weights"
        ) from None


def _in_grey(value: Tensor, own: Tensor | None) -> Tensor:
    """Weights of a first convolution over colours, for images of one channel."""
    if own is None or value.ndim != 4 or own.ndim != 4 or (value.shape[1], own.shape[1]) != (3, 1):
        return value
    return value.sum(dim=1, keepdim=True)


def _first_mismatch(error: Exception) -> str:
    """Of what torch lists when it loads a state dict strictly, the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) < 2 or not lines[0].startswith("Error(s) in loading"):
        return first_line(error)
    first, *others = lines[1].rstrip(". ").split('", "')
    return f'{first}" and {len(others)} more' if others else first


def _shown(values: Sequence[float]) -> str:
    return "/".join(f"{value:g}" for value in dict.fromkeys(values))
