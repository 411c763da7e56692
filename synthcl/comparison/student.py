"""Student's interval of a mean difference, paired by seed."""

from __future__ import annotations

import numpy as np
from scipy import stats

from synthcl.comparison.bootstrap import COVERAGE, Estimate


def paired_difference(scores: list[float], others: list[float]) -> Estimate | None:
    """Mean of the differences d with the interval mean ± t s / √n; None of no seeds, no interval of one.

    t is the quantile of Student's distribution with n - 1 degrees of freedom (4.30 of three seeds, 2.78 of five), s the
    sample standard deviation of the differences. It holds at any n where the differences are normal.

    Args:
        scores, others: of the same seeds in the same order.

    Source: Student, "The Probable Error of a Mean", Biometrika 1908.

    Example:
        >>> paired_difference([81.0, 82.0, 84.0], [80.0, 80.5, 82.0]).signed()
        '+1.50 [+0.26, +2.74]'
    """
    if not scores:
        return None
    differences, n = np.subtract(scores, others), len(scores)
    mean = float(differences.mean())
    if n == 1:
        return Estimate(mean, None, None, 1)
    half = float(stats.t.ppf((1 + COVERAGE) / 2, n - 1) * differences.std(ddof=1) / np.sqrt(n))
    return Estimate(mean, mean - half, mean + half, n)
