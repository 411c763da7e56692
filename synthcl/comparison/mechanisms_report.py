"""What the runs of the mechanisms say, as Markdown and for a terminal, from the records alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import mean

from synthcl.comparison.intervals import Estimate, Statistic
from synthcl.comparison.mechanisms import (
    CHOOSING_SEEDS,
    FAMILIES,
    MECHANISMS,
    VIEW_STRENGTHS,
    arm_name,
    choose,
    tried,
)
from synthcl.comparison.records import Place, Record, read_all
from synthcl.comparison.replaced import RULE, Effect, effect, paired
from synthcl.config.schema import Config
from synthcl.core.atomic import write_whole
from synthcl.core.errors import UserError
from synthcl.core.tables import fitted, markdown, terminal_columns
from synthcl.evaluation import names

Table = list[list[str]]
NOTHING = "nothing"


def write(place: Place) -> str:
    """Write mechanisms.md from the records alone.

    Args:
        place: of the records.

    Returns:
        The same for a terminal.

    Raises:
        UserError: when there is no record, or one is unreadable.
    """
    if not (records := read_all(place.records, place.config)):
        raise UserError(f"there is no record in {str(place.records)!r}; run compare --mechanisms without --report")
    place.report.mkdir(parents=True, exist_ok=True)
    target = place.report / "mechanisms.md"
    heading = f"# Mechanisms: {place.config.name}"
    write_whole(target, "\n\n".join([heading, *sections(records, place.config, markdown)]) + "\n")
    shown = sections(records, place.config, lambda table: fitted(table, terminal_columns()))
    return "\n\n".join([*shown, f"Report: {target}"])


def sections(records: list[Record], config: Config, form: Callable[[Table], str]) -> list[str]:
    """All tables with their headings, and what they mean.

    Args:
        records: of both stages; what is not there yet is left out.
        config: of the comparison.
        form: makes text of a table whose heading comes first.
    """
    parts = []
    if scores := tried(records, config):
        parts += [
            f"## How strong: validation, real images alone, view strength {VIEW_STRENGTHS[0]:g}",
            form(_strengths(scores)),
            f"Means of {CHOOSING_SEEDS} seeds that the tables below do not have. The best mean is chosen, of equal "
            "ones the weakest, and fixed for all that follows.",
        ]
    by_arm = scores_of(records, config)
    for strength in VIEW_STRENGTHS:
        if rows := _scores(by_arm, strength):
            parts += [f"## View strength {strength:g}: test, {names.headline(config)}", form(rows)]
        found = effects(by_arm, strength)
        if found:
            parts += [
                "### Differences, points, and the share of the generator's gain that is replaced",
                form(_told(found)),
            ]
    return [*parts, "\n\n".join(_notes(records, by_arm))]


def scores_of(records: list[Record], config: Config) -> dict[str, dict[int, float]]:
    """Test score by arm and seed, of runs that have not diverged.

    Args:
        records: of both stages.
        config: of the comparison; its headline probe is the score.
    """
    found: dict[str, dict[int, float]] = {}
    for record in records:
        if not record.diverged:
            found.setdefault(record.arm, {})[record.seed] = record.metrics[f"test/{names.headline(config)}"]
    return found


def effects(by_arm: Mapping[str, Mapping[int, float]], view_strength: float) -> dict[str, Effect]:
    """What each mechanism does under views of one strength; without those that share no seed over all four arms.

    Args:
        by_arm: from `scores_of`.
        view_strength: one of `VIEW_STRENGTHS`.
    """
    found = {}
    for name in MECHANISMS:
        arms = [arm_name(family, other, view_strength) for other in (None, name) for family in FAMILIES]
        cells = paired([by_arm.get(arm, {}) for arm in arms])
        if cells[0]:
            found[name] = effect(*cells)
    return found


def _strengths(scores: Mapping[str, Mapping[float, list[float]]]) -> Table:
    rows = [["mechanism", "field", "weak", "middle", "strong", "chosen"]]
    for name, by_strength in scores.items():
        mechanism = MECHANISMS[name]
        cells = [
            f"{value:g}: {mean(by_strength[value]):.2f}" if value in by_strength else f"{value:g}: diverged or not run"
            for value in mechanism.tried
        ]
        rows.append([name, mechanism.strength, *cells, f"{choose(by_strength):g}"])
    return rows


def _scores(by_arm: Mapping[str, Mapping[int, float]], view_strength: float) -> Table:
    rows = []
    for name in (None, *MECHANISMS):
        cells = [by_arm.get(arm_name(family, name, view_strength), {}) for family in FAMILIES]
        if any(cells):
            shown = [str(Statistic.of(list(cell.values())) or "-") for cell in cells]
            rows.append([name or NOTHING, *shown, "-".join(map(str, sorted({len(cell) for cell in cells})))])
    return [["with", *FAMILIES, "n"], *rows] if rows else []


def _told(found: Mapping[str, Effect]) -> Table:
    rows = [["with", "R_r - R", "J_r - J", "J_r - R_r", "(J_r - R_r) - (J - R)", "rho", "n", "says"]]
    for name, own in found.items():
        differences = [own.on_real, own.on_joint, own.of_generator, own.interaction]
        rows.append([name, *map(str, differences), _share(own.replaced), str(own.on_joint.n), own.word])
    alone = next(iter(found.values())).of_generator_alone
    return [*rows, [NOTHING, "", "", f"{alone} (J - R)", "", "", str(alone.n), ""]]


def _share(replaced: Estimate | None) -> str:
    if replaced is None:
        return "no gain"
    if replaced.low is None:
        return f"{replaced.value:.2f}" + (" [open]" if replaced.n > 1 else "")
    return f"{replaced.value:.2f} [{replaced.low:.2f}, {replaced.high:.2f}]"


def _notes(records: list[Record], by_arm: Mapping[str, Mapping[int, float]]) -> list[str]:
    budgets = {f"{record.steps:,} optimiser steps of {record.views_per_step:,} views" for record in records}
    equal = "Every run has equal steps and views" if len(budgets) == 1 else "THE RUNS DIFFER IN STEPS OR VIEWS"
    notes = [
        f"R: {FAMILIES[0]}, J: {FAMILIES[1]}, r: with the mechanism. {equal}: {'; '.join(sorted(budgets))}.",
        "Brackets: 95 % intervals over seeds, paired; of differences Student's, of rho by the bootstrap. They are not "
        "corrected for the number of mechanisms.",
        "rho = 1 - (J_r - R_r) / (J - R), the replaced share: 0 where the generator gains as much beside the "
        "mechanism, 1 where it gains nothing more; '[open]' where J - R may be 0, 'no gain' where its mean is not "
        "above 0.",
        RULE,
    ]
    if shares := _latents(records, by_arm):
        notes.append(shares)
    if lost := [f"{record.arm}, seed {record.seed}: {record.diverged}" for record in records if record.diverged]:
        notes.append("Diverged and in no mean: " + "; ".join(lost) + ".")
    return notes


def _latents(records: list[Record], by_arm: Mapping[str, Mapping[int, float]]) -> str:
    """Where a mixer's coarser rounding has given its arms another share of synthetic views, which one is."""
    own = {
        record.arm: record.statistics["knob/synthetic_fraction"]
        for record in records
        if record.arm.startswith(FAMILIES[1])
        and record.arm in by_arm
        and "knob/synthetic_fraction" in record.statistics
    }
    if len({round(share, 6) for share in own.values()}) < 2:
        return ""
    listed = ", ".join(f"{arm} {share:.3g}" for arm, share in sorted(own.items()))
    return f"The last share of synthetic views differs, as a mixer rounds it more coarsely: {listed}."
