"""Scores of configurations that were not recorded: a Gaussian process over what the curriculum does."""

import hashlib
import json
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.search.curves import Curve
from synthcl.config.schema import Config

Array = NDArray[np.float64]
FOLDS = 10
NEIGHBOURS = 16


def features(config: Config) -> list[float]:
    """What a configuration does, of whatever kind its schedules are: hardness at five times, and ten knobs."""
    curriculum, gan = config.curriculum, config.gan
    return [
        *(math.log(curriculum.hardness.value_at(progress)) for progress in (0.05, 0.25, 0.5, 0.75, 0.95)),
        curriculum.synthetic_fraction.value_at(0.0),
        curriculum.synthetic_fraction.value_at(1.0),
        math.log(curriculum.pair_half_life_kimg.start),
        curriculum.view_strength.start,
        math.log(config.terms["contrast"].model_dump()["temperature"]),
        math.log(gan.generator_learning_rate),
        math.log(gan.discriminator_learning_rate),
    ]


class Surrogate:
    """Draws the curve of any configuration: the process's mean, and the whole residual curve of a recorded run.

    That run is one of the 16 whose expected last scores are nearest: good ones scatter less than others. Residuals are
    those of runs that the process had not seen (cross-validation), so they hold what seeds do and what the process
    misses; a curve's residuals stay together, so that early rungs tell as much of late ones as recorded.

    Args:
        base: what overrides change.
        curves: of several configurations, one seed each.
    """

    def __init__(self, base: Config, curves: Sequence[Curve]) -> None:
        self._base = base
        self.rungs = sorted(curves[0].scores)
        points = np.array([self._point(curve.overrides) for curve in curves])  # (curves, features)
        self.scores = np.array([[curve.scores[rung] for rung in self.rungs] for curve in curves])  # (curves, rungs)
        folds = KFold(FOLDS, shuffle=True, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a feature that does nothing: its length is at a bound
            predicted = cross_val_predict(_process(points.shape[1]), points, self.scores, cv=folds)
            self._process = _process(points.shape[1]).fit(points, self.scores)
        self._expected = predicted[:, -1]
        self.residuals = self.scores - predicted

    @property
    def explained(self) -> dict[int, float]:
        """The share of the variance of runs not seen that the mean explains, by rung."""
        shares = 1 - (self.residuals**2).mean(axis=0) / self.scores.var(axis=0)
        return dict(zip(self.rungs, shares.tolist(), strict=True))

    def mean(self, overrides: dict[str, Any]) -> dict[int, float]:
        """The expected score at every rung."""
        return dict(zip(self.rungs, self._process.predict([self._point(overrides)])[0].tolist(), strict=True))

    def draw(self, overrides: dict[str, Any], seed: int) -> dict[int, float]:
        """Scores at every rung of one run; the same for the same overrides and seed."""
        digest = hashlib.sha256(json.dumps([seed, overrides], sort_keys=True).encode()).digest()
        mean = self.mean(overrides)
        like = np.argsort(np.abs(self._expected - mean[self.rungs[-1]]), kind="stable")[:NEIGHBOURS]
        residual = self.residuals[like[int.from_bytes(digest[:8], "big") % len(like)]]
        return {rung: mean[rung] + float(rest) for rung, rest in zip(self.rungs, residual, strict=True)}

    def _point(self, overrides: dict[str, Any]) -> Array:
        return np.array(features(self._base.with_overrides(overrides)))


def _process(dimensions: int) -> Pipeline:
    """One kernel for all rungs: features of one another's scale, a length each, and noise."""
    matern = Matern([2.0] * dimensions, (0.3, 100), nu=2.5)
    kernel = ConstantKernel(1.0, (0.05, 20)) * matern + WhiteKernel(0.3, (0.01, 3))
    return make_pipeline(StandardScaler(), GaussianProcessRegressor(kernel, normalize_y=True))
