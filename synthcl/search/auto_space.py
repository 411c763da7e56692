"""A space put together from the default ranges of what is on in a configuration: `search.space=auto`."""

from __future__ import annotations

from typing import Any

import yaml

from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.method.curriculum.knobs import CurriculumConfig
from synthcl.method.synthetic.folder import Folder
from synthcl.method.synthetic.gan.source import Gan
from synthcl.search.settings import reads
from synthcl.search.space import Dimension, Space, own_values, space_of

AUTO = "auto"
MOST_DIMENSIONS = 12
"""of a space that nobody has chosen: with more, a search of usual budgets says nothing about any of them"""


def auto_space(config: Config) -> Space:
    """The ranges of the curriculum, and of every view, source, term, style and schedule that is on.

    Left out are fields that a run does not read, and those that are off: 0 where the range has no 0.

    Raises:
        UserError: where there are none, or too many to search at once.
    """
    own = own_values(config)
    entries = {path: entry for path, entry in _entries(config).items() if path in own and reads(config, path)}
    entries = {
        path: entry for path, entry in entries.items() if own[path] != 0 or Dimension.model_validate(entry).holds(0)
    }
    if not entries:
        raise UserError(f"search.space {AUTO!r}: nothing that is on has ranges; name a file")
    if len(entries) > MOST_DIMENSIONS:
        raise UserError(
            f"search.space {AUTO!r} has {len(entries)} dimensions, more than {MOST_DIMENSIONS}: {', '.join(entries)}; "
            "write those that matter to a file, and name it"
        )
    return space_of(entries, yaml.safe_dump(entries, sort_keys=False), AUTO, config)


def _entries(config: Config) -> dict[str, dict[str, Any]]:
    """Ranges by dotted field, of whatever is built."""
    spaces: dict[str, Any] = {"curriculum": CurriculumConfig.SPACE}
    spaces |= {f"views.{name}": view.build(config.view_size).SPACE for name, view in sorted(config.views_on.items())}
    sources = {name: Gan.SPACE if name == "gan" else Folder.SPACE for name in config.sources_on}
    spaces |= {f"synthetic.{name}": space for name, space in sources.items()}
    on = dict(sorted(config.terms_on.items()))
    spaces |= {f"terms.{name}": term.build(config.heads[term.head].dim).SPACE for name, term in on.items()}
    spaces |= {f"encoder.{name}": one.build([]).SPACE for name, one in config.encoder.plugins.items() if one.is_on}
    spaces |= {path: schedule.SPACE for path, schedule in config.schedules.items()}
    spaces |= {"curriculum.mix": config.bandit.SPACE} if config.bandit else {}
    return {f"{place}.{field}": {**entry} for place, space in spaces.items() for field, entry in space.items()}
