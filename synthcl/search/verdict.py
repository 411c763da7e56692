"""What a paired difference and a column say, in words."""

from __future__ import annotations

from synthcl.comparison.intervals import Estimate


def judged(contender: str, opponent: str, found: Estimate | None, score: str) -> str:
    """Whether the best configuration of the method is better than the best of real images alone, and how sure that is.

    Args:
        contender, opponent: names of their rows.
        found: the first minus the second on test, in points, paired by seed; None without a common seed.
        score: linear or transfer.
    """
    if found is None:
        return f"No verdict: {contender} and {opponent} have no test score of one seed in common."
    how = f"on test ({score}, {found.n} seed{'s' * (found.n > 1)})"
    if found.low is None or found.high is None:
        return f"No verdict from one seed: {contender} minus {opponent}, the best real-only, {found} {how}."
    if found.low > 0:
        gain = f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"
        return f"{contender} beats the best real-only found ({opponent}) by {gain} points {how}."
    if found.high < 0:
        return (
            f"Real images alone are better here; the generator does not pay: {contender} minus {opponent} "
            f"{found} points {how}."
        )
    return f"{contender} is not told apart from the best real-only found ({opponent}): {found} points {how}."


def sorted_by(objective: str) -> str:
    """What the column validation holds, which sorts the rows."""
    return "linear, of two objectives" if objective == "pareto" else objective


def probe_of(metric: str) -> str:
    """Whether a metric is of `transfer`, or of the `linear` probe on the data set itself."""
    return "transfer" if "/transfer/" in metric else "linear"
