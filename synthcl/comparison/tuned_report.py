"""What the runs of tuned families say, as Markdown, JSON and for a terminal, from the records alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import accumulate
from statistics import mean
from typing import Any

from synthcl.comparison.arms import EQUAL_TIME, OWN, REAL_ONLY
from synthcl.comparison.families import Family
from synthcl.comparison.intervals import Estimate, Statistic, paired_difference
from synthcl.comparison.mechanisms import CHOOSING_OFFSET, MECHANISMS
from synthcl.comparison.mechanisms_report import scores_of
from synthcl.comparison.records import Place, Record, read_all
from synthcl.comparison.replaced import paired
from synthcl.comparison.report import KEYS, Form, Table, notes, scores, spent, watched
from synthcl.comparison.table import Evidence, Scores, by_column, summarise
from synthcl.comparison.tuned import Choice, best_pair, choice, choosing_seeds, equal_time_arm, tried
from synthcl.config.schema import Config
from synthcl.core.atomic import write_whole
from synthcl.core.errors import UserError
from synthcl.core.tables import filled, fitted, markdown, terminal_columns
from synthcl.evaluation import names


@dataclass(frozen=True)
class Tuned:
    """Everything that the records say.

    Args:
        config: of the comparison.
        tuning: records of the draws that choose, and of diverged runs there, too.
        choices: the best setting of each family, in the order of the table.
        fresh: records of the choices on fresh draws, each called as its family, and of equal time.
    """

    config: Config
    tuning: list[Record]
    choices: list[Choice]
    fresh: list[Record]

    @property
    def best(self) -> tuple[Choice, Choice] | None:
        """The joint method's best family and that of real images alone, by validation of the draws that choose."""
        return best_pair(self.choices)

    def runs_of(self, family: Family) -> int:
        """Runs that have tuned a family."""
        return sum(record.arm.rpartition("@")[0] == family.name for record in self.tuning)

    @property
    def gain(self) -> Estimate | None:
        """Best joint minus best real images alone on test, paired by seed; None where they share no draw yet."""
        if self.best is None:
            return None
        by_arm = scores_of(self.fresh, self.config)
        return paired_difference(*paired([by_arm.get(choice.family.name, {}) for choice in self.best]))

    @property
    def evidence(self) -> Evidence | None:
        """Statistics of the fresh draws, None where there is none."""
        if not self.fresh:
            return None
        joint, real = (c.family.name for c in self.best) if self.best else (OWN, REAL_ONLY)
        return summarise(self.fresh, reference=real, own=joint)


def read(config: Config, records: Iterable[Record]) -> Tuned:
    """Sort the records of a comparison.

    Args:
        config: of the comparison; its seed is the first fresh one.
        records: of one number of images.

    Raises:
        UserError: when all settings of a family have diverged.
    """
    choosing, first = choosing_seeds(config), config.training.seed
    every = list(records)
    tuning = [record for record in every if record.seed in choosing]
    found = [Family.read(name) for name in dict.fromkeys(record.arm.rpartition("@")[0] for record in tuning)]
    choices = [choice(tuning, family, config) for family in sorted(found, key=_place)]
    called = {choice.arm: choice.family.name for choice in choices}
    if pair := best_pair(choices):
        called[equal_time_arm(*pair)] = EQUAL_TIME
    fresh = [
        record.model_copy(update={"arm": called[record.arm]})
        for record in every
        if record.arm in called and record.seed in range(first, first + CHOOSING_OFFSET)
    ]
    return Tuned(config, tuning, choices, fresh)


def _place(family: Family) -> tuple[int, str]:
    return (0 if family.is_real_only else 2 if family.is_joint else 1), family.name


def write(place: Place, images: int) -> str:
    """Write tuned.md and tuned.json from the records alone.

    Args:
        place: of the records.
        images: unlabelled ones of the runs that are told of.

    Returns:
        The same for a terminal.

    Raises:
        UserError: when there is no record, or one is unreadable.
    """
    records = [record for record in read_all(place.records, place.config) if record.images == images]
    if not records:
        raise UserError(
            f"there is no record of {images:,} images in {str(place.records)!r}; run compare --tuned without --report"
        )
    tuned = read(place.config, records)
    place.report.mkdir(parents=True, exist_ok=True)
    heading = f"# Tuned against tuned: {place.config.name}, {images:,} images"
    first = f"**{verdict(tuned)}**"
    write_whole(place.report / "tuned.md", "\n\n".join([first, heading, *sections(tuned, markdown)]) + "\n")
    write_whole(place.report / "tuned.json", json.dumps(as_json(tuned), indent=1) + "\n")
    shown = sections(tuned, lambda table: fitted(table, terminal_columns(), keys=2 if table[0][:2] == [*KEYS] else 1))
    return "\n\n".join([verdict(tuned), *shown, f"Report: {place.report / 'tuned.md'}"])


def verdict(tuned: Tuned) -> str:
    """The first line: what the best joint family gains over the best of real images alone, and how they were chosen."""
    if tuned.best is None:
        return "No verdict: the joint method, or real images alone, has no family here."
    joint, real = tuned.best
    named = f"{joint.family.name} - {real.family.name}"
    if tuned.gain is None:
        return f"No verdict yet: {named} is chosen on validation, and has not been trained on fresh draws."
    gain, headline = tuned.gain, names.headline(tuned.config)
    return (
        f"{named}: {gain} points of test/{headline}, n = {gain.n}: {_word(gain)}. "
        f"Student's t over fresh draws, paired, 95 %. Families and their settings were chosen on validation alone, on "
        f"draws of their own: {_budgets(tuned)}."
    )


def _word(gain: Estimate) -> str:
    if gain.low is None or gain.high is None:
        return "one draw shows nothing"
    if gain.low > 0:
        return "the generator gains"
    return "the generator loses" if gain.high < 0 else "no difference is shown"


def _budgets(tuned: Tuned) -> str:
    sides = {
        "joint": [c.family for c in tuned.choices if c.family.is_joint],
        "of real images alone": [c.family for c in tuned.choices if c.family.is_real_only],
    }
    runs = {tuned.runs_of(family) for families in sides.values() for family in families}
    each = f"{max(runs)} runs a family" if len(runs) == 1 else f"UNEQUAL, {min(runs)} to {max(runs)} runs a family"
    counted = " and ".join(f"{len(families)} {side}" for side, families in sides.items())
    return f"{each}, {counted}"


def sections(tuned: Tuned, form: Form) -> list[str]:
    """All tables with their headings, and what they mean.

    Args:
        tuned: from `read`.
        form: makes text of a table whose heading comes first.
    """
    draws = ", ".join(map(str, choosing_seeds(tuned.config)))
    parts = [
        "## What each family was given",
        form(_chosen(tuned)),
        f"Validation: {names.headline(tuned.config)}, mean±sample standard deviation over the draws that choose, seeds "
        f"{draws}. The best mean of each side is its best family.",
        "### Best validation score after so many settings, first draw",
        form(_progress(tuned)),
        "A family whose score still rises at the right may gain from a larger budget.",
    ]
    evidence = tuned.evidence
    if evidence is None:
        return parts
    parts += scores(evidence, "test", form)
    if len(pairs := _pairs(tuned, evidence)) > 1:
        parts += ["### All differences on test, points, the first minus the second", form(pairs)]
    parts += [*scores(evidence, "val", form), *spent(evidence, form), *watched(evidence, form)]
    seconds = "Seconds are those of training; the warm-up of a GAN is not among them, and not in equal time."
    return [*parts, "\n".join([*notes(evidence), seconds])]


def _chosen(tuned: Tuned) -> Table:
    rows: list[tuple[list[str], Mapping[str, Any]]] = []
    best = [choice.family.name for choice in tuned.best or ()]
    for each in tuned.choices:
        name = each.family.name
        told = f"{name} (best)" if name in best else name
        values: dict[str, Any] = {"validation": Statistic.of(list(each.scores)), "runs": tuned.runs_of(each.family)}
        rows.append(([told], values | {_short(field): v for field, v in setting_of(tuned, each).items()}))
    columns = dict.fromkeys(column for _, values in rows for column in values)
    return filled(("family",), columns, rows, lambda value: f"{value:g}" if isinstance(value, float) else str(value))


def setting_of(tuned: Tuned, chosen: Choice) -> dict[str, Any]:
    """The values that a family's best setting has, by field, as its records have them.

    Args:
        tuned: from `read`.
        chosen: one of its choices.
    """
    config = next(record.config for record in tuned.tuning if record.arm == chosen.arm)
    return {each.field: _value(config, each.field) for each in chosen.family.ranges(tuned.config)}


def _value(config: Mapping[str, Any], field: str) -> Any:
    """What a recorded configuration has in a field; of a constant schedule its number, of another its kind."""
    value: Any = config
    for part in field.split("."):
        value = value[part]
    if isinstance(value, dict):
        return value["start"] if value["kind"] == "constant" else value["kind"]
    return value


def _short(field: str) -> str:
    """A field as a heading: `view strength`, `mix share`."""
    parts = field.split(".")
    mechanism = any(field == each.strength for each in MECHANISMS.values())
    return " ".join(parts[-2:] if mechanism else parts[-1:]).replace("_", " ")


def _progress(tuned: Tuned) -> Table:
    first = choosing_seeds(tuned.config)[0]
    curves = {
        each.family.name: [
            max(scores, default=0.0)
            for _, scores in sorted(tried(tuned.tuning, each.family, tuned.config, [first]).items())
        ]
        for each in tuned.choices
    }
    most = max(map(len, curves.values()))
    shown = [*(2**power for power in range(most.bit_length()) if 2**power < most), most]
    rows = [
        ([name], {str(count): best[count - 1] for count in shown if count <= len(best)})
        for name, curve in curves.items()
        for best in [list(accumulate(curve, max))]
    ]
    return filled(("family",), map(str, shown), rows, lambda value: f"{value:.2f}")


def _pairs(tuned: Tuned, evidence: Evidence) -> Table:
    """Every family minus every other one, by column, of the draws that both have."""
    finished = [record for record in tuned.fresh if not record.diverged]
    found = Scores(finished, partial(by_column, evidence.columns, "test"))
    listed = [EQUAL_TIME, *(choice.family.name for choice in tuned.choices)]
    cells = sorted(found.by_seed, key=lambda cell: listed.index(cell[0]))
    rows: list[tuple[list[str], Mapping[str, Any]]] = []
    for place, cell in enumerate(cells):
        for other in cells[:place]:
            if gains := found.gains(cell, other):
                n = "-".join(map(str, sorted({gain.n for gain in gains.values()})))
                rows.append(([f"{cell[0]} - {other[0]}"], gains | {"n": n}))
    return filled(("difference",), (*evidence.columns, "n"), reversed(rows))


def as_json(tuned: Tuned) -> dict[str, Any]:
    """The verdict, the choices and the statistics of the fresh draws as plain values."""
    best: Sequence[Choice] = tuned.best or ()
    return {
        "verdict": verdict(tuned),
        "best": {side: each.family.name for side, each in zip(("joint", "real-only"), best, strict=False)},
        "gain": asdict(tuned.gain) if tuned.gain else None,
        "families": {
            each.family.name: {
                "setting": each.setting,
                "values": setting_of(tuned, each),
                "validation": mean(each.scores),
                "runs": tuned.runs_of(each.family),
            }
            for each in tuned.choices
        },
        "fresh draws": tuned.evidence.as_json() if tuned.evidence else None,
    }
