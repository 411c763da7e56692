"""The linear probes equal their references, and choose on validation."""

import numpy as np
import pytest
import torch
from blobs import blobs
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional as F

from synthcl.evaluation.features import Labelled
from synthcl.evaluation.probes.linear import GRADIENT_TOLERANCE, LOGISTIC_PENALTIES, RIDGE_PENALTIES, logistic, ridge


def standardised(train: Labelled, features: Tensor) -> np.ndarray:
    reference = train.features.double()
    return ((features.double() - reference.mean(0)) / reference.std(0, correction=0)).numpy()


# --- ridge -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [10.0, 0.1, 1e-4])
def test_ridge_solves_the_normal_equations(penalty):
    train, validation = blobs(90, 0), blobs(60, 1)
    probe = ridge(train, validation, 3, [penalty])
    x, y = standardised(train, train.features), np.eye(3)[train.labels]
    weight = np.linalg.solve(x.T @ x + len(x) * penalty * np.eye(6), x.T @ (y - y.mean(0)))
    expected = standardised(train, validation.features) @ weight + y.mean(0)
    np.testing.assert_allclose(probe.logits(validation.features).numpy(), expected, atol=1e-9)
    assert probe.validation_accuracy == 100 * np.mean(expected.argmax(1) == validation.labels.numpy())


@pytest.mark.parametrize("fit", [ridge, logistic])
def test_more_dimensions_than_images_and_dead_dimensions(fit, recwarn):
    train, validation = blobs(12, 0, dim=30, separation=2), blobs(60, 1, dim=30, separation=2)
    train.features[:, 4] = 0.1  # not representable: its mean is off by a rounding error
    probe = fit(train, validation, 3)
    assert probe.logits(validation.features).isfinite().all()
    assert probe.validation_accuracy > 60
    assert probe.weight[4].abs().max() < 1e-6
    assert not recwarn.list


# --- logistic --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", LOGISTIC_PENALTIES)
def test_logistic_equals_scikit_learn(penalty):
    train, validation = blobs(240, 0), blobs(60, 1)
    probe = logistic(train, validation, 3, [penalty], tolerance=1e-5)
    reference = LogisticRegression(C=1 / (len(train.labels) * penalty), tol=1e-10, max_iter=10000)
    reference.fit(standardised(train, train.features), train.labels.numpy())
    expected = reference.predict_proba(standardised(train, validation.features))
    np.testing.assert_allclose(probe.logits(validation.features).softmax(1).numpy(), expected, atol=2e-4)
    assert probe.validation_accuracy == 100 * np.mean(expected.argmax(1) == validation.labels.numpy())


def test_logistic_gradient_vanishes_at_the_solution_even_on_separable_classes(recwarn):
    train = blobs(60, 0, separation=6)
    for penalty in LOGISTIC_PENALTIES:
        probe = logistic(train, train, 3, [penalty])
        x = torch.from_numpy(standardised(train, train.features))
        deviation = train.features.double().std(0, correction=0)
        weight = (probe.weight * deviation[:, None]).requires_grad_()
        bias = (probe.bias + train.features.double().mean(0) @ probe.weight).requires_grad_()
        loss = F.cross_entropy(x @ weight + bias, train.labels) + penalty / 2 * weight.square().sum()
        loss.backward()
        assert max(weight.grad.abs().max(), bias.grad.abs().max()) < 3 * GRADIENT_TOLERANCE
    assert not recwarn.list


@pytest.mark.parametrize("separation", [0.2, 0.8])
def test_the_chosen_fit_is_the_one_that_its_penalty_alone_would_have(separation):
    """Neither where it started nor the looser fits among which it was chosen can be seen in it."""
    train, validation = blobs(240, 0, separation=separation), blobs(300, 1, separation=separation)
    for last in range(1, len(LOGISTIC_PENALTIES) + 1):
        chosen = logistic(train, validation, 3, LOGISTIC_PENALTIES[:last], tolerance=1e-6)
        alone = logistic(train, validation, 3, [chosen.penalty], tolerance=1e-6)
        torch.testing.assert_close(chosen.logits(train.features), alone.logits(train.features), atol=5e-3, rtol=1e-3)
        assert chosen.validation_accuracy == alone.validation_accuracy


@pytest.mark.parametrize(("fit", "penalties"), [(ridge, RIDGE_PENALTIES), (logistic, LOGISTIC_PENALTIES)])
def test_the_penalty_is_chosen_on_validation(fit, penalties):
    train, validation = blobs(48, 0, dim=20, separation=0.2), blobs(300, 1, dim=20, separation=0.2)
    accuracy = {penalty: fit(train, validation, 3, [penalty]).validation_accuracy for penalty in penalties}
    chosen = fit(train, validation, 3)
    assert chosen.validation_accuracy == max(accuracy.values()) == accuracy[chosen.penalty]
    assert chosen.accuracy(validation) == chosen.validation_accuracy
    for penalty in (penalties[0], penalties[2]):  # the same training images, and a validation split that agrees
        predicted = fit(train, validation, 3, [penalty]).predict(validation.features)
        assert fit(train, Labelled(validation.features, predicted), 3).penalty == penalty


def test_of_equal_accuracies_the_strongest_penalty_wins():
    train = blobs(60, 0, separation=6)
    assert ridge(train, train, 3, [1e-2, 1e-3]).penalty == 1e-2
    with pytest.raises(ValueError, match="penalties is empty"):
        ridge(train, train, 3, [])
