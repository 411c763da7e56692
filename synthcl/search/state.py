"""Which stages a search has, and which of them are done."""

from __future__ import annotations

import json
from typing import Any

from synthcl.config.compatibility import REFERENCES, WHERE_IT_RUNS, read_json, require_same_config
from synthcl.config.schema import Config
from synthcl.core.atomic import write_whole
from synthcl.core.errors import UserError
from synthcl.runs.storage import Storage
from synthcl.search import confirm, results
from synthcl.search.sides import Spaces
from synthcl.search.study import require_whole

_MAY_CHANGE = {"trials", "budgets", "hours", "space", "opponent_space", "equal_time", "log_to", "refit"}
"""of the search section, when a search goes on; spaces are compared as texts"""


class State:
    """The stages of a run with its config and space: read when a run goes on, on disk after every change.

    Raises:
        UserError: when the run on disk had another config or space.
    """

    def __init__(self, storage: Storage, config: Config, spaces: Spaces, fresh: bool, extend: float) -> None:
        self._storage, self._config, self._spaces = storage, config, spaces
        file = storage.folder / "state.json"
        self.stages: list[dict[str, Any]] = read_json(file, list) if file.is_file() and not fresh else []
        if self.stages:
            recorded = storage.folder / "config.json"
            free = {*WHERE_IT_RUNS, *REFERENCES, *(f"search.{field}" for field in _MAY_CHANGE)}
            require_same_config(recorded, config, free)
            for field, file_name, space in spaces.written:
                if (searched := storage.folder / file_name).is_file() and searched.read_text() != space.text:
                    named = read_json(recorded, dict).get("search", {}).get(field)
                    raise UserError(
                        f"run {config.name!r} has searched another space, search.{field}={named!r} as it then was; "
                        f"give search.{field}={searched} to continue it, --fresh to start over or name=... for a run "
                        "of its own"
                    )
            if (journal := storage.folder / results.JOURNAL).is_file():
                require_whole(journal)
        # What is trained on all images comes last, and only of who asks for it: an extension goes before it.
        begun = [stage["name"] for stage in self.stages if stage["kind"] == "refit" and stage["begun"]]
        self.stages = [stage for stage in self.stages if stage["kind"] != "refit" or stage["done"]]
        if not self.stages or (extend and not self.unfinished):  # an interrupted extension is continued, not repeated
            number = 1 + self._count("search")
            before = max((stage.get("budgets", 0) for stage in self.stages), default=0)
            budgets = before + (extend or config.search.budgets)
            self.stages += [
                {"name": f"search-{number}", "kind": "search", "budgets": budgets, "begun": False, "done": False},
                {"name": f"confirm-{number}", "kind": "confirm", "begun": False, "done": False},
            ]
        elif not self.unfinished and (
            (config.search.equal_time and confirm.equal_time_left(config, storage.folder))
            or confirm.references_left(config, storage.folder)
        ):
            self._last("confirm")["done"] = False  # asked for after it had ended
        if config.search.refit == "all" and self.stages[-1]["kind"] != "refit":
            name = f"refit-{self._count('search')}"
            self.stages.append({"name": name, "kind": "refit", "begun": name in begun, "done": False})

    def _count(self, kind: str) -> int:
        return sum(stage["kind"] == kind for stage in self.stages)

    def _last(self, kind: str) -> dict[str, Any]:
        return next(stage for stage in reversed(self.stages) if stage["kind"] == kind)

    @property
    def unfinished(self) -> list[dict[str, Any]]:
        return [stage for stage in self.stages if not stage["done"]]

    def write(self) -> None:
        folder = self._storage.folder
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "config.json", self._config.model_dump_json(indent=2) + "\n")
        for _, file_name, space in self._spaces.written:
            write_whole(folder / file_name, space.text)
        write_whole(folder / "state.json", json.dumps(self.stages, indent=2) + "\n")
        self._storage.push()
