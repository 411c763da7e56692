"""A search that has so many hours ends in time for its confirm runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

MARGIN = 1.1
"""of the time that is kept for what has to follow: runs do not fill the last places evenly"""


@dataclass
class TimeLimit:
    """Asked before every leg whether only what must follow may still be begun.

    Args:
        hours: of this command, from now on.
        following_images: of the confirm runs.
        at_a_time: runs beside each other.
        following_seconds: of what precedes them: the GAN warm-ups of their seeds.
    """

    hours: float
    following_images: float
    at_a_time: int
    following_seconds: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def is_over(self, seconds_an_image: float | None, needed_images: float) -> bool:
        """Whether what is left of the time is needed for what must follow.

        Args:
            seconds_an_image: of a run, measured; None before any run has been heard of.
            needed_images: that complete as many runs as are to be confirmed.
        """
        if seconds_an_image is None:
            return False
        images = (needed_images + self.following_images) / self.at_a_time
        needed = images * seconds_an_image + self.following_seconds
        left = 3600 * self.hours - (time.monotonic() - self.began)
        return left < MARGIN * needed
