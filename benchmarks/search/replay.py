"""A search played without training: legs last as long as their images, and scores come from a function."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from synthcl.search.optuna_search import StudySearch

Scores = Callable[[str, dict[str, Any], int], float]
"""(label, overrides, images seen) -> score"""
Leg = dict[str, Any]


def report(images: int, score: float | None = None, whole: int = 1000, **more: Any) -> dict[str, Any]:
    """What a trial reports to Tune."""
    scored = {} if score is None else {"score": score, "val/ridge/x": score}
    return {"images": images, "progress": images / whole, "diverged": False, **scored, **more}


def images_of(leg: Leg) -> int:
    """What a leg trains; one that copies trains nothing."""
    return 0 if "parent" in leg else int(leg["until"] - leg["heard"])


def play(
    searcher: StudySearch,
    scores: Scores,
    workers: int = 1,
    whole: int = 1000,
    legs: int | None = None,
    transfer: Scores | None = None,
) -> list[Leg]:
    """Train until the searcher says that all is done; the legs in the order they began.

    Workers encode images at the same rate, and a free one asks for the next leg at once.

    Args:
        searcher: of one contest or two.
        scores: of every run at every rung.
        workers: legs at a time.
        whole: images of a whole run.
        legs: after so many have ended the search is cut off, with the others under way; None lets it end.
        transfer: the second objective, of a search with two.
    """
    begun: list[Leg] = []
    under_way: list[tuple[int, int]] = []  # (when it ends, number)
    now = ended = 0

    def begin() -> bool:
        leg = searcher.suggest(f"leg{len(begun)}")
        if leg is None or leg == Searcher.FINISHED:
            return False
        assert isinstance(leg, dict)
        heapq.heappush(under_way, (now + images_of(leg), len(begun)))
        begun.append(leg)
        return True

    while True:
        while len(under_way) < workers and begin():
            pass
        if not under_way or ended == legs:
            return begun
        now, number = heapq.heappop(under_way)
        leg = begun[number]
        score = scores(leg["label"], leg["overrides"], leg["until"])
        begun[number] = leg | {"score": score}
        told = report(leg["until"], score, whole)
        if transfer is not None:
            told["val/transfer-ridge/mean"] = transfer(leg["label"], leg["overrides"], leg["until"])
        searcher.on_trial_complete(f"leg{number}", told)
        ended += 1
