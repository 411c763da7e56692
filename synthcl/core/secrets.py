"""What looks like a key or a password is refused where a config would record it, and hidden in every error line.

A secret is told by its form or by the name before it. A password without either looks like any other word, and is not
found.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

HIDDEN = "..."

CREDENTIALS = re.compile(
    # s3://key:secret@bucket. A user alone names a container or an account (abfs://container@account, hdfs://user@host),
    # but in http and s3 a key; and what follows a host is a port and a path, which may hold an @.
    r"(?P<before>\b(?:(?:https?|s3)://(?=[^\s/'\":@]+@)|[a-z][a-z0-9+.-]*://(?=[^\s/'\":@]*:(?!\d+/))))"
    r"[^\s/'\":@]*(?::[^\s'\"@]*)?(?=@)"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # an AWS access key
    r"|\b(?:gh[pousr]|github_pat|glpat|hf|xox[abprs])[_-][A-Za-z0-9_-]{20,}"  # of code and model hosts
    r"|\bsk-(?:(?:proj|svcacct|admin|ant)-[A-Za-z0-9_-]{20,}|[A-Za-z0-9]{32,})"  # of language model hosts
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?"
)
"""What is a secret wherever it stands."""

BARE = re.compile(r"(?<![A-Za-z0-9/+])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")
"""The form of an AWS secret key; a path or a checksum may have it, too (`_is_random`)."""

NAMED = re.compile(
    r"(?P<name>(?<![\w./-])(?:"  # a folder such as /data/passwords=old is no field
    r"[\w.-]*(?:secret|password|passwd|credential|access_?key|api_?key|auth_?token|session_?token|signature)"
    r"[\w.-]*['\"]?\s*[=:]"
    r"|(?:[\w.-]*token|(?:[\w.-]*[_.-])?(?:sas|sig))(?:['\"]\s*:|\s*=)"
    r")\s*)(?P<quote>['\"]?)[^\s'\"&;,)]+",
    re.IGNORECASE,
)
"""What its name says is one: `aws_secret_access_key=...`, `?secret_key=...`, `?sas_token=...`."""


def hide(text: str) -> str:
    """The text with what looks like a secret in it replaced by `...`."""
    text = CREDENTIALS.sub(lambda found: (found["before"] or "") + HIDDEN, text)
    text = BARE.sub(lambda found: HIDDEN if _is_random(found[0]) else found[0], text)
    return NAMED.sub(lambda found: found["name"] + found["quote"] + HIDDEN, text)


def _is_random(text: str) -> bool:
    """Whether 40 characters change between capitals, small letters and digits as often as drawn ones do.

    Drawn characters change 25 times on average, and at least 16 times in 99.7 % of keys; words and paths of that length
    change about ten times, and a checksum in hexadecimal digits has no capitals or no small letters.
    """
    kinds = [(c.isupper(), c.islower(), c.isdigit()) for c in text]
    changes = sum(kind != following for kind, following in pairwise(kinds))
    return changes >= 16 and all(map(any, zip(*kinds, strict=True)))


def first_secret(tree: Any, path: str = "") -> tuple[str, str] | None:
    """Where a tree of plain values holds what looks like a secret.

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
