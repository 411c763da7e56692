"""A search without labels chooses by no score that has not been seen to choose well."""

from __future__ import annotations

import json
from pathlib import Path

from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.evaluation.panel import PREFIX


def require_calibrated(config: Config) -> None:
    """Refuse a score of which the calibration does not say that it may judge.

    Args:
        config: its search section names the score, and a file that `synthcl calibrate --out` wrote.

    Raises:
        UserError: saying why, and which scores may.
    """
    search = config.search
    said = f"search.calibration {search.calibration!r}"
    try:
        hindrances = json.loads(Path(search.calibration or "").expanduser().read_text())["hindrances"]
        if not all(isinstance(why, str) for why in hindrances.values()):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{said} cannot be read; make it with `synthcl calibrate runs/NAME --out FILE.json`") from None
    why = hindrances.get(f"{PREFIX}{search.label_free}", "not measured")
    if why:
        may = [metric.removeprefix(PREFIX) for metric, hindrance in hindrances.items() if not hindrance]
        remedy = f"choose {', '.join(may)}" if may else "no score may, so train one encoder with `synthcl train`"
        raise UserError(f"search.label_free {search.label_free!r} may not judge ({why}; {said}); {remedy}")
