"""The page of a search while it runs: written by the driver after a leg has ended, seldom and at next to no cost."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from synthcl.config.schema import Config
from synthcl.core.errors import first_line
from synthcl.core.progress import say
from synthcl.core.report import Report
from synthcl.data import ImageSource
from synthcl.runs.storage import Storage
from synthcl.search import results, run_page
from synthcl.search.findings import Findings
from synthcl.search.now import WARM_UP, Now, Work
from synthcl.search.page_pictures import draw_real
from synthcl.search.stage_log import StageLog, label
from synthcl.search.study import RecordedStudy, load_study

EVERY_SECONDS = 20.0
"""between two pages at least"""
_SHARE = 0.01
"""of the driver's time at most, where there are so many trials that a page takes long"""


class LivePage:
    """Writes `report.html` and `progress.json` as the search goes on; a failure to do so is said once and ends nothing.

    Args:
        config: of the search.
        storage: holds its folder.
    """

    def __init__(self, config: Config, storage: Storage) -> None:
        self._config, self._folder = config, storage.folder
        self.now, self.changed = Now.read(self._folder), False
        self._study: RecordedStudy | None = None
        self._slow: dict[str, str] = {}
        self._next, self._told = 0.0, False

    def begin(self, images: ImageSource) -> None:
        """The search begins, with the warm-up of its GAN; some of the unlabelled images are kept to be shown."""
        try:
            draw_real(self._folder, self._config, images)
        except Exception as error:
            self._failed(error)
        self.enter(WARM_UP)

    def enter(self, stage: str) -> None:
        """A stage begins: pages are written as it goes on, and at once."""
        self.now = Now(stage=stage, works=self.now.works)
        self.write()

    def make_slow_parts(self) -> None:
        """Make what takes seconds, such as importances, for the pages from now on."""
        try:
            self._slow = run_page.slow_parts(self._found(), trust_code=True)  # of this search, which has called it
        except Exception as error:
            self._failed(error)

    def __enter__(self) -> LivePage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.enter("")  # nothing is under way any more

    def look(self) -> None:
        """Write what is due: the small file, and the page where something has changed since."""
        if time.monotonic() < self._next:
            return
        if self.changed:
            self.write()
        else:
            self._next = time.monotonic() + EVERY_SECONDS
            self._attempt(page=False)

    def write(self) -> None:
        """Both files, at once."""
        began = time.monotonic()
        self._attempt(page=True)
        ended, self.changed = time.monotonic(), False
        self._next = ended + max(EVERY_SECONDS, (ended - began) / _SHARE)

    def _attempt(self, *, page: bool) -> None:
        try:
            self.now.write(self._folder)
            if page:
                run_page.write(self._found(), self.now, self._slow)
        except Exception as error:  # whatever it is: a search that trains for days does not end for its picture
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        if not self._told:
            say(f"{run_page.FILE} is not kept up to date: {first_line(error)}")
        self._told = True

    def _found(self) -> Findings:
        if self._study is None:
            self._study = load_study(self._folder / results.JOURNAL)  # later it reads on where it stopped
        return Findings.read(self._config, self._folder, self._study)


class Follow(Callback):
    """Tells a `LivePage` of the runs of one stage.

    Args:
        page: to be written.
        stage: such as search-1.
        log: of the same stage, which comes before it among the callbacks.
    """

    def __init__(self, page: LivePage, stage: str, log: StageLog) -> None:
        self._page, self._stage, self._log = page, stage, log

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        training, name = self._page.now.training, label(trial)
        if name not in training:
            training.append(name)
        self._page.changed = True

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        host = result.get("hostname", "")
        self._page.now.works[label(trial)] = Work.of(self._stage, Report.from_dict(result), host)
        self._page.changed = True

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        training, name = self._page.now.training, label(trial)
        if name in training:
            training.remove(name)
        self._page.changed = True

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.on_trial_complete(iteration, trials, trial)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if (progress := self._log.progress) is not None:
            now = self._page.now
            now.kimg, now.total_kimg, now.left_seconds = progress.done, progress.total, progress.left_seconds
        self._page.look()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # the page stays with the driver
