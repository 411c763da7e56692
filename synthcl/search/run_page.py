"""`report.html`: everything that a search has found, on one page that needs no other file, while it runs and after."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from synthcl.config.schema import Config
from synthcl.core.atomic import write_whole
from synthcl.core.page import RELOAD_SECONDS, document, prose, table, text
from synthcl.core.progress import duration
from synthcl.search import leaderboard, lineage, page_charts, page_pictures, results
from synthcl.search.findings import Findings, trial_cells, value_text
from synthcl.search.now import WARM_UP, Now
from synthcl.search.page_work import work
from synthcl.search.refitted import FOLDER
from synthcl.search.study import load_study

FILE = "report.html"
_SLOW = {"importances": "Importances", "neighbours": "Neighbours by the winner"}


def write(found: Findings, now: Now, slow: Mapping[str, str]) -> None:
    """Write the page into the run's folder, whole or not at all.

    Args:
        found: what the search has found.
        now: what it is doing.
        slow: from `slow_parts`, perhaps of a while ago.

    Raises:
        OSError: when it cannot be written.
    """
    write_whole(found.folder / FILE, render(found, now, slow))


def write_anew(config: Config, folder: Path, *, trust_code: bool) -> Path:
    """Write the page from what lies in a run's folder, with everything on it.

    Args:
        config: of the search.
        folder: of its run.
        trust_code: as of `slow_parts`.

    Returns:
        The page.

    Raises:
        UserError: when the study or a record is unreadable.
        OSError: when it cannot be written.
    """
    found = Findings.read(config, folder, load_study(folder / results.JOURNAL))
    write(found, Now.read(folder), slow_parts(found, trust_code=trust_code))
    return folder / FILE


def slow_parts(found: Findings, *, trust_code: bool) -> dict[str, str]:
    """The sections that take seconds, by name.

    Args:
        found: what the search has found.
        trust_code: whether code of the user's own, which the winner's encoder may name, is imported and called.
    """
    with suppress(ValueError, OSError):  # the section says what is not there
        page_pictures.real_images(found)
    return {
        "importances": _attempt(lambda: page_charts.importances(found)),
        "neighbours": _attempt(lambda: page_pictures.neighbours(found, trust_code=trust_code)),
    }


def render(found: Findings, now: Now, slow: Mapping[str, str]) -> str:
    """The page as text."""
    later = _left_out("it takes seconds, and is made when a stage ends")
    parts: dict[str, tuple[str, str]] = {
        "scores": ("Confirmed scores", _attempt(lambda: page_charts.confirmed(found))),
        "search": ("The search", _attempt(lambda: page_charts.progress(found))),
        "schedules": ("Schedules", _attempt(lambda: page_charts.schedules(found))),
        "settings": ("Settings of the winner", _settings(found)),
        "importances": (_SLOW["importances"], slow.get("importances", later)),
        "trade-off": ("Linear against transfer", _attempt(lambda: page_charts.trade_off(found))),
        "samples": ("Samples beside real images", _attempt(lambda: page_pictures.samples(found, now))),
        "neighbours": (_SLOW["neighbours"], slow.get("neighbours", later)),
    }
    if found.lineages is not None:
        parts["lineages"] = "Lineages", _attempt(lambda: page_charts.lineages(found))
    parts["work"] = "What ran where, and for how long", _attempt(lambda: work(found, now))
    parts["trials"] = "Trials", _trials(found)
    links = "".join(f'<a href="#{name}">{text(title)}</a>' for name, (title, _) in parts.items())
    sections = "\n".join(
        f'<section aria-labelledby="{name}">\n<h2 id="{name}">{text(title)}</h2>\n{inside}\n</section>'
        for name, (title, inside) in parts.items()
    )
    title = found.config.name
    body = (
        f"<header>\n<h1>{text(title)}</h1>\n{_verdict(found, now)}\n{_state(found, now)}\n"
        f'<nav aria-label="Sections">{links}</nav>\n</header>\n<main>\n{sections}\n</main>'
    )
    return document(f"{title}, a search by synthcl", body, live=now.is_under_way, hover=True)


def _attempt(make: Callable[[], str]) -> str:
    """A section, or why it is left out."""
    try:
        return make()
    except (ValueError, OSError) as reason:  # a UserError is the first
        return _left_out(str(reason))


def _left_out(reason: str) -> str:
    return f'<p class="left-out">Left out: {text(reason)}.</p>'


def _verdict(found: Findings, now: Now) -> str:
    if not found.board.rows:
        return (
            '<p class="verdict">No verdict yet. It comes from the confirm runs, which train the best configurations '
            "anew on fresh seeds.</p>"
        )
    said, *more = leaderboard.verdict(found.board)
    if found.refitted:
        more.append(f"Encoder of all images, in {FOLDER}: {found.refitted}")
    so_far = "So far: " if now.is_under_way else ""
    return f'<p class="verdict">{so_far}{text(said)}</p>\n<p>{"<br>".join(map(text, more))}</p>'


def _state(found: Findings, now: Now) -> str:
    """What goes on, how far it is, and when the page was written."""
    stages = _stages(found)
    ended = bool(stages) and all(stage["done"] for stage in stages)
    written = f"Written {_moment(time.time())}"
    if now.is_under_way:
        lines = [_under_way(now), *_best(found)]
        if now.training:
            lines.append(f"Training now: {text(', '.join(now.training))}.")
        ago = f'<span data-written="{time.time():.0f}"></span>'
        again = f"the page loads itself again every {RELOAD_SECONDS} s"
        lines.append(f'<span class="quiet">{written}, {ago}; {again}.</span>')
        inside = "".join(f"<p>{line}</p>" for line in lines)
        return f'<div class="now">{inside}{_bar(now)}</div>'
    if ended or (not stages and found.board.rows):
        when = f" since {_moment(now.written)}" if now.written else ""  # not of the page: another one is the same
        return f'<p class="quiet">The search is complete{when}.</p>'
    heard = f" It was last heard of on {_moment(now.written)}." if now.stage else ""
    inside = f"The search is not complete.{heard} The same command goes on where it stopped."
    return f'<div class="now"><p>{inside}</p><p class="quiet">{written}.</p></div>'


def _under_way(now: Now) -> str:
    if now.stage == WARM_UP:
        return "Under way: the warm-up of the GAN, which all trials share. The search follows."
    said = f"Under way: <strong>{text(now.stage)}</strong>"
    if now.total_kimg:
        share = min(1.0, now.kimg / now.total_kimg)
        said += f", {now.kimg:,.1f} of {now.total_kimg:,.1f} thousand images ({100 * share:.0f} %)"
    if now.left_seconds is not None:
        said += f"; about {duration(now.left_seconds)} left until the end of the search"
    return said + "."


def _bar(now: Now) -> str:
    if not now.total_kimg:
        return ""
    done = min(now.kimg, now.total_kimg)
    return f'<progress max="{now.total_kimg:.3f}" value="{done:.3f}" aria-label="{text(now.stage)}"></progress>'


def _best(found: Findings) -> list[str]:
    searched = found.trials[~found.trials.baseline]
    complete = searched[searched.state == "complete"]
    counts = f"{len(searched)} trial{'s' * (len(searched) != 1)} begun, {len(complete)} complete"
    if complete.empty:
        return [f"{counts}."] if len(searched) else []
    best = complete.loc[complete.score.idxmax()]
    return [f"{counts}; the best so far is {text(best.label)} with {best.score:.2f} % on validation."]


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d, %H:%M UTC")


def _stages(found: Findings) -> list[dict[str, Any]]:
    try:
        return list(json.loads((found.folder / "state.json").read_text()))
    except (OSError, ValueError):
        return []


def _settings(found: Findings) -> str:
    said, changed = found.winners_settings
    if not said:
        return _left_out("there is no winner yet")
    rows = [["field", "value"], *([path, value_text(value)] for path, value in changed.items())]
    winner = found.board.winner
    assert winner is not None
    listed = table(rows, "Settings of the winner", (1,)) if changed else ""
    return f"<p><strong>{text(winner.name)}.</strong> {prose(said)}</p>{listed}"


def _trials(found: Findings) -> str:
    if found.trials.empty:
        return _left_out("no trial has begun yet")
    score = "score" if found.lineages is None else lineage.OWN_SCORE
    cells = trial_cells(found.trials, score)
    lost = found.trials[found.trials.state.isin(["failed", "diverged"])]
    why = ""
    if len(lost):
        why = (
            f"<p>{len(lost)} of them ended without a score that counts, since they failed or diverged; the list says "
            "which.</p>"
        )
    journal = text(results.JOURNAL)
    look = f'<p class="quiet">The study is in <code>{journal}</code>, which optuna-dashboard shows.</p>'
    return f"{why}<details><summary>All {len(cells) - 1}</summary>{table(cells, 'Trials', (1, 4))}</details>{look}"
