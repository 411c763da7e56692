"""Which state of the code runs, where it runs from a checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def commit(root: Path = _ROOT) -> str:
    """The short name of a checkout's commit; empty where the folder is none, or there is no git.

    Args:
        root: that the package lies in; a repository around it, such as that of a virtual environment, does not count.

    Example:
        >>> commit(Path("/"))
        ''
    """
    if not (root / ".git").exists():
        return ""
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
