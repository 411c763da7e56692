"""One study that is searched: its runs as the algorithm sees them, and every change in the journal at once."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, TrialState

from synthcl.core.report import Report
from synthcl.evaluation.names import transfer
from synthcl.search.legs import NO_EXCHANGE, Exchange, Game, IsOut, Leg, NextLeg, Run
from synthcl.search.proposals import Pair, Shown, laid_out, levels, propose, view_of, view_of_two
from synthcl.search.space import Space
from synthcl.search.study import OPPONENT_STUDY, STUDY, TRANSFER, changed_by, name_in, taken_up, transfer_by_rung

Copy = Callable[[dict[str, Any], dict[str, Any], float, int], tuple[dict[str, Any], dict[str, Any]]]
"""(searched values, overrides, progress, number of the copy) -> both of the copy, which changes its knobs from there"""

HOPELESS_RUNS = 4
"""that fail before any other has a score end the search"""


@dataclass(frozen=True)
class Contest:
    """What one study is searched with.

    Args:
        study: which of the run's it is, `STUDY` or `OPPONENT_STUDY`; proposals are drawn by it.
        prefix: of its runs' labels, as in `trial-007`.
        arm: of all its runs, beside what is searched.
        space: what is searched.
        first_point: its own configuration's values along the space, tried first.
        next_leg, is_out: the algorithm.
        rungs: images seen at each, the whole budget of a run last.
        budgets: what it may spend, in whole runs' images.
        most_runs: how many may begin; None sets no limit.
        finish: complete runs, beside the first one, that it ends with.
        keep_one_in: of the runs at a rung.
        seed: of the sampler.
        startup_trials: random runs after the first one before TPE models the space.
        pareto: whether transfer is a second objective beside the score, which is linear then.
        exchange: of a population.
        copy: what a member of it becomes that goes on from another.
        run: its name, by which the journal calls the study.
        metric: what the score is, for people.
    """

    study: str
    prefix: str
    arm: str
    space: Space
    first_point: dict[str, Any]
    next_leg: NextLeg
    is_out: IsOut
    rungs: tuple[int, ...]
    budgets: float
    most_runs: int | None
    finish: int
    keep_one_in: float
    seed: int
    startup_trials: int
    pareto: bool = False
    exchange: Exchange = NO_EXCHANGE
    copy: Copy | None = None
    run: str = STUDY
    metric: str = "score"


_Drawn = tuple[dict[str, Any], dict[str, optuna.distributions.BaseDistribution], dict[str, Any]]
"""values of a new run, the distributions they are from, and of a copy what the journal keeps of its descent"""


class Field:
    """The runs of a contest.

    Args:
        contest: what is searched, and how.
        storage: the journal.
    """

    def __init__(self, contest: Contest, storage: JournalStorage) -> None:
        self.contest = contest
        name = name_in(storage, contest.study, contest.run)
        self.study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
        if self.study.metric_names != [contest.metric]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                self.study.set_metric_names([contest.metric])
        self.runs: list[Run] = []
        self.seconds_an_image: float | None = None
        self._closed_at: float | None = None
        self._frozen: dict[int, FrozenTrial] = {}
        for trial in self.study.get_trials(deepcopy=False):
            self._frozen[trial.number] = trial
            self.runs.append(_run_of(trial, own=self._is_own(trial)))
        for run in self.runs:
            if run.standing == "paused":  # perhaps killed between a score and what follows from it
                self._settle(run)

    def _is_own(self, trial: FrozenTrial) -> bool:
        return trial.number == 0 and self.contest.first_point.items() <= trial.params.items()

    @property
    def game(self) -> Game:
        contest = self.contest
        return Game(
            runs=self.runs,
            rungs=contest.rungs,
            images=contest.budgets * contest.rungs[-1] if self._closed_at is None else self._closed_at,
            most_runs=contest.most_runs,
            finish=contest.finish,
            keep_one_in=contest.keep_one_in,
            own_first=bool(contest.first_point),
            pareto=contest.pareto,
            exchange=contest.exchange,
        )

    @property
    def is_hopeless(self) -> bool:
        """Whether all that has begun has failed, so that no other configuration will do better."""
        return len(self.runs) >= HOPELESS_RUNS and all(run.failed for run in self.runs)

    def close(self) -> None:
        """Nothing is begun any more but what completes those that are to be confirmed."""
        spent = sum(run.promised for run in self.runs)
        self._closed_at = min(self.game.images, spent + self.game.needed())

    @property
    def share_used(self) -> float:
        return sum(run.promised for run in self.runs) / (self.contest.budgets * self.contest.rungs[-1])

    @property
    def is_opponent(self) -> bool:
        return self.contest.study == OPPONENT_STUDY

    def label(self, run: Run) -> str:
        return f"{self.contest.prefix}-{run.number:03d}"

    def overrides(self, run: Run) -> dict[str, Any]:
        """What it changes: its values along the space, or of a copy its whole lineage."""
        return changed_by(self._frozen[run.number])

    def send(self, leg: Leg) -> Run:
        """Write down how far a run goes, before it does."""
        if leg.number is None:
            return self._begin(leg)
        run = self.runs[leg.number]
        run.until, run.standing = leg.until, "training"
        self._trial(run).set_user_attr("until", leg.until)
        return run

    def _begin(self, leg: Leg) -> Run:
        """A new run, whole in one line of the journal: its values, its label and how far it goes."""
        run = Run(number=len(self.runs), until=leg.until)
        params, distributions, lineage = self._proposal(run.number) if leg.parent is None else self._copied(run, leg)
        trial = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions=distributions,
            user_attrs={"label": self.label(run), "until": leg.until}
            | ({"arm": self.contest.arm} if self.is_opponent else {})
            | lineage,
        )
        self.study.add_trial(trial)
        self._frozen[run.number] = self.study.get_trials(deepcopy=False)[-1]
        run.own = self._is_own(self._frozen[run.number])
        self.runs.append(run)
        if run.replaces is not None and self.runs[run.replaces].standing == "paused":
            self._settle(self.runs[run.replaces])
        return run

    def _copied(self, run: Run, leg: Leg) -> _Drawn:
        assert leg.parent is not None
        assert leg.replaces is not None
        assert self.contest.copy is not None
        run.parent, run.replaces, run.inherited = leg.parent, leg.replaces, leg.until
        parent, progress = self._frozen[leg.parent], leg.until / self.contest.rungs[-1]
        params, overrides = self.contest.copy(dict(parent.params), changed_by(parent), progress, run.number)
        lineage = {"parent": leg.parent, "replaces": leg.replaces, "inherited": leg.until, "overrides": overrides}
        labels = {"copied": self.label(self.runs[leg.parent]), "replaced": self.label(self.runs[leg.replaces])}
        return params, parent.distributions, lineage | labels

    def _proposal(self, number: int) -> _Drawn:
        contest = self.contest
        first, startup = contest.first_point if number == 0 else {}, contest.startup_trials + bool(contest.first_point)
        shown = laid_out(self.game)
        values = levels(shown) if contest.pareto else {}
        seen = [self._view(run, values.get(run.number)) for run in shown]
        key = contest.study, contest.seed, number
        return *propose(contest.space, seen, key, startup, first, pareto=contest.pareto), {}

    def _view(self, run: Run, values: Pair | None) -> Shown:
        """As TPE sees it."""
        trial = self._frozen[run.number]
        return view_of_two(trial, values, run) if self.contest.pareto else view_of(trial, run)

    def hear(self, run: Run, report: Report) -> None:
        """Keep a score; one that is told again is known."""
        run.spent = max(run.spent, report.images)
        if report.images and report.seconds:
            self.seconds_an_image = report.seconds / report.images
        if report.score is None or report.images in run.scores:
            return
        trial = self._trial(run)
        if report.failure:
            run.diverged = True
            trial.set_user_attr("diverged", report.failure)
        trial.set_user_attr("metrics", report.scores)
        trial.set_user_attr("images", report.images)
        trial.set_user_attr("spent", sum(other.trained for other in self.runs))
        if self.contest.pareto and report.failure is None:
            run.transfer[report.images] = transfer(report.scores)
            trial.set_user_attr(TRANSFER, {str(images): value for images, value in run.transfer.items()})
        trial.report(report.score, report.images)  # last: where it is missing, all of it is told again
        if report.failure is None:
            run.scores[report.images] = report.score

    def end(self, run: Run, report: Report | None) -> None:
        """A leg is over: the run waits, is complete, or is out. None: it failed."""
        if report is None:
            run.standing, run.failed = "out", True
            self.study.tell(run.number, state=TrialState.FAIL)
        elif report.failure:
            self._give_up(run)
        else:
            run.standing = "paused"
            self._settle(run)

    def _settle(self, run: Run) -> None:
        """What follows from the last score of a run that is on no leg."""
        if run.reached >= self.contest.rungs[-1]:
            score = run.scores[run.reached]
            sound = math.isfinite(score) and math.isfinite(run.transfer.get(run.reached, 0.0))
            run.standing = "complete" if sound else "out"
            ended = (score, None) if sound else (None, TrialState.FAIL)
            self.study.tell(run.number, *ended)
        elif run.diverged or (run.reached and self.contest.is_out(self.game, run)):
            self._give_up(run)

    def _give_up(self, run: Run) -> None:
        run.standing = "out"
        self.study.tell(run.number, state=TrialState.PRUNED)

    def _trial(self, run: Run) -> optuna.Trial:
        return taken_up(self.study, self._frozen[run.number])


def _run_of(trial: FrozenTrial, *, own: bool) -> Run:
    attributes = trial.user_attrs
    scores = dict(trial.intermediate_values)
    if "diverged" in attributes:
        scores.pop(attributes["images"], None)  # the 0 of a run that could not be scored
    run = Run(trial.number, scores, attributes.get("until", 0), spent=attributes.get("images", 0), own=own)
    run.transfer = {rung: value for rung, value in transfer_by_rung(trial).items() if rung in scores}
    run.parent, run.replaces = attributes.get("parent"), attributes.get("replaces")
    run.inherited = attributes.get("inherited", 0)
    run.diverged = "diverged" in attributes and attributes.get("images") in trial.intermediate_values
    if trial.state is TrialState.COMPLETE:
        run.standing = "complete"
    elif trial.state.is_finished():
        run.standing, run.failed = "out", trial.state is TrialState.FAIL
    elif run.diverged or run.reached >= run.until:
        run.standing = "paused"
    return run
