"""What the programs under tune/ share: a config from arguments, and errors as one line with exit code 2."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from synthcl.config.presets import load_preset, preset_names
from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.method.objectives.distil import taught
from synthcl.method.synthetic.folder import FolderConfig

DEFAULT_PRESET = "fashion-mini"
SMOKE_TEST: dict[str, Any] = {
    "data.image_fraction": 0.1,
    "synthetic.gan.warmup_kimg": 2,
    "training.kimg": 2,
    "training.batch_images": 64,
    "training.log_kimg": 0.5,
    "health.diversity_min": 0,  # a GAN of a few seconds is a poor one, and the path is to reach its end
    "health.discriminator_accuracy_max": 1,
    "health.embedding_variance_min": 0,
    "evaluation.rungs": [0.25, 0.5, 1.0],
    "evaluation.label_fractions": [0.01],
    "evaluation.max_label_images": 2000,
    "evaluation.early_label_images": 500,
    "search.budgets": 6,
    "search.startup_trials": 2,
    "search.confirm_top": 1,
    "search.confirm_seeds": 2,
}
"""The whole path on next to no work; what it finds means nothing."""


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that choose a configuration."""
    parser.add_argument("--preset", default=DEFAULT_PRESET, help=f"{', '.join(preset_names())}, or a YAML or JSON file")
    parser.add_argument("--smoke-test", action="store_true", help="the same path on next to no work")
    parser.add_argument("--address", help="Ray cluster to join, such as auto; short for compute.address=...")
    parser.add_argument("--storage", help="folder or URI for all results; short for compute.storage=...")
    parser.add_argument("--dry-run", action="store_true", help="print config, plan and what the data holds, and stop")
    parser.add_argument("overrides", nargs="*", metavar="field=value", help="any field, such as training.kimg=50")


def config_from(arguments: argparse.Namespace, more: Mapping[str, Any] = MappingProxyType({})) -> Config:
    """The configuration that the arguments of a command line ask for.

    Args:
        arguments: of `add_config_arguments`.
        more: overrides that other options stand for; they come last.

    Raises:
        UserError: on an unknown preset or field, or a bad value.
    """
    return config_of(
        arguments.preset,
        parse_overrides(arguments.overrides) | dict(more),
        address=arguments.address,
        storage=arguments.storage,
        smoke_test=arguments.smoke_test,
    )


def config_of(
    preset: str | Config,
    overrides: Mapping[str, Any],
    *,
    address: str | None = None,
    storage: str | None = None,
    smoke_test: bool = False,
) -> Config:
    """Preset, then the smoke test's values, then address and storage, then the overrides; places are made absolute.

    Args:
        preset: its name, a YAML or JSON file, or a configuration.
        overrides: by dotted field.
        address: short for `compute.address`.
        storage: short for `compute.storage`.
        smoke_test: the same path on next to no work.

    Raises:
        UserError: on an unknown preset or field, or a bad value.
    """
    config = preset if isinstance(preset, Config) else load_preset(preset)
    given: dict[str, Any] = {}
    if smoke_test:
        given |= SMOKE_TEST | {"name": f"{config.name}-smoke"}
        if "gan" not in config.synthetic:
            given = {field: value for field, value in given.items() if not field.startswith("synthetic.gan.")}
    short = {"compute.address": address, "compute.storage": storage}
    given |= {field: place for field, place in short.items() if place is not None}
    config = config.with_overrides(given | dict(overrides))
    places: dict[str, Any] = {"data.root": str(_absolute(config.data.root))}  # workers run in folders of their own
    if config.data.labels_in_file and (file := _absolute(config.data.labels)).is_file():  # else it lies in root
        places["data.labels"] = str(file)
    encoders = {"encoder": config.encoder} | {
        f"evaluation.references.{name}": reference for name, reference in config.evaluation.references.items()
    }
    for place, encoder in encoders.items():
        if encoder.weights_file:
            places[f"{place}.weights"] = str(_absolute(str(encoder.weights_file)))
    places["evaluation.transfer"] = [_with_absolute_path(name) for name in config.evaluation.transfer]
    for name, source in config.synthetic.items():
        if isinstance(source, FolderConfig):
            places[f"synthetic.{name}.path"] = str(_absolute(source.path))
            if source.pairs_in_file and (file := _absolute(source.pairs)).is_file():  # else it lies in the folder
                places[f"synthetic.{name}.pairs"] = str(file)
    for name, term in taught(config.terms).items():
        places[f"terms.{name}.teacher"] = str(_absolute(term.teacher))
    return config.with_overrides(places)


def _with_absolute_path(transfer: str) -> str:
    source, separator, path = transfer.partition(":")
    return f"{source}{separator}{_absolute(path)}" if path else transfer


def _absolute(place: str) -> Path:
    return Path(place).expanduser().absolute()


def main(program: Callable[[], None]) -> None:
    """Run a program; what its user can mend is one line and exit code 2."""
    try:
        program()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def parse_overrides(arguments: list[str]) -> dict[str, Any]:
    """Turn `["training.kimg=50", ...]` into `{"training.kimg": 50, ...}`; values are YAML.

    Raises:
        UserError: when an argument is not of the form field=value.
    """
    overrides = {}
    for argument in arguments:
        path, separator, text = argument.partition("=")
        if not separator or not path:
            raise UserError(f"argument {argument!r} is not of the form field=value, such as training.kimg=50")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f"argument {argument!r}: {text!r} is not a YAML value") from None
        overrides[path] = value  # YAML reads 1e-4 as text; the field's type makes it the number it is
    return overrides
