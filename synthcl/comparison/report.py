"""The evidence as Markdown, JSON and figures."""

from __future__ import annotations

import json
from collections.abc import Callable

from synthcl.comparison import bootstrap, figures
from synthcl.comparison.arms import EQUAL_TIME, OWN, REAL_ONLY
from synthcl.comparison.bootstrap import Estimate, Factor
from synthcl.comparison.plotting import save
from synthcl.comparison.records import Place, read_all
from synthcl.comparison.table import HEADROOM_POINTS, SPLITS, Evidence, Row, SplitPrefix, summarise
from synthcl.core.atomic import write_whole
from synthcl.core.tables import fitted, markdown, terminal_columns
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

Table = list[list[str]]


def write(place: Place) -> str:
    """Write evidence.md, evidence.json and the figures from the records alone.

    Args:
        place: of the records.

    Returns:
        The tables for a terminal.

    Raises:
        UserError: when there is no record, or one is unreadable.
    """
    evidence = summarise(read_all(place))
    place.report.mkdir(parents=True, exist_ok=True)
    write_whole(place.report / "evidence.json", json.dumps(evidence.as_json(), indent=1) + "\n")
    drawn = []
    for split in SPLITS:
        for name, draw in (("scores", figures.scores_over_images), ("recovered", figures.recovered_fractions)):
            if figure := draw(evidence, split):
                save(figure, place.report / f"{name}-{split}.png")
                drawn.append(f"![{name}, {SPLIT_NAMES[split].lower()}]({name}-{split}.png)")
    parts = [f"# Evidence: {evidence.name}", *_sections(evidence, markdown), *drawn]
    write_whole(place.report / "evidence.md", "\n\n".join(parts) + "\n")
    return "\n\n".join([*_sections(evidence, _for_terminal), f"Report: {place.report / 'evidence.md'}"])


def _for_terminal(table: Table) -> str:
    keys = sum(heading in ("arm", "over", "images") for heading in table[0])
    return fitted(table, terminal_columns(), keys)


def _sections(evidence: Evidence, form: Callable[[Table], str]) -> list[str]:
    sections = []
    for split in reversed(SPLITS):
        rows = evidence.rows[split]
        sections += [f"## {SPLIT_NAMES[split]}", form(_scores(evidence, rows))]
        tables = {
            f"### Difference to {REAL_ONLY} with the same images, points": _differences(evidence, rows),
            f"### What the oracle gains over {REAL_ONLY}, points": _headroom(evidence, split),
            f"### What {OWN} gains over other arms with the same images, points": _own_gains(evidence, split),
            "### Recovered fraction of the oracle's gain": _recovered(evidence, rows),
            f"### Times fewer images than {REAL_ONLY} for its score": _efficiency(evidence, rows),
        }
        for heading, table in tables.items():
            if len(table) > 1:
                sections += [heading, form(table)]
    sections += ["### Wall seconds and floating-point operations of training", form(_seconds(evidence))]
    watched = _watched(evidence)
    if len(watched) > 1:
        sections += ["## Last logged statistics of training", form(watched)]
    return [*sections, "\n".join(notes(evidence))]


def _scores(evidence: Evidence, rows: list[Row]) -> Table:
    table = [["arm", "images", *evidence.columns, "n"]]
    for row in rows:
        name = f"{row.arm} (oracle)" if (row.arm, row.images) == (REAL_ONLY, evidence.oracle) else row.arm
        cells = [str(row.scores.get(column, "-")) for column in evidence.columns]
        table.append([name, f"{row.images:,}", *cells, str(len(row.seeds))])
    return table


def _seconds(evidence: Evidence) -> Table:
    table = [["arm", "images", "seconds", "n", "FLOP", "FLOP of its GAN's warm-up"]]
    for cell, seconds in evidence.seconds.items():
        arm, images = cell
        table.append([arm, f"{images:,}", str(seconds), str(seconds.n), *map(shown, evidence.flops[cell])])
    return table


def _differences(evidence: Evidence, rows: list[Row]) -> Table:
    columns = [column for column in evidence.columns if column != "kNN"]  # five would not fit a terminal
    table = [["arm", "images", *columns]]
    for row in rows:
        if row.difference:
            cells = [_difference(row.difference.get(column)) for column in columns]
            table.append([row.arm, f"{row.images:,}", *cells])
    return table


def _headroom(evidence: Evidence, split: SplitPrefix) -> Table:
    columns = [column for column in evidence.columns if column != "kNN"]
    table = [["images", *columns]]
    for images, gains in evidence.headroom[split].items():
        table.append([f"{images:,}", *(_difference(gains.get(column)) for column in columns)])
    return table


def _own_gains(evidence: Evidence, split: SplitPrefix) -> Table:
    columns = [column for column in evidence.columns if column != "kNN"]
    table = [["over", "images", *columns]]
    for (images, (arm, others)), gains in evidence.own_gains[split].items():
        name = f"{arm} (oracle)" if (arm, others) == (REAL_ONLY, evidence.oracle) else arm
        table.append([name, f"{images:,}", *(_difference(gains.get(column)) for column in columns)])
    return table


def _recovered(evidence: Evidence, rows: list[Row]) -> Table:
    columns = [column for column in evidence.columns if column != "kNN"]
    table = [["arm", "images", *columns]]
    for row in rows:
        if row.difference and row.images != evidence.oracle:
            cells = [_share(row.recovered[column]) if column in row.recovered else "no headroom" for column in columns]
            table.append([row.arm, f"{row.images:,}", *cells])
    return table


def _efficiency(evidence: Evidence, rows: list[Row]) -> Table:
    columns = [column for column in evidence.columns if column.startswith("linear") or column == "transfer"]
    table = [["arm", "images", *columns]]
    for row in rows:
        if row.efficiency:
            cells = [_factor(row.efficiency.get(column)) for column in columns]
            table.append([row.arm, f"{row.images:,}", *cells])
    return table


def _watched(evidence: Evidence) -> Table:
    table = [["arm", "images", *WATCHED]]
    for (arm, images), means in evidence.statistics.items():
        cells = [f"{means[name].mean:.3g}" if name in means else "-" for name in WATCHED.values()]
        table.append([arm, f"{images:,}", *cells])
    return table


def notes(evidence: Evidence) -> list[str]:
    """What the tables mean, in sentences."""
    sentences = [
        "Percent, mean±sample standard deviation over n seeds. A seed has its own images, GAN, labels and validation "
        "cut, which its arms share; the labels do not depend on the number of images."
    ]
    if len(evidence.budgets) == 1:
        sentences.append(f"Every run has equal optimiser steps and equal views: {evidence.budgets[0]}.")
    elif evidence.budgets:
        sentences.append(f"The runs differ in their budget, so arms do not compare: {'; '.join(evidence.budgets)}.")
    if any(arm == EQUAL_TIME for arm, _ in evidence.seconds):
        sentences.append(f"{EQUAL_TIME} has the wall time of {OWN}, and more steps and views.")
    if evidence.oracle is not None:
        sentences.append(
            f"Oracle: {REAL_ONLY} with {evidence.oracle:,} images. Recovered fraction: (arm - {REAL_ONLY}) / (oracle - "
            f"{REAL_ONLY}), means over seeds; 'open' where the interval of the oracle's own gain reaches 0."
        )
    sentences += [
        f"Brackets: 95 % bootstrap intervals over seeds, paired by seed, of percentiles expanded for few seeds; "
        f"{bootstrap.RESAMPLES:,} resamples, fixed seed {bootstrap.SEED}.",
        f"Times fewer images: those of the row over those with which the arm reaches {REAL_ONLY}'s score of that row, "
        "interpolated over the log of images; '≥' where it is reached with the fewest images that were run.",
        "Test was scored once at the end of each run; choices are made on validation.",
        *_headroom_verdict(evidence),
        f"Devices: {', '.join(evidence.devices)}.",
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


def _difference(estimate: Estimate | None) -> str:
    return "-" if estimate is None else estimate.signed()


def _share(estimate: Estimate) -> str:
    if estimate.low is None:
        return f"{estimate.value:.2f}" + (" [open]" if estimate.n > 1 else "")
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def _factor(factor: Factor | None) -> str:
    if factor is None:
        return "-"

    def text(value: float) -> str:
        if value == 0:
            return "not reached"
        return f"≥{value:.2f}" if value >= factor.most * (1 - 1e-9) else f"{value:.2f}"

    if factor.low is None or factor.high is None or factor.low == factor.value == factor.high:
        return text(factor.value)
    return f"{text(factor.value)} [{text(factor.low)}, {text(factor.high)}]"
