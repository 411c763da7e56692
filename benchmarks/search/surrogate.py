"""Scores of configurations that were not recorded: a Gaussian process over what the curriculum does."""

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


def features(config: Config) -> list[float]:
    """What a configuration does, of whatever kind its schedules are: hardness at five times, and ten knobs."""
    curriculum, gan = config.curriculum, config.gan
    return [
        *(math.log(curriculum.hardness.value_at(progress)) for progress in (0.05, 0.25, 0.5, 0.75, 0.95)),
        curriculum.synthetic_fraction.value_at(0.0),
        curriculum.synthetic_fraction.value_at(1.0),
        math.log(curriculum.pair_half_life_kimg.value_at(0.0)),
        curriculum.view_strength.value_at(0.0),
        math.log(config.knobs_at(0.0).scheduled["terms.contrast.temperature"]),
        math.log(gan.generator_learning_rate.value_at(0.0)),
        math.log(gan.discriminator_learning_rate.value_at(0.0)),
    ]


class Surrogate:
    """The expected scores of any configuration, and residuals like those of runs that the process had not seen.

    Residuals are those of cross-validation, so they hold what seeds do and what the process misses. A run's residuals
    at its rungs belong together, so that early rungs tell as much of late ones as recorded.

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
        self.residuals = self.scores - predicted
        covariance = np.cov(self.residuals, rowvar=False) + 1e-9 * np.eye(len(self.rungs))
        self._root = np.linalg.cholesky(covariance)  # (rungs, rungs)
        self._means: dict[str, dict[int, float]] = {}

    @property
    def explained(self) -> dict[int, float]:
        """The share of the variance of runs not seen that the mean explains, by rung."""
        shares = 1 - (self.residuals**2).mean(axis=0) / self.scores.var(axis=0)
        return dict(zip(self.rungs, shares.tolist(), strict=True))

    def mean(self, overrides: dict[str, Any]) -> dict[int, float]:
        """The expected score at every rung."""
        key = json.dumps(overrides, sort_keys=True)
        if key not in self._means:
            found = self._process.predict([self._point(overrides)])[0]
            self._means[key] = dict(zip(self.rungs, found.tolist(), strict=True))
        return self._means[key]

    def normal_residual(self, key: Sequence[int]) -> dict[int, float]:
        """What one run's scores add to the mean: normal numbers with the residuals' covariance over rungs.

        Args:
            key: tells the run from others; the same key gives the same numbers.
        """
        rng = np.random.default_rng([number % 2**32 for number in key])
        drawn = self._root @ rng.standard_normal(len(self.rungs))
        return dict(zip(self.rungs, drawn.tolist(), strict=True))

    def _point(self, overrides: dict[str, Any]) -> Array:
        return np.array(features(self._base.with_overrides(overrides)))


def _process(dimensions: int) -> Pipeline:
    """One kernel for all rungs: features of one another's scale, a length each, and noise."""
    matern = Matern([2.0] * dimensions, (0.3, 100), nu=2.5)
    kernel = ConstantKernel(1.0, (0.05, 20)) * matern + WhiteKernel(0.3, (0.01, 3))
    return make_pipeline(StandardScaler(), GaussianProcessRegressor(kernel, normalize_y=True))
