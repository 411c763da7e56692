"""What a run can be looked at with, while it runs and afterwards."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection
from pathlib import Path

from synthcl.search.results import JOURNAL

INSTALL_DASHBOARD = "pip install 'synthcl[viewers]'"


def commands(folder: Path) -> list[str]:
    """Command lines for TensorBoard, Optuna's dashboard and the page of a run, which can be pasted.

    Example:
        >>> print("\\n".join(commands(Path("runs/birds"))))
        tensorboard --logdir runs/birds/tensorboard --host 127.0.0.1
        optuna-dashboard runs/birds/study.journal
        synthcl report runs/birds --open
    """
    return [
        f"tensorboard --logdir {_quoted(folder / 'tensorboard')} --host 127.0.0.1",
        f"optuna-dashboard {_quoted(folder / JOURNAL)}",
        f"synthcl report {_quoted(folder)} --open",
    ]


def lines(folder: Path, log_to: Collection[str] = ()) -> list[str]:
    """The same as rows of a plan, with what each shows; and how to look at what trackers have."""
    shows = ("curves and pictures", f"trials; {INSTALL_DASHBOARD}", "the report as a page")
    rows = [f"{command}  # {what}" for command, what in zip(commands(folder), shows, strict=True)]
    if "mlflow" in log_to and "MLFLOW_TRACKING_URI" not in os.environ:
        rows.append(f"mlflow ui --backend-store-uri sqlite:///{_quoted(folder / 'mlflow.db')}  # pip install mlflow")
    if "wandb" in log_to and os.environ.get("WANDB_MODE") == "offline":
        rows.append(f"wandb sync {_quoted(folder / 'wandb')}/offline-run-*  # sends what was logged offline")
    return [f"{'' if number else 'watch':<10} {row}" for number, row in enumerate(rows)]


def shown(path: Path) -> str:
    """Relative to where the command was given, when it lies below."""
    here = Path.cwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)


def _quoted(path: Path) -> str:
    return shlex.quote(shown(path))
