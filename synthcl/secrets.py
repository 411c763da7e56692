"""Keys and passwords are refused where a config would record them, and hidden in every line that tells of an error."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "..."

CREDENTIALS = re.compile(
    r"(?P<before>\b[a-z][a-z0-9+.-]*://)[^\s/'\":@]+(?::[^\s'\"@]*)?(?=@)"  # s3://key:secret@bucket
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # an AWS access key
    r"|\b(?:gh[pousr]|github_pat|glpat|hf|xox[abprs])[_-][A-Za-z0-9_-]{20,}"  # of code and model hosts
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?"
)
"""What is a secret wherever it stands."""

NAMED = re.compile(
    r"(?P<name>[\w.-]*(?:secret|password|passwd|credential|access_?key|api_?key|auth_?token|session_?token|signature)"
    r"[\w.-]*['\"]?\s*[=:]\s*)(?P<quote>['\"]?)[^\s'\"&;,)]+",
    re.IGNORECASE,
)
"""What its name says is one: `aws_secret_access_key=...`, `?secret_key=...`."""


def hide(text: str) -> str:
    """The text with every secret in it replaced by `...`."""
    text = CREDENTIALS.sub(lambda found: (found["before"] or "") + HIDDEN, text)
    return NAMED.sub(lambda found: found["name"] + found["quote"] + HIDDEN, text)


def first_secret(tree: Any, path: str = "") -> tuple[str, str] | None:
    """Where a tree of plain values holds a secret.

    Args:
        tree: of dicts, lists and values, such as a config as JSON.
        path: of the tree inside a larger one.

    Returns:
        The dotted path of the first one, and its value with the secret hidden; none when there is none.
    """
    if isinstance(tree, str):
        return None if (shown := hide(tree)) == tree else (path, shown)
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        if found := first_secret(value, f"{path}.{key}" if path else str(key)):
            return found
    return None
