"""Checkpoints: written whole or not at all, read without pickle."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from synthcl.config.compatibility import first_difference, may_be_resumed_with
from synthcl.config.schema import Config
from synthcl.core.atomic import write_whole
from synthcl.core.errors import UserError
from synthcl.core.image_grid import grid_png
from synthcl.method.curriculum.loop import Loop

FILE = "checkpoint.pt"
SAMPLES = "samples.png"
FORMAT = 1


def save(
    folder: Path,
    config: Config,
    trainer: dict[str, Any],
    samples: Tensor | None,
    report: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint into a folder: to a temporary name first, then renamed.

    Args:
        folder: made if missing.
        config: the run's configuration, stored as JSON-like values.
        trainer: `Trainer.state_dict()`.
        samples: (2, latents, C, h, w) in [0, 1], or None.
        report: of the leg that ended here, as plain values, or None.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if samples is not None:
        write_whole(folder / SAMPLES, grid_png(samples.flatten(0, 1), columns=samples.shape[1]))
    whole = {
        "format": FORMAT,
        "config": config.model_dump(mode="json"),
        "versions": versions(),
        "trainer": trainer,
        "report": report,
    }
    write_whole(folder / FILE, _bytes(lambda buffer: torch.save(whole, buffer)))


def _bytes(write: Callable[[io.BytesIO], object]) -> memoryview:
    """What `write` writes, in memory first: on a full disk torch and Pillow raise errors that do not say so."""
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getbuffer()


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint's file, or the one in a folder.

    Raises:
        UserError: when there is none, it is truncated, foreign, of a newer format or holds pickled code.
    """
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"checkpoint {str(path)!r}: there is no file {file.name} there; name one, or its folder")
    try:
        state = torch.load(file, map_location=device, weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"checkpoint {str(file)!r} is broken or holds more than tensors and plain values, which is not read; "
            "give a checkpoint that synthcl wrote"
        ) from None
    except Exception as error:  # a broken file can raise anything inside its decoder
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"checkpoint {str(file)!r} cannot be read ({reason}); give a checkpoint that synthcl wrote"
        ) from None
    if (
        not isinstance(state, dict)
        or not isinstance(state.get("format"), int)
        or not {"config", "trainer"} <= state.keys()
    ):
        raise UserError(f"checkpoint {str(file)!r} was not written by synthcl; give a checkpoint that synthcl wrote")
    if state["format"] > FORMAT:
        raise UserError(
            f"checkpoint {str(file)!r} has format {state['format']}, this synthcl reads {FORMAT}; upgrade synthcl"
        )
    return state


def config_of(state: dict[str, Any]) -> Config:
    """The configuration a checkpoint was written with.

    Raises:
        UserError: when it has fields or values this synthcl does not know.
    """
    try:
        return Config.model_validate(state["config"])
    except ValueError:
        raise UserError(
            f"checkpoint's config is not one of this synthcl, but of {state.get('versions')}; read it with that version"
        ) from None


def require_same_run(state: dict[str, Any], config: Config, path: Path) -> None:
    """Refuse to continue a run under another configuration.

    Raises:
        UserError: naming the first field that differs.
    """
    if differs := first_difference(state["config"], config, may_be_resumed_with(config)):
        field, written, wanted = differs
        raise UserError(
            f"checkpoint {str(path)!r} was written with {field}={written!r}, this run has {wanted!r}; "
            "continue with the same configuration or start in another folder"
        )


def require_ancestor(state: dict[str, Any], config: Config, path: Path) -> None:
    """Refuse to begin a run from the checkpoint of another one, unless it would be the same run up to there.

    So a run that goes on from another's checkpoint is what it would be if it were trained from its own beginning.

    Raises:
        UserError: naming the first field that differs, and is no schedule with the same values until then.
    """
    donor, step = config_of(state), state["trainer"]["step"]
    own, others = config.schedules, donor.schedules
    same = {
        path
        for path in own.keys() & others.keys()
        if not any(
            isinstance(schedule, Loop) for schedule in (own[path], others[path])
        )  # whose values are no function of progress
        and all(
            own[path].value_at(at / config.training.steps) == others[path].value_at(at / donor.training.steps)
            for at in range(step)
        )
    }
    differs = first_difference(state["config"], config, {*may_be_resumed_with(config), *same})
    if donor.needs_gan != config.needs_gan:
        field = "curriculum.synthetic_fraction"
        differs = field, others[field].bounds, own[field].bounds
    if differs:
        field, written, wanted = differs
        raise UserError(
            f"checkpoint {str(path)!r} was written with {field}={written!r}, its copy has {wanted!r}; "
            f"a copy may change schedules from step {step} on, and nothing else"
        )


def versions() -> dict[str, str]:
    """Versions of what made a file."""
    return {name: metadata.version(name) for name in ("synthcl", "torch", "torchvision")}
