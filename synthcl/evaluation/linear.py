"""Linear probes on frozen features: ridge regression in closed form and multinomial logistic regression.

Both standardise the features by the training features' mean and standard deviation and turn them into the
eigenbasis of their covariance once; every strength of regularisation shares that work. The strength is chosen
on validation accuracy, so a test split can be scored once with a probe that has never seen it.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from synthcl.evaluation.features import Labelled

RIDGE_PENALTIES = (100.0, 10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
LOGISTIC_PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
GRADIENT_TOLERANCE = 1e-4
"""Largest entry of the preconditioned gradient of a converged fit; 1e-5 takes twice as long for the same accuracies."""
MAX_ITERATIONS = 1000


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
    correlation = basis.rotated.T @ targets / len(targets)  # (d, classes)
    fits = ((penalty, correlation / (basis.variances + penalty)[:, None], bias) for penalty in penalties)
    return _best(basis, fits, validation)


def logistic(
    train: Labelled,
    validation: Labelled,
    classes: int,
    penalties: Sequence[float] = LOGISTIC_PENALTIES,
    tolerance: float = GRADIENT_TOLERANCE,
) -> Probe:
    """Multinomial logistic regression by L-BFGS, warm-started from the strongest penalty to the weakest.

    Minimises mean_i cross_entropy(x_i W + b, y_i) + penalty / 2 * |W|^2 over standardised x; b is free. In
    scikit-learn's terms C = 1 / (n * penalty).

    Args:
        train: what is fitted; features (n, d), labels in [0, classes).
        validation: what the penalty is chosen on.
        classes: number of classes.
        penalties: positive, from strong to weak; of equal accuracies the first wins.
        tolerance: largest entry of the preconditioned gradient at which a fit ends.
    """
    basis = _Basis.of(train.features)
    return _best(basis, _logistic_fits(basis, train.labels, classes, penalties, tolerance), validation)


def percent_equal(predicted: Tensor, labels: Tensor) -> float:
    """Share of equal entries, in percent."""
    return 100 * (predicted == labels).double().mean().item()


@dataclass(frozen=True, eq=False)
class _Basis:
    """Standardised training features in the eigenbasis of their covariance, float64."""

    mean: Tensor  # (d,)
    deviation: Tensor  # (d,)
    axes: Tensor  # (d, d), a column an axis
    variances: Tensor  # (d,), along the axes
    rotated: Tensor  # (n, d)

    @classmethod
    def of(cls, features: Tensor) -> "_Basis":
        features = features.double()
        mean = features.mean(dim=0)
        deviation = features.std(dim=0, correction=0)
        # A dimension that varies less than float32 resolves is constant: it must not be blown up to unit variance.
        deviation = deviation.where(deviation > 1e-6 * features.abs().amax(dim=0), 1.0)
        standardised = (features - mean) / deviation
        variances, axes = torch.linalg.eigh(standardised.T @ standardised / len(features))
        return cls(mean, deviation, axes, variances.clamp(min=0), standardised @ axes)

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


def _logistic_fits(
    basis: _Basis, labels: Tensor, classes: int, penalties: Sequence[float], tolerance: float
) -> Iterator[tuple[float, Tensor, Tensor]]:
    # The bias is the weight of a constant feature, without penalty. Everything is laid out class by class and
    # feature by feature: the thin products of this shape run twice as fast as image by image.
    inputs = torch.cat([basis.rotated.T, basis.rotated.new_ones(1, len(labels))])  # (d + 1, n)
    curvature = torch.cat([basis.variances, basis.variances.new_ones(1)])
    correlation = F.one_hot(labels, classes).double().T @ inputs.T / len(labels)  # (classes, d + 1)
    solution = inputs.new_zeros(classes, len(inputs))  # (classes, d + 1)
    for penalty in penalties:
        decay = torch.full_like(curvature, penalty)
        decay[-1] = 0
        # At equal probabilities the Hessian is diagonal here: variance / classes + penalty. Dividing by its root
        # makes the problem round, and L-BFGS needs tens of iterations where raw features need hundreds.
        scale = (curvature / classes + decay).rsqrt()
        solution = scale * _minimise(inputs, correlation, scale, decay, solution / scale, tolerance)
        yield penalty, solution[:, :-1].T, solution[:, -1]


def _minimise(
    inputs: Tensor, correlation: Tensor, scale: Tensor, decay: Tensor, start: Tensor, tolerance: float
) -> Tensor:
    variables = start.clone().requires_grad_()  # (classes, d + 1)
    optimizer = torch.optim.LBFGS(
        [variables],
        max_iter=MAX_ITERATIONS,
        max_eval=2 * MAX_ITERATIONS,
        tolerance_grad=tolerance,
        tolerance_change=0,  # the gradient alone decides
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        optimizer.zero_grad()
        with torch.enable_grad():
            weight = scale * variables
            logits = weight @ inputs  # (classes, n)
            # Mean cross-entropy: the logits of the right classes are linear in the weight, so they need no gather.
            cross_entropy = logits.logsumexp(dim=0).mean() - (weight * correlation).sum()
            loss = cross_entropy + (decay * weight.square()).sum() / 2
            loss.backward()
        return loss.item()

    optimizer.step(closure)
    closure()
    assert variables.grad is not None
    slope = variables.grad.abs().max().item()
    if not slope <= tolerance:
        warnings.warn(
            f"logistic probe: gradient {slope:.1e} is above {tolerance:.0e} at penalty {decay[0].item():g}",
            stacklevel=2,
        )
    return variables.detach()
