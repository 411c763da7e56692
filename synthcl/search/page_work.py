"""What ran where and for how long: tables of a search's page."""

from __future__ import annotations

from collections import defaultdict

from synthcl.comparison.records import Record
from synthcl.core.page import table
from synthcl.core.progress import duration
from synthcl.search import results
from synthcl.search.findings import Findings
from synthcl.search.now import Now, Work
from synthcl.training.flops import shown

_HEADING = ["stage", "where", "runs", "images", "wall time", "of it scoring", "FLOP of training"]


def work(found: Findings, now: Now) -> str:
    """Sums by stage and machine, and every run.

    Raises:
        ValueError: when no run has told what it took.
    """
    records = {results.run_label(record.arm, record.seed): record for record in found.confirmed}
    works = now.works | {name: _of_record(record) for name, record in records.items() if name not in now.works}
    if not works:
        raise ValueError("no run has told yet what it took")
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, one in works.items():
        groups[one.stage, _where(one)].append(name)
    sums = [_HEADING]
    for (stage, where), names in groups.items():
        sums.append([stage, where, str(len(names)), *_spent([works[name] for name in names], _flops(names, records))])
    each = [["run", *_HEADING[:2], *_HEADING[3:]]]
    for name, one in works.items():
        each.append([name, one.stage, _where(one), *_spent([one], _flops([name], records))])
    return (
        "<p>Runs stand side by side, so the search itself takes less time than their sum. FLOP, floating-point "
        "operations by count, are those of confirm runs, without the warm-up of their GAN.</p>"
        + table(sums, "What ran where", (1,))
        + f"<details><summary>All {len(works)} runs</summary>{table(each, 'Runs', (1, 2))}</details>"
    )


def _of_record(record: Record) -> Work:
    return Work(
        stage=record.checkpoint.partition("/")[0] or results.CONFIRMED,
        images=record.images_seen,
        seconds=sum(record.seconds.values()),
        scoring_seconds=record.seconds.get("evaluate", 0.0),
        device=record.device,
    )


def _where(one: Work) -> str:
    several = f"{one.workers} workers" if one.workers > 1 else ""
    return ", ".join(filter(None, [one.host, one.device, several])) or "not recorded"


def _spent(works: list[Work], flops: float | None) -> list[str]:
    images, seconds, scoring = (
        sum(getattr(one, field) for one in works) for field in ("images", "seconds", "scoring_seconds")
    )
    return [f"{images:,}", duration(seconds), duration(scoring), shown(flops)]


def _flops(names: list[str], records: dict[str, Record]) -> float | None:
    """Of training, where every run has told."""
    told = [records[name].flops.get("train") if name in records else None for name in names]
    return sum(flops for flops in told if flops is not None) if None not in told else None
