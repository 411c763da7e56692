"""Linear probes on frozen features: ridge regression in closed form and multinomial logistic regression.

Both standardise the features by the training features' mean and standard deviation and turn them into the
eigenbasis of their covariance once; every strength of regularisation shares that work. The strength is chosen
on validation accuracy, so a test split can be scored once with a probe that has never seen it.
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from synthcl.evaluation.features import Labelled

RIDGE_PENALTIES = (100.0, 10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
LOGISTIC_PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
GRADIENT_TOLERANCE = 1e-4
"""Largest entry of the preconditioned gradient of a converged fit; 1e-5 takes twice as long for the same accuracies."""
CHOICE_TOLERANCE = 3e-3
"""Likewise of the fits among which the penalty is chosen; only the chosen one is worth the rest of the way."""
MAX_STEPS = 100
MAX_DIRECTIONS = 200
FORCING = 0.3
"""Conjugate gradients end a Newton step when this share of the gradient is left."""


@dataclass(frozen=True, eq=False)
class Probe:
    """A fitted linear classifier on raw (not standardised) features."""

    penalty: float  # chosen on validation
    validation_accuracy: float  # percent
    weight: Tensor  # (feature_dim, classes) float64
    bias: Tensor  # (classes,) float64

    def logits(self, features: Tensor) -> Tensor:
        """Scores (n, classes), float64, of features (n, feature_dim)."""
        return features.double() @ self.weight + self.bias

    def predict(self, features: Tensor) -> Tensor:
        """Labels (n,), int64, of features (n, feature_dim)."""
        return self.logits(features).argmax(dim=1)

    def accuracy(self, data: Labelled) -> float:
        """Top-1 accuracy in percent."""
        return percent_equal(self.predict(data.features), data.labels)


def ridge(train: Labelled, validation: Labelled, classes: int, penalties: Sequence[float] = RIDGE_PENALTIES) -> Probe:
    """Ridge regression to one-hot targets, all penalties from one eigendecomposition.

    Minimises mean_i |x_i W + b - onehot(y_i)|^2 + penalty * |W|^2 over standardised x; b is free.

    Args:
        train: what is fitted; features (n, d), labels in [0, classes).
        validation: what the penalty is chosen on.
        classes: number of classes.
        penalties: positive, from strong to weak; of equal accuracies the first wins.
    """
    basis = _Basis.of(train.features)
    targets = F.one_hot(train.labels, classes).double()  # (n, classes)
    bias = targets.mean(dim=0)
    correlation = basis.axes.T @ (basis.standardise(train.features).T @ targets) / len(targets)  # (d, classes)
    fits = ((penalty, correlation / (basis.variances + penalty)[:, None], bias) for penalty in penalties)
    return _best(basis, fits, validation)


def logistic(
    train: Labelled,
    validation: Labelled,
    classes: int,
    penalties: Sequence[float] = LOGISTIC_PENALTIES,
    tolerance: float = GRADIENT_TOLERANCE,
) -> Probe:
    """Multinomial logistic regression by Newton's method, from the strongest penalty to the weakest.

    Minimises mean_i cross_entropy(x_i W + b, y_i) + penalty / 2 * |W|^2 over standardised x; b is free. In
    scikit-learn's terms C = 1 / (n * penalty). The penalty is chosen among fits that end at CHOICE_TOLERANCE; the
    chosen one goes on to `tolerance`.

    Args:
        train: what is fitted; features (n, d), labels in [0, classes).
        validation: what the penalty is chosen on.
        classes: number of classes.
        penalties: positive, from strong to weak; of equal accuracies the first wins.
        tolerance: largest entry of the preconditioned gradient at which the chosen fit ends.

    Source: Nocedal and Wright, "Numerical Optimization", 2nd edition, algorithm 7.1 (line search Newton-CG).
    """
    basis = _Basis.of(train.features)
    problem = _CrossEntropy.of(basis, train, classes)
    solution, fits = problem.start, {}
    for penalty in penalties:
        solution = fits[penalty] = problem.minimise(penalty, solution, max(tolerance, CHOICE_TOLERANCE))
    chosen = _best(basis, ((penalty, *_split(fit)) for penalty, fit in fits.items()), validation).penalty
    finished = problem.minimise(chosen, fits[chosen], tolerance)
    return _best(basis, [(chosen, *_split(finished))], validation)


def percent_equal(predicted: Tensor, labels: Tensor) -> float:
    """Share of equal entries, in percent."""
    return 100 * (predicted == labels).double().mean().item()


@dataclass(frozen=True, eq=False)
class _Basis:
    """The eigenbasis of the covariance of standardised training features, float64."""

    mean: Tensor  # (d,)
    deviation: Tensor  # (d,)
    axes: Tensor  # (d, d), a column an axis
    variances: Tensor  # (d,), along the axes

    @classmethod
    def of(cls, features: Tensor) -> "_Basis":
        features = features.double()
        mean = features.mean(dim=0)
        deviation = features.std(dim=0, correction=0)
        # A dimension that varies less than float32 resolves is constant: it must not be blown up to unit variance.
        deviation = deviation.where(deviation > 1e-6 * features.abs().amax(dim=0), 1.0)
        standardised = (features - mean) / deviation
        variances, axes = torch.linalg.eigh(standardised.T @ standardised / len(features))
        return cls(mean, deviation, axes, variances.clamp(min=0))

    def standardise(self, features: Tensor) -> Tensor:
        """Features (n, d) with mean 0 and variance 1 in every dimension of the training features."""
        return (features.double() - self.mean) / self.deviation

    def undo(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The same classifier on raw features."""
        raw = self.axes @ weight / self.deviation[:, None]
        return raw, bias - self.mean @ raw


def _best(basis: _Basis, fits: Iterable[tuple[float, Tensor, Tensor]], validation: Labelled) -> Probe:
    best: Probe | None = None
    for penalty, weight, bias in fits:
        raw_weight, raw_bias = basis.undo(weight, bias)
        predicted = (validation.features.double() @ raw_weight + raw_bias).argmax(dim=1)
        accuracy = percent_equal(predicted, validation.labels)
        if best is None or accuracy > best.validation_accuracy:
            best = Probe(penalty, accuracy, raw_weight, raw_bias)
    if best is None:
        raise ValueError("penalties is empty; a probe needs at least one")
    return best


@dataclass(frozen=True, eq=False)
class _CrossEntropy:
    """Mean cross-entropy of a linear classifier in the eigenbasis: its bias is the weight of a constant feature.

    Everything is laid out class by class and feature by feature, for the thin products of this shape run twice as
    fast as image by image; and in float32, which takes half the time of float64.
    """

    inputs: Tensor  # (d + 1, n)
    curvature: Tensor  # (d + 1,), mean square of each input
    correlation: Tensor  # (classes, d + 1), mean over images of onehot(label) times input

    @classmethod
    def of(cls, basis: _Basis, train: Labelled, classes: int) -> "_CrossEntropy":
        rotated = basis.axes.T.float() @ basis.standardise(train.features).T.float()
        inputs = torch.cat([rotated, rotated.new_ones(1, rotated.shape[1])])
        curvature = torch.cat([basis.variances, basis.variances.new_ones(1)]).float()
        correlation = F.one_hot(train.labels, classes).float().T @ inputs.T / len(train.labels)
        return cls(inputs, curvature, correlation)

    @property
    def start(self) -> Tensor:
        """Weights (classes, d + 1) of the classifier that knows nothing."""
        return torch.zeros_like(self.correlation)

    def minimise(self, penalty: float, weight: Tensor, tolerance: float) -> Tensor:
        """Weights (classes, d + 1) that minimise the cross-entropy with penalty / 2 * |W|^2.

        A step is halved until the gradient shrinks. Only gradients are compared: float32 resolves them at the
        solution, where it no longer resolves losses, which stalls the line search of L-BFGS.
        """
        decay = torch.full_like(self.curvature, penalty)
        decay[-1] = 0  # of the bias
        unit = (self.curvature / len(weight) + decay).rsqrt()  # of the Hessian at equal probabilities
        probabilities, gradient = self._gradient(weight, decay)
        for _ in range(MAX_STEPS):
            if (slope := (unit * gradient).abs().max().item()) <= tolerance:
                return weight
            scale = self._scale(probabilities, decay)
            step = self._newton_step(probabilities, gradient, decay, scale)
            length, size = 1.0, (gradient.square() / scale).sum()
            while True:
                probabilities, ahead = self._gradient(weight + length * step, decay)
                if (ahead.square() / scale).sum() <= (1 - length / 10) * size or length < 1e-3:
                    break
                length /= 2
            weight, gradient = weight + length * step, ahead
        warnings.warn(
            f"logistic probe: gradient {slope:.1e} is above {tolerance:.0e} at penalty {penalty:g}", stacklevel=2
        )
        return weight

    def _gradient(self, weight: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities (classes, n), and the gradient (classes, d + 1)."""
        probabilities = (weight @ self.inputs).softmax(dim=0)
        return probabilities, probabilities @ self.inputs.T / self.inputs.shape[1] - self.correlation + decay * weight

    def _scale(self, probabilities: Tensor, decay: Tensor) -> Tensor:
        """The Hessian's diagonal if every image were equally hard: positive, (classes, d + 1)."""
        hardness = (probabilities * (1 - probabilities)).mean(dim=1, keepdim=True)
        return (hardness * self.curvature + decay).clamp(min=1e-6)

    def _newton_step(self, probabilities: Tensor, gradient: Tensor, decay: Tensor, scale: Tensor) -> Tensor:
        """The step to where the gradient would vanish, by preconditioned conjugate gradients."""
        step, residual = torch.zeros_like(gradient), -gradient
        direction = residual / scale
        size = (residual * direction).sum()
        enough = FORCING**2 * size
        for _ in range(MAX_DIRECTIONS):
            change = probabilities * (direction @ self.inputs)  # of the probabilities, to first order
            change -= probabilities * change.sum(dim=0)
            bent = change @ self.inputs.T / self.inputs.shape[1] + decay * direction
            length = size / (direction * bent).sum()
            step += length * direction
            residual -= length * bent
            last, size = size, (residual.square() / scale).sum()
            if size <= enough:
                break
            direction = residual / scale + (size / last) * direction
        return step


def _split(solution: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (d, classes) and bias (classes,), float64."""
    return solution[:, :-1].T.double(), solution[:, -1].double()
