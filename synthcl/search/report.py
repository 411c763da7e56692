"""The end of a search: leaderboard, report, figures and the winning encoder."""

from __future__ import annotations

import json
from collections.abc import Callable

from matplotlib.figure import Figure

from synthcl.comparison import plotting
from synthcl.comparison.arms import OWN, REAL_ONLY
from synthcl.comparison.records import Record
from synthcl.comparison.references import EXPLAINED
from synthcl.comparison.report import sections
from synthcl.comparison.table import summarise
from synthcl.config.schema import Config
from synthcl.core.atomic import write_whole
from synthcl.core.errors import first_line
from synthcl.core.tables import fitted, markdown, terminal_columns
from synthcl.runs.checkpoint_store import fetched
from synthcl.runs.export import ENCODER, load_any, save_encoder
from synthcl.runs.storage import Storage
from synthcl.search import figures, leaderboard, lineage, results, run_page, study_notes, viewers
from synthcl.search.findings import Findings, trial_cells, value_text
from synthcl.search.leaderboard import Leaderboard, Row
from synthcl.search.refitted import FOLDER
from synthcl.search.verdict import sorted_by

INTERVALS = "Brackets: Student's 95 % intervals over seeds."
FLOPS = "FLOP: floating-point operations of a run's training, and of the GAN warm-up that it begins with."

Note = tuple[str, str]
"""title of a figure, and its file relative to the report, or why there is none"""


def write(config: Config, storage: Storage, *, quiet: bool = False) -> None:
    """Print the leaderboard; write report.md, report.html, leaderboard.json, the figures and the winner's encoder.

    Args:
        config: of the run.
        storage: holds the run's folder.
        quiet: print nothing.

    Raises:
        UserError: when there is no study, or the winner's checkpoint cannot be read.
    """
    found = Findings.read(config, storage.folder, results.open_study(storage.folder))
    board = found.board
    if found.lineages is not None:
        write_whole(storage.folder / "lineage.csv", found.lineages.to_csv(index=False))
    write_whole(storage.folder / "leaderboard.json", json.dumps(board.as_json(), indent=2) + "\n")
    write_whole(storage.folder / "report.md", _document(found, _draw(found)))
    study_notes.tell_confirmed(found)
    if board.winner:
        _export(storage, found.confirmed, board.winner)
    if quiet:
        return
    print("\n" + terminal(config, board))
    if board.winner:
        print(f"Encoder: {viewers.shown(storage.folder / ENCODER)}")
    if found.refitted:
        print(f"Encoder of all images: {viewers.shown(storage.folder / FOLDER / ENCODER)}. {found.refitted}")
    print(f"Report: {viewers.shown(storage.folder / 'report.md')}")
    try:
        page = run_page.write_anew(config, storage.folder, trust_code=True)  # of this search, which has called it
        print(f"Page: {viewers.shown(page)}")
    except Exception as error:  # what was found is there; its picture can be made again
        print(f"{run_page.FILE} is not up to date: {first_line(error)}; synthcl report {viewers.shown(storage.folder)}")


def terminal(config: Config, board: Leaderboard) -> str:
    """The leaderboard and what it says, within the width of the terminal."""
    lines = []
    if board.rows:
        lines = [
            f"{config.name}: test scores in percent, mean±std over n seeds; rows by validation score",
            fitted(leaderboard.cells(board), terminal_columns()),
            f"Δ: difference to {board.opponent} in points, paired by seed. Seeds {_span(config)}; seconds of a run.",
            FLOPS,
            INTERVALS,
            *([EXPLAINED] if board.references else []),
        ]
    return "\n".join([*lines, *leaderboard.verdict(board)])


def _draw(found: Findings) -> list[Note]:
    """Save every figure that can be made."""
    config, folder, trials, board = found.config, found.folder, found.trials, found.board
    shown, winner = found.schedules, found.winning_trial

    def curriculum_figure() -> Figure:
        if not shown:
            raise ValueError("no trial is complete")
        return figures.schedules(shown, found.beside)

    def importances_figure() -> Figure:
        return figures.importance(*results.importances(found.study))

    def samples_figure() -> Figure:
        if found.sampled is None:
            raise ValueError("no complete run has a generator")
        run = found.sampled[1]
        return figures.sample_growth(folder / "samples" / run, f"G(z) over G_ema(z), {run}")

    whose = ""
    if found.sampled and board.winner and found.sampled[0] != board.winner.name:
        whose = f"\n\nThe winner {board.winner.name} has no generator; these are of {found.sampled[1]}."
    wanted: dict[str, tuple[str, Callable[[], Figure], str]] = {
        "search": ("Scores over images spent", lambda: figures.search_progress(trials, winner, found.spread), ""),
        "curves": ("Learning curves", lambda: figures.learning_curves(trials, config, winner), ""),
        "schedules": ("Schedules of " + " and ".join(shown), curriculum_figure, ""),
        "importances": (
            "Importance of searched fields",
            importances_figure,
            "",
        ),
        "trade-off": ("Linear against transfer", lambda: figures.trade_off(trials, found.trade_offs), ""),
        "samples": ("Samples by progress", samples_figure, whose),
    }
    notes = []
    for name, (title, draw, caption) in wanted.items():
        file = folder / "figures" / f"{name}.png"
        try:
            plotting.save(draw(), file)
            notes.append((f"![{title}](figures/{name}.png){caption}", ""))
        except ValueError as reason:
            file.unlink(missing_ok=True)  # of an earlier report
            notes.append((title, str(reason)))
    return notes


def _document(found: Findings, drawn: list[Note]) -> str:
    """report.md."""
    config, folder, board, lineages = found.config, found.folder, found.board, found.lineages
    said, *more = leaderboard.verdict(board)
    parts = [f"# {config.name}", f"**{said}**"]
    if board.rows:
        parts += [
            markdown(leaderboard.cells(board)),
            f"Percent, mean ± sample standard deviation over n fresh seeds ({_span(config)}). The column validation is "
            f"the search's objective ({sorted_by(board.objective)}) and sorts the rows; the others are test scores. "
            f"Δ: difference to {board.opponent}, the best real-only found, in points, paired by seed. {INTERVALS} "
            f"Seconds are the wall time of a run, scoring included. {FLOPS}",
            *([EXPLAINED] if board.references else []),
        ]
    parts.append("  \n".join(more))
    if board.winner:
        said, changed = found.winners_settings
        settings = [f"| `{path}` | {value_text(value)} |" for path, value in changed.items()]
        table = "\n".join(["| field | value |", "| --- | ---: |", *settings])
        parts += [
            f"## Settings of {board.winner.name}",
            said,
            *([table] if settings else []),
            "## Its encoder",
            "```python\nfrom synthcl import load_encoder\n\n"
            f'encoder = load_encoder("{viewers.shown(folder / ENCODER)}")\n```',
        ]
    if found.refitted:
        parts += ["## The encoder of all images", f"`{viewers.shown(folder / FOLDER / ENCODER)}`: {found.refitted}"]
    parts.append("## Figures")
    parts += [f"{title}: left out, {reason}." if reason else title for title, reason in drawn]
    if board.rows:
        method = board.contender.name if board.contender else OWN
        parts += sections(summarise(found.confirmed, board.opponent or REAL_ONLY, method, found.references), markdown)
    score = "score"
    if lineages is not None:
        score = lineage.OWN_SCORE
        parts += ["## Lineages", lineage.EXPLAINED, markdown(lineage.cells(lineages))]
    parts += ["## Trials", markdown(trial_cells(found.trials, score), align="llrrl")]
    looked_at = "\n".join(viewers.commands(folder))
    parts += ["## Look closer", f"```sh\n{looked_at}\n```"]
    return "\n\n".join(parts) + "\n"


def _export(storage: Storage, confirmed: list[Record], winner: Row) -> None:
    """The winner's encoder: of its seeds, the one with the best validation score."""
    run = max(
        (record for record in confirmed if record.arm == winner.name),
        key=lambda record: (record.metrics["score"], -record.seed),
    )
    with fetched(storage.ray_uri(run.checkpoint)) as folder:
        encoder, config = load_any(folder, trust_code=True)  # of this search, which has called it
    over_seeds = {metric: vars(statistic) for metric, statistic in winner.scores.items()}
    scores = {"run": results.run_label(run.arm, run.seed), "this_seed": run.metrics, "over_seeds": over_seeds}
    save_encoder(storage.folder / ENCODER, encoder, config, scores)


def _span(config: Config) -> str:
    return ", ".join(map(str, results.confirm_seeds(config)))
