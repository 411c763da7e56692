"""The evidence as Markdown, JSON and figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from synthcl.comparison import figures, intervals
from synthcl.comparison.arms import EQUAL_TIME
from synthcl.comparison.intervals import Estimate, Factor
from synthcl.comparison.plotting import save
from synthcl.comparison.records import Place, read_all
from synthcl.comparison.references import EXPLAINED, FOLDER, NOT_TRAINED
from synthcl.comparison.references import read as read_references
from synthcl.comparison.table import HEADROOM_POINTS, SPLITS, Cell, Evidence, SplitPrefix, summarise
from synthcl.core.atomic import write_whole
from synthcl.core.errors import UserError
from synthcl.core.tables import filled, fitted, markdown, terminal_columns
from synthcl.training.flops import shown

SPLIT_NAMES: dict[SplitPrefix, str] = {"val": "Validation", "test": "Test"}
WATCHED = {
    "contrastive loss": "loss/contrast",
    "pair similarity": "synthetic/pair_similarity",
    "D accuracy": "gan/accuracy",
    "D in order": "gan/order",
    "realism gap": "synthetic/realism_gap",
    "diversity": "synthetic/diversity",
    "|dL/dx| contrast": "gan/contrast_gradient",
    "|dL/dx| realism": "gan/realism_gradient",
}
"""heading -> logged statistic: whether the adversary played fair"""

KEYS = ("arm", "images")
Table = list[list[str]]
Form = Callable[[Table], str]
"""makes text of a table whose heading comes first"""


def write(place: Place) -> str:
    """Write evidence.md, evidence.json and the figures from the records alone.

    Args:
        place: of the records.

    Returns:
        The tables for a terminal.

    Raises:
        UserError: when there is no record, or one is unreadable.
    """
    if not (records := read_all(place.records, place.config)):
        raise UserError(f"there is no record in {str(place.records)!r}; run tune/compare.py without --report")
    evidence = summarise(records, pretrained=read_references(place.records / FOLDER, place.config))
    place.report.mkdir(parents=True, exist_ok=True)
    write_whole(place.report / "evidence.json", json.dumps(evidence.as_json(), indent=1) + "\n")
    drawn = []
    for split in SPLITS:
        for name, draw in (("scores", figures.scores_over_images), ("recovered", figures.recovered_fractions)):
            if figure := draw(evidence, split):
                save(figure, place.report / f"{name}-{split}.png")
                drawn.append(f"![{name}, {SPLIT_NAMES[split].lower()}]({name}-{split}.png)")
    parts = [f"# Evidence: {evidence.name}", *sections(evidence, markdown), *drawn]
    write_whole(place.report / "evidence.md", "\n\n".join(parts) + "\n")
    return "\n\n".join([*sections(evidence, _for_terminal), f"Report: {place.report / 'evidence.md'}"])


def _for_terminal(table: Table) -> str:
    keys = sum(heading in ("arm", "over", "images") for heading in table[0])
    return fitted(table, terminal_columns(), keys)


def sections(evidence: Evidence, form: Form) -> list[str]:
    """All tables with their headings, and what they mean.

    Args:
        evidence: of a comparison, or of what a search has confirmed.
        form: makes text of a table whose heading comes first.
    """
    made = []
    for split in reversed(SPLITS):
        made += scores(evidence, split, form)
        for heading, table in _differences(evidence, split).items():
            if len(table) > 1:
                made += [heading, form(table)]
    return [*made, *spent(evidence, form), *watched(evidence, form), "\n".join(notes(evidence))]


def scores(evidence: Evidence, split: SplitPrefix, form: Form) -> list[str]:
    """What every arm scored on a split, and what networks did that are not trained here."""
    rows = [
        (_named(row.cell, evidence.oracle), row.scores | {"n": str(len(row.seeds))}) for row in evidence.rows[split]
    ]
    rows += [
        ([f"{row.arm} ({NOT_TRAINED})", "-"], row.scores | {"n": str(len(row.seeds))})
        for row in evidence.references[split]
    ]
    return [f"## {SPLIT_NAMES[split]}", form(filled(KEYS, (*evidence.columns, "n"), rows))]


def spent(evidence: Evidence, form: Form) -> list[str]:
    """What training took."""
    rows: list[tuple[list[str], dict[str, Any]]] = []
    for cell, seconds in evidence.seconds.items():
        train, warm_up = (shown(evidence.flops[cell].get(part)) for part in ("train", "warm-up"))
        values = {"seconds": seconds, "n": str(seconds.n), "FLOP": train, "FLOP of its GAN's warm-up": warm_up}
        rows.append((_named(cell), values))
    if not rows:
        return []
    table = filled(KEYS, rows[0][1], rows)
    return ["### Wall seconds and floating-point operations of training", form(table)]


def watched(evidence: Evidence, form: Form) -> list[str]:
    """Whether the adversary played fair."""
    rows = [
        (_named(cell), {heading: means.get(name) for heading, name in WATCHED.items()})
        for cell, means in evidence.statistics.items()
        if means
    ]
    if not rows:
        return []
    table = filled(KEYS, WATCHED, rows, lambda value: f"{value.mean:.3g}")
    return ["## Last logged statistics of training", form(table)]


def _named(cell: Cell, oracle: Cell | None = None) -> list[str]:
    """What stands at the left of a row."""
    arm, images = cell
    return [f"{arm} (oracle)" if cell == oracle else arm, f"{images:,}" if images else "-"]


def _differences(evidence: Evidence, split: SplitPrefix) -> dict[str, Table]:
    """What the scores say of each other: heading to table."""
    columns = [column for column in evidence.columns if column != "kNN"]  # five would not fit a terminal
    rows = [(_named(row.cell), row) for row in evidence.rows[split] if row.difference]
    headroom = [([f"{images:,}"], _with_n(gains)) for images, gains in evidence.headroom[split].items() if gains]
    own = [
        ([_named(over, evidence.oracle)[0], _named((evidence.own, images))[1]], _with_n(gains))
        for (images, over), gains in evidence.own_gains[split].items()
        if gains
    ]
    differences = [(name, _with_n(row.difference)) for name, row in rows]
    recovered = [(name, row.recovered) for name, row in rows if evidence.oracle and evidence.oracle[1] != row.images]
    efficiency = [(name, row.efficiency) for name, row in rows if row.efficiency]
    over, same = evidence.reference, "with the same images, points"
    return {
        f"### Difference to {over} {same}": filled(KEYS, (*columns, "n"), differences),
        f"### What the oracle gains over {over}, points": filled(("images",), (*columns, "n"), headroom),
        f"### What {evidence.own} gains over other arms {same}": filled(("over", "images"), (*columns, "n"), own),
        "### Recovered fraction of the oracle's gain": filled(KEYS, columns, recovered, _share, "no headroom"),
        f"### Times fewer images than {over} for its score": filled(KEYS, columns, efficiency, _factor),
    }


def _with_n(gains: dict[str, Estimate]) -> dict[str, Estimate | str]:
    """With the seeds that were paired: 3, or 2-3 where columns differ."""
    return gains | {"n": "-".join(map(str, sorted({gain.n for gain in gains.values()})))}


def notes(evidence: Evidence) -> list[str]:
    """What the tables mean, in sentences."""
    sentences = [
        "Percent, mean±sample standard deviation over n seeds. A seed has its own images, GAN, labels and validation "
        "cut, which its arms share; the labels do not depend on the number of images."
    ]
    if len(evidence.budgets) == 1:
        sentences.append(f"Every run has equal optimiser steps and equal views: {next(iter(evidence.budgets))}.")
    elif evidence.budgets:
        listed = "; ".join(f"{budget} for {', '.join(arms)}" for budget, arms in evidence.budgets.items())
        sentences.append(f"The runs differ in their budget, so arms do not compare: {listed}.")
    if any(arm == EQUAL_TIME for arm, _ in evidence.seconds):
        sentences.append(f"{EQUAL_TIME} has the wall time of {evidence.own}, and more steps and views.")
    sentences.append("Brackets: 95 % intervals over seeds; of differences Student's, paired by seed.")
    if evidence.oracle is not None:
        real = evidence.reference
        sentences += [
            f"Oracle: {real} with {evidence.oracle[1]:,} images. Recovered fraction: (arm - {real}) / (oracle - "
            f"{real}), means over seeds; 'open' where the interval of the oracle's own gain reaches 0.",
            f"Times fewer images: those of the row over those with which the arm reaches {real}'s score of that row, "
            "interpolated over the log of images; '≥' where it is reached with the fewest images that were run.",
            f"Brackets of these two: bootstrap over seeds, paired, of percentiles expanded for few seeds; "
            f"{intervals.RESAMPLES:,} resamples, fixed seed {intervals.SEED}.",
        ]
    if any(evidence.references.values()):
        sentences.append(EXPLAINED)
    sentences += [
        "Test was scored once at the end of each run; choices are made on validation.",
        *_headroom_verdict(evidence),
        *([f"Devices: {', '.join(evidence.devices)}."] if evidence.devices else []),
        *(f"Diverged and in no mean: {run}." for run in evidence.diverged),
    ]
    return sentences


def _headroom_verdict(evidence: Evidence) -> list[str]:
    """Where, on validation, the oracle leaves something to gain."""
    sentences = []
    for images, gains in evidence.headroom["val"].items():
        enough = [column for column, gain in gains.items() if gain.value >= HEADROOM_POINTS]
        where = f"at {', '.join(enough)}" if enough else "nowhere"
        sentences.append(
            f"With {images:,} images the oracle gains {HEADROOM_POINTS:g} points or more on validation {where}."
        )
    return sentences


def _share(estimate: Estimate) -> str:
    if estimate.low is None:
        return f"{estimate.value:.2f}" + (" [open]" if estimate.n > 1 else "")
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def _factor(factor: Factor) -> str:
    def text(value: float) -> str:
        if value == 0:
            return "not reached"
        return f"≥{value:.2f}" if value >= factor.most * (1 - 1e-9) else f"{value:.2f}"

    if factor.low is None or factor.high is None or factor.low == factor.value == factor.high:
        return text(factor.value)
    return f"{text(factor.value)} [{text(factor.low)}, {text(factor.high)}]"
