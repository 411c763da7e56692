"""What scoring an encoder costs: ridge and logistic probes against 100 epochs of SGD, and their share of a trial.

    python -m benchmarks.speed.probes [--quick] [field=value ...]

A linear probe is usually trained by SGD for 100 epochs, once for every strength of regularisation and every learning
rate that is tried. Here all are fitted to the same features, which an encoder gave once, and choose the strength on
the same validation images. All are bound by products of the features (images x dimensions) with as many columns as
there are classes: 200 such products an SGD fit, about 100 for ridge's covariance (all strengths) and some 700 for the
Newton steps of logistic regression (all strengths), in larger pieces.

The share of a trial is that of the default preset: its steps, and its scores at every rung. It is bound by the
encoder's forward pass over the images that are scored. `--quick` trains shorter, tries one rate and times once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.support.harness import arguments, finish, interleave, ratio, table
from synthcl import load_preset
from synthcl.comparison.arms import apply_arm
from synthcl.config.cli import parse_overrides
from synthcl.config.schema import Config
from synthcl.core.rng import generator
from synthcl.data import open_split
from synthcl.evaluation import protocol
from synthcl.evaluation.features import Labelled
from synthcl.evaluation.probes.linear import LOGISTIC_PENALTIES, RIDGE_PENALTIES, logistic, ridge
from synthcl.runs.gan_cache import warm_up
from synthcl.training.trainer import Trainer

EPOCHS = 100
BATCH_IMAGES = 256
LEARNING_RATES = (0.1, 1.0, 0.01)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Score:
    """Percent of the images that a fit classifies rightly."""

    validation: float
    test: float


@dataclass(frozen=True)
class Task:
    """Features of one encoder, to be fitted on train and chosen on validation."""

    train: Labelled
    validation: Labelled
    test: Labelled
    classes: int


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("overrides", nargs="*", metavar="field=value")
    options = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    config = load_preset("fashion-mini").with_overrides(parse_overrides(options.overrides))
    ratios = compare_probes(config, options.quick)
    print()
    finish(ratios | share_of_trial(config, options.quick))


def compare_probes(config: Config, quick: bool) -> dict[str, float]:
    """Print what the probes take and reach on a real-only encoder's features, and give the ratios."""
    task = embed(train(config.with_overrides({"training.kimg": config.training.kimg / 8}) if quick else config), config)
    rates = LEARNING_RATES[:1] if quick else LEARNING_RATES
    runs = {(rate, penalty): sgd(task, penalty, rate) for rate in rates for penalty in LOGISTIC_PENALTIES}
    best_rate, best_penalty = max(runs, key=lambda settings: runs[settings].validation)
    fits: dict[str, Callable[[], object]] = {
        "ridge": partial(ridge, task.train, task.validation, task.classes),
        "logistic": partial(logistic, task.train, task.validation, task.classes),
        "sgd": partial(sgd, task, best_penalty, best_rate),
    }
    timings = interleave(fits, repeats=1 if quick else 5)
    closed, newton = (fit(task.train, task.validation, task.classes) for fit in (ridge, logistic))
    by_ridge, by_logistic = (Score(probe.validation_accuracy, probe.accuracy(task.test)) for probe in (closed, newton))
    by_sgd, once = runs[best_rate, best_penalty], timings["sgd"].median
    penalties = len(LOGISTIC_PENALTIES)
    print(f"{len(task.train.labels)} images, {task.train.features.shape[1]} features, {task.classes} classes\n")
    rows = (
        (f"ridge, {len(RIDGE_PENALTIES)} penalties", timings["ridge"].median, by_ridge),
        (f"logistic, {penalties} penalties", timings["logistic"].median, by_logistic),
        ("SGD, the best penalty and rate", once, by_sgd),
        (f"SGD, {penalties} penalties, the best rate", penalties * once, by_sgd),
        (f"SGD, {penalties} penalties, rates {rates}", len(runs) * once, by_sgd),
    )
    table(
        ("probe", "seconds", "validation %", "test %"), [(*row, score.validation, score.test) for *row, score in rows]
    )
    one_fit = ratio(timings["sgd"], timings["logistic"])
    return {
        "one_sgd_fit_over_logistic": one_fit,
        "sgd_over_logistic": penalties * one_fit,
        "sgd_over_ridge": penalties * ratio(timings["sgd"], timings["ridge"]),
        "logistic_minus_sgd_validation_points": by_logistic.validation - by_sgd.validation,
        "logistic_minus_sgd_test_points": by_logistic.test - by_sgd.test,
    }


def sgd(task: Task, penalty: float, learning_rate: float) -> Score:
    """A linear layer on standardised features by SGD with momentum and a cosine schedule."""
    features, labels = task.train
    mean, deviation = features.mean(dim=0), features.std(dim=0).clamp(min=1e-6)
    features = (features - mean) / deviation
    layer = nn.Linear(features.shape[1], task.classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    groups = [{"params": [layer.weight], "weight_decay": penalty}, {"params": [layer.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, learning_rate, momentum=0.9, nesterov=True)
    batches = max(1, len(labels) // BATCH_IMAGES)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * batches)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(labels), generator=generator("sgd", epoch))
        for rows in order.split(BATCH_IMAGES)[:batches]:
            optimizer.zero_grad()
            F.cross_entropy(layer(features[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        percent = [
            100 * (layer((part.features - mean) / deviation).argmax(dim=1) == part.labels).float().mean().item()
            for part in (task.validation, task.test)
        ]
    return Score(*percent)


def train(config: Config) -> nn.Module:
    """A real-only encoder after the whole budget."""
    trainer = Trainer(apply_arm(config, "real-only"), open_split(config.data, "unlabelled", CPU).images, None, CPU)
    trainer.advance(config.training.steps)
    return trainer.networks.encoder


def embed(encoder: nn.Module, config: Config) -> Task:
    """The features that the protocol's probes are fitted to and scored on."""
    task = protocol._embed(encoder, config, CPU, None, test=True)
    return Task(task.train, task.validation, task.scored["test"], task.classes)


def share_of_trial(config: Config, quick: bool) -> dict[str, float]:
    """Print what a joint trial is made of: steps, scores at early rungs, that at the last; give evaluation's share."""
    steps = 10 if quick else 40
    images = open_split(config.data, "unlabelled", CPU).images
    gan, _ = warm_up(config.with_overrides({"synthetic.gan.warmup_kimg": 1.0}), images, CPU, progress=False)
    trainer = Trainer(config.with_overrides({"training.kimg": 1e6}), images, gan, CPU)
    pieces: dict[str, Callable[[], object]] = {
        "steps": lambda: trainer.advance(trainer.step + steps),
        "early rungs": partial(protocol.score, trainer.networks.encoder, config, CPU, quick=True),
        "last rung": partial(protocol.score, trainer.networks.encoder, config, CPU, quick=False, early=True),
    }
    timings = interleave(pieces, repeats=1 if quick else 5)
    rungs = config.evaluation.rungs
    often = {"steps": config.training.steps / steps, "early rungs": len(rungs) - 1, "last rung": 1}
    seconds = {name: often[name] * timing.median for name, timing in timings.items()}
    whole = sum(seconds.values())
    table(("a whole trial's", "seconds", "share"), [(name, spent, spent / whole) for name, spent in seconds.items()])
    trained, scored = rungs[0] * seconds["steps"], timings["early rungs"].median
    return {
        "evaluation_share_of_whole_trial": 1 - seconds["steps"] / whole,
        "evaluation_share_of_trial_stopped_first": scored / (trained + scored),
    }


if __name__ == "__main__":
    main()
