"""Completion of programs, options and fields for a shell.

synthcl completion bash > ~/.local/share/bash-completion/completions/synthcl
synthcl completion zsh > ~/.zfunc/_synthcl          where fpath has ~/.zfunc
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from synthcl.comparison.arms import ARMS
from synthcl.config.compatibility import flat
from synthcl.config.presets import load_preset, preset_names
from synthcl.config.schema import Config
from synthcl.core.errors import UserError

SHELLS = ("bash", "zsh", "tcsh")


def parser() -> argparse.ArgumentParser:
    """What can be given."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("shell", help=", ".join(SHELLS))
    return made


def main() -> None:
    from synthcl.programs.command import PROGRAMS

    print(script(parser().parse_args().shell, PROGRAMS))


def script(shell: str, programs: dict[str, str]) -> str:
    """What a shell reads.

    Args:
        shell: one of `SHELLS`.
        programs: names, and what each does.

    Raises:
        UserError: on another shell, or without the library that writes it.
    """
    if shell not in SHELLS:
        raise UserError(f"shell {shell!r} is none of {', '.join(SHELLS)}; give one of them")
    try:
        import shtab
    except ImportError:
        raise UserError("synthcl completion needs shtab; pip install 'synthcl[completion]'") from None
    command = argparse.ArgumentParser(prog="synthcl", description="the curriculum that teaches best")
    choices = command.add_subparsers()
    for name, what in programs.items():
        own = importlib.import_module(f"synthcl.programs.{name}").parser()
        for action in own._actions:
            _complete(action, shtab.FILE)
        choices.add_parser(name, parents=[own], add_help=False, help=what, description=what)
    written: str = shtab.complete(command, shell=shell)
    return written


def _complete(action: argparse.Action, files: Any) -> None:
    """Say what an argument can be; the parser is not used for anything else."""
    known: dict[str, Iterable[str]] = {
        "overrides": _fields(),
        "preset": preset_names(),
        "arm": ARMS,
        "place": Config.model_fields,
        "shell": SHELLS,
    }
    if action.dest in known:
        action.choices = list(known[action.dest])
    elif action.type is Path:
        with_files: Any = action
        with_files.complete = files


def _fields() -> list[str]:
    """Every field that some preset has, ready for its value."""
    found = (flat(load_preset(name).model_dump(mode="json")) for name in preset_names())
    return [f"{field}=" for field in dict.fromkeys(field for fields in found for field in fields)]
