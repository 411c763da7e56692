"""Presets: complete configurations in YAML, those shipped here and a user's own."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import yaml

from synthcl.config.schema import Config, validated
from synthcl.core.errors import UserError, yaml_problem


def preset_names() -> list[str]:
    """Names of the presets shipped with the package."""
    return sorted(
        entry.name[:-5] for entry in resources.files("synthcl.config.presets").iterdir() if entry.name.endswith(".yaml")
    )


def load_preset(name_or_path: str) -> Config:
    """Read a preset by name, or a YAML or JSON file (a `config.json` of an earlier run, say).

    Raises:
        UserError: on an unknown preset, an unreadable file, an unknown field or a bad value.

    Example:
        config = synthcl.load_preset("folder").with_overrides({"training.kimg": 500})
        assert config.training.steps == 1953
    """
    if name_or_path.endswith((".yaml", ".yml", ".json")):
        path = Path(name_or_path)
        if not path.is_file():
            raise UserError(
                f"preset {name_or_path!r}: there is no such file; choose {', '.join(preset_names())}, or a .yaml file"
            )
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"preset {name_or_path!r} cannot be read as UTF-8 text: {error}; save it so") from None
    elif name_or_path in preset_names():
        text = (resources.files("synthcl.config.presets") / f"{name_or_path}.yaml").read_text()
    else:
        raise UserError(f"preset {name_or_path!r} is unknown; choose {', '.join(preset_names())}, or a .yaml file")
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"preset {name_or_path!r} is not YAML: {yaml_problem(error)}") from None
    if not isinstance(tree, dict):
        raise UserError(f"preset {name_or_path!r} must be a mapping of sections, not {type(tree).__name__}")
    return validated(tree, f"preset {name_or_path!r}")
