"""What a search, a training or a comparison has left, as Python objects."""

from __future__ import annotations

import html
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from synthcl.config.presets import load_preset
from synthcl.config.schema import Config, validated
from synthcl.core.errors import UserError
from synthcl.runs.export import ENCODER, load_encoder

if TYPE_CHECKING:
    import optuna
    import pandas as pd

EVIDENCE = "evidence"
"""folder of a comparison inside its run's folder"""


class Result:
    """What a finished `synthcl.search`, `train` or `compare` has left; nothing is read before it is asked for.

    Args:
        place: the folder of a search or a comparison, or the encoder that a training has exported.
        trust_code: whether the code that an encoder of kind `custom` names may be imported and called.

    Attributes:
        kind: search, train or compare.
        folder: that everything lies in.

    Example:
        result = synthcl.Result.open("runs/fashion-mini")
        print(result.verdict)
        result.leaderboard.sort_values("validation")
        encoder = result.encoder
        len(result.study.trials)
    """

    def __init__(self, place: str | Path, *, trust_code: bool = False) -> None:
        self._place, self._trust_code = Path(place), trust_code
        is_training = self._place.suffix == ".safetensors"
        self.kind = "train" if is_training else "compare" if self._place.name == EVIDENCE else "search"
        self.folder = self._place.parent if is_training else self._place

    @classmethod
    def open(cls, place: str | Path, *, trust_code: bool = False) -> Result:
        """What an earlier call or command has left.

        Args:
            place: a run's folder such as `runs/fashion-mini`, for the search there or else the only training or the
                comparison; or a training's `.safetensors`, or the folder `evidence` of a comparison.
            trust_code: as of `load_encoder`; give it for results of your own alone.

        Raises:
            UserError: when nothing of the kind is there, or several trainings are.
        """
        folder = Path(place).expanduser()
        if folder.suffix == ".safetensors" and folder.is_file() and folder.with_suffix(".json").is_file():
            return cls(folder, trust_code=trust_code)
        if (folder / "state.json").is_file() or (folder.name == EVIDENCE and any(folder.glob("*.json"))):
            return cls(folder, trust_code=trust_code)
        trainings = sorted(folder.glob("train-*.safetensors"))
        if len(trainings) > 1:
            names = ", ".join(file.name for file in trainings)
            raise UserError(f"{str(folder)!r} has {len(trainings)} trainings ({names}); open one of these files")
        if trainings:
            return cls(trainings[0], trust_code=trust_code)
        if any((folder / EVIDENCE).glob("*.json")):
            return cls(folder / EVIDENCE, trust_code=trust_code)
        raise UserError(f"{str(folder)!r} has no search, training or comparison; name a run's folder, as runs/<name>")

    @cached_property
    def config(self) -> Config:
        """The configuration that it began with."""
        if self.kind == "search":
            return load_preset(str(self.folder / "config.json"))
        if self.kind == "train":
            return validated(self._card["config"], str(self._place))
        first = next(iter(sorted(self.folder.glob("*.json"))))
        return validated(json.loads(first.read_text())["config"], str(first))

    @property
    def leaderboard(self) -> pd.DataFrame:
        """The table, as a data frame: one row a configuration.

        Of a search and a comparison: scores in percent, the mean over seeds, with ` std`; the ` difference` to real
        images alone in points, paired by seed, with ` low` and ` high` of its 95 % interval; `n` seeds, `seconds` and
        `FLOP` of a run. Of a training: its last scores.
        """
        from synthcl.face import frames  # pandas, Optuna and Ray take seconds to import

        if self.kind == "search":
            from synthcl.search.findings import Findings
            from synthcl.search.results import open_study

            return frames.of_board(Findings.read(self.config, self.folder, open_study(self.folder)).board)
        if self.kind == "train":
            return frames.of_scores(self._place.stem, self._card["scores"])
        return frames.of_evidence(self._evidence)

    @property
    def verdict(self) -> str:
        """What the table says, in a sentence or a line each."""
        if self.kind == "search":
            return str(json.loads((self.folder / "leaderboard.json").read_text())["verdict"])
        if self.kind == "train":
            scores = self._card["scores"]
            said = f"score {scores['score']:.2f} on validation" if "score" in scores else "not scored, no labels"
            return f"{self._place.stem}: {said}"
        evidence = self._evidence
        heading = next(iter(evidence.columns))
        lines = [
            f"{row.arm} minus {evidence.reference} with {row.images:,} images: {row.difference[heading]} points on "
            f"test ({heading}, {row.difference[heading].n} seed{'s' * (row.difference[heading].n > 1)})"
            for row in evidence.rows["test"]
            if heading in row.difference
        ]
        return "\n".join(lines) or f"No verdict: no arm has a seed in common with {evidence.reference}."

    @property
    def report_file(self) -> Path:
        """The report in Markdown, with figures beside it.

        Raises:
            UserError: of a training, which has none.
        """
        if self.kind == "train":
            raise UserError(f"{str(self._place)!r} is one training, which has no report; see leaderboard and verdict")
        return self.folder / ("report.md" if self.kind == "search" else "report/evidence.md")

    @property
    def report(self) -> str:
        """The text of `report_file`."""
        return self.report_file.read_text()

    @property
    def encoder_file(self) -> Path:
        """The exported encoder: the winner of a search, or what a training has made.

        Raises:
            UserError: of a comparison, or a search in which nothing was confirmed.
        """
        file = self.folder / ENCODER if self.kind == "search" else self._place
        if self.kind == "compare" or not file.is_file():
            raise UserError(
                f"{str(self.folder)!r} has no encoder; a comparison keeps none, and a search has one when a run was "
                "confirmed"
            )
        return file

    @cached_property
    def encoder(self) -> nn.Module:
        """`encoder_file` as `synthcl.load_encoder` gives it."""
        return load_encoder(self.encoder_file, trust_code=self._trust_code)

    @cached_property
    def refitted(self) -> nn.Module:
        """The winner of a search trained again on every image, by `refit="all"`; no score belongs to it.

        Raises:
            UserError: where there is none.
        """
        from synthcl.search.refitted import FOLDER

        file = self.folder / FOLDER / ENCODER
        if self.kind != "search" or not file.is_file():
            raise UserError(f'{str(self.folder)!r} has no {FOLDER}; the same search with refit="all" adds it')
        return load_encoder(file, trust_code=self._trust_code)

    @cached_property
    def study(self) -> optuna.Study:
        """The method's Optuna study, a copy in memory: what is done to it changes no file.

        Raises:
            UserError: of a training or a comparison, which have none.
        """
        if self.kind != "search":
            raise UserError(f"{str(self._place)!r} is no search, so it has no study")
        from synthcl.search.results import JOURNAL
        from synthcl.search.study import copied

        return copied(self.folder / JOURNAL)

    def __repr__(self) -> str:
        return f"<synthcl.Result of {self.kind} in {str(self._place)!r}>"

    def _repr_html_(self) -> str:
        """For notebooks."""
        shown = self.leaderboard.to_html(float_format="{:.2f}".format, na_rep="")
        return f"<p>{'<br>'.join(map(html.escape, self.verdict.splitlines()))}</p>{shown}"

    @cached_property
    def _card(self) -> dict[str, Any]:
        return dict(json.loads(self._place.with_suffix(".json").read_text()))

    @cached_property
    def _evidence(self) -> Any:
        from synthcl.comparison.records import read_all
        from synthcl.comparison.references import FOLDER, read
        from synthcl.comparison.table import summarise

        return summarise(read_all(self.folder, self.config), pretrained=read(self.folder / FOLDER, self.config))
