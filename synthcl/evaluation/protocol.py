"""The protocol: which probes are fitted on what, and the names of their scores, in percent.

    features/std, features/rank spread and effective rank of the features themselves, to tell a collapsed encoder

    val/knn/<set>               weighted nearest neighbours, among max_label_images labels (all of them by default)
    val/ridge/<set>             ridge probe on as many; at rungs before the last, on early_label_images
    val/linear/<set>@<p>        logistic probe on p percent of the training labels
    val/linear/<set>@<n>-labels logistic probe on n of them
    val/transfer/<target>@100   logistic probe on another data set, or @<n>-labels where max_label_images caps it
    val/transfer/mean           the mean of those
    val/transfer-ridge/<target> ridge probe there, at early rungs of a search by transfer; and .../mean
    val/early-ridge/<set>       at the last rung, what val/ridge/<set> is at the rungs before it; and
    val/early-transfer-ridge/.. likewise: one measure over a whole run

A data set without labels has features/ and transfer alone.

Every probe is fitted on train and its regularisation chosen on validation, and `score` never opens a test split
unless told to. Then the same fitted probes are scored on test as well, under `test/`: nothing is fitted again on
train and validation together, so the two columns differ in the images scored and in nothing else.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from synthcl.config.schema import Config
from synthcl.config.sections import DataConfig, EvaluationConfig
from synthcl.core.errors import UserError
from synthcl.data import (
    ImageSource,
    Split,
    SplitName,
    has_labels,
    open_sample,
    open_split,
    open_transfer,
    require_classes,
)
from synthcl.data.features import encode
from synthcl.evaluation import names, panel
from synthcl.evaluation.features import Labelled
from synthcl.evaluation.labels import label_count, label_order, most_labels, require_labels
from synthcl.evaluation.probes import knn
from synthcl.evaluation.probes.linear import logistic, ridge
from synthcl.evaluation.scores import collapse

Part = Literal["val", "test"]
_RANK_IMAGES = 2048  # more do not change what a collapse looks like


def score(
    encoder: nn.Module, config: Config, device: torch.device, *, quick: bool, test: bool = False, early: bool = False
) -> dict[str, float]:
    """Scores of a frozen encoder, in percent; of a data set without labels only `features/...` and transfer.

    Args:
        encoder: (n, C, view_size, view_size) in [-1, 1] -> (n, feature_dim), on `device`.
        config: the run's configuration.
        device: where images, features and probes live.
        quick: true at every rung but the last: nearest neighbours and ridge only, on fewer labelled images, and
            transfer only when the search's objective asks for it.
        test: also score the test splits; once, when every choice has been made.
        early: where not quick, also what the rungs before the last measure, on the same features.

    Raises:
        UserError: when features are not finite, train or validation lacks a class, or there are too few labels.
    """
    settings = config.evaluation
    labelled = has_labels(config.data)
    by_transfer = config.search.objective not in ("linear", "label_free") or not labelled
    if labelled:
        metrics = _score_own(encoder, config, device, quick=quick, test=test, early=early)
    else:
        metrics = collapse(_encoded(encoder, config, _open_sample(config.data, device)))
    if quick and not by_transfer:
        return metrics

    kind, fit = ("transfer-ridge", ridge) if quick else ("transfer", logistic)
    reached: dict[str, list[float]] = {}
    for target in settings.transfer:
        task = _embed(encoder, config, device, target, test, quick)
        probe = fit(task.train, task.validation, task.classes)
        suffix = "" if quick else names.fitted(len(task.train.labels), task.train_images)
        for part, images in task.scored.items():
            metrics[f"{part}/{kind}/{target}{suffix}"] = probe.accuracy(images)
            reached.setdefault(f"{part}/{kind}", []).append(metrics[f"{part}/{kind}/{target}{suffix}"])
        if early and not quick and by_transfer:
            metrics[f"val/early-transfer-ridge/{target}"] = _early(task, settings)
            reached.setdefault("val/early-transfer-ridge", []).append(metrics[f"val/early-transfer-ridge/{target}"])
    return metrics | {f"{name}/mean": sum(scores) / len(scores) for name, scores in reached.items()}


def _score_own(
    encoder: nn.Module, config: Config, device: torch.device, *, quick: bool, test: bool, early: bool
) -> dict[str, float]:
    """Spread of the features, and probes on the data set that was pretrained on."""
    settings, source = config.evaluation, config.data.source
    task = _embed(encoder, config, device, None, test, quick)
    ridge_probe = ridge(task.train, task.validation, task.classes)
    metrics = collapse(task.train.features[:_RANK_IMAGES])
    for part, images in task.scored.items():
        metrics[f"{part}/knn/{source}"] = knn.accuracy(task.train, images, task.classes, settings.knn_neighbours)
        metrics[f"{part}/ridge/{source}"] = ridge_probe.accuracy(images)
    if not quick:
        for entry in settings.label_fractions:
            labelled = task.train.first(label_count(entry, task.train_images, task.classes))
            probe = logistic(labelled, task.validation, task.classes)
            for part, images in task.scored.items():
                metrics[f"{part}/{names.linear(source, entry)}"] = probe.accuracy(images)
        if early:
            metrics[f"val/early-ridge/{source}"] = _early(task, settings)
    return metrics


def is_scored(config: Config) -> bool:
    """Whether there is something to choose by: labels of the data set or of a transfer set, or a calibrated score."""
    by_panel = config.search.objective == "label_free"
    return by_panel or has_labels(config.data) or bool(config.evaluation.transfer)


def is_last(metrics: Mapping[str, Any], config: Config) -> bool:
    """Whether metrics are those of the last rung, where logistic probes are fitted."""
    return f"val/{names.headline(config)}" in metrics or "val/transfer/mean" in metrics


def objective(metrics: dict[str, float], config: Config) -> float:
    """The one number a trial is compared by, higher is better.

    At a quick rung the ridge scores stand in for the logistic ones. The two kinds are close but not equal, so
    objectives are comparable between trials at the same rung, which is where successive halving compares them.

    Args:
        metrics: what `score` returned.
        config: its search section says linear, transfer (mean over targets), or weighted:
            (1 - transfer_weight) * linear + transfer_weight * transfer. Of pareto it is the linear one, beside which
            `names.transfer` is compared. Without labels of its own it is transfer. Of label_free it is that score.

    Raises:
        UserError: when the objective needs a score that the protocol did not measure.
    """
    if config.search.objective == "label_free":
        return panel.judged(metrics, config)
    final = (f"val/{names.headline(config)}", "val/transfer/mean")
    return _weighted(metrics, config, final if is_last(metrics, config) else _early_names(config))


def rung_score(metrics: dict[str, float], config: Config) -> float:
    """The objective by the measure of the early rungs, also at the last one: what a learning curve is made of.

    Args:
        metrics: what `score` returned, at the last rung with `early`.
        config: as for `objective`.

    Raises:
        UserError: when the objective needs a score that the protocol did not measure.
    """
    if config.search.objective == "label_free":
        return panel.judged(metrics, config)  # one measure over a whole run
    return _weighted(metrics, config, _early_names(config, "early-" if is_last(metrics, config) else ""))


def _early_names(config: Config, prefix: str = "") -> tuple[str, str]:
    return f"val/{prefix}ridge/{config.data.source}", f"val/{prefix}transfer-ridge/mean"


def _weighted(metrics: dict[str, float], config: Config, measured: tuple[str, str]) -> float:
    """The search's objective over a linear and a transfer score."""
    share = _transfer_share(config)
    total = 0.0
    for name, weight in zip(measured, (1 - share, share), strict=True):
        if weight and name not in metrics:
            raise UserError(
                f"search.objective={config.search.objective!r} needs the score {name!r}, which was not measured; "
                f"name a data set in evaluation.transfer={list(config.evaluation.transfer)} or use 'linear'"
            )
        total += weight * metrics[name] if weight else 0.0
    return total


def _transfer_share(config: Config) -> float:
    """Of the transfer score in the objective."""
    if not has_labels(config.data):
        return 1.0
    shares = {"linear": 0.0, "pareto": 0.0, "transfer": 1.0, "weighted": config.search.transfer_weight}
    return shares[config.search.objective]


class _Task(NamedTuple):
    train: Labelled  # every prefix is stratified
    validation: Labelled
    scored: dict[Part, Labelled]
    classes: int
    train_images: int  # before the cap on labels


def _early(task: _Task, settings: EvaluationConfig) -> float:
    """Validation accuracy of the ridge probe of the early rungs, on features that are there."""
    few = task.train.first(most_labels(settings, task.train_images, task.classes, quick=True))
    return ridge(few, task.validation, task.classes).accuracy(task.validation)


def _embed(
    encoder: nn.Module, config: Config, device: torch.device, target: str | None, test: bool, quick: bool = False
) -> _Task:
    def features(split: Split, rows: Tensor | None = None) -> Labelled:
        encoded = _encoded(encoder, config, split.images, rows)
        return Labelled(encoded, (split.labels if rows is None else split.labels[rows]).to(encoded.device))

    # A view's size is all that an encoder sees of a set it was not trained on.
    data = config.data if target is None else config.data.model_copy(update={"image_size": config.view_size})
    split = _open_for_fit(target, data, "train", device)
    if target is None:
        require_labels(config.evaluation, len(split.labels), len(split.classes))
    order = label_order(split.labels, config.data.split_seed)
    train = features(split, order[: most_labels(config.evaluation, len(order), len(split.classes), quick=quick)])
    validation = features(_open_for_fit(target, data, "validation", device))
    scored: dict[Part, Labelled] = {"val": validation}
    if test:
        scored["test"] = features(_open(target, data, "test", device))
    return _Task(train, validation, scored, len(split.classes), len(order))


def _encoded(encoder: nn.Module, config: Config, images: ImageSource, rows: Tensor | None = None) -> Tensor:
    batch_images, workers = config.evaluation.batch_images, config.data.loader_workers
    return encode(encoder, images, rows, batch_images, config.view_size, workers)


def _open(target: str | None, data: DataConfig, name: SplitName, device: torch.device) -> Split:
    """A split of a transfer target, or of the source when target is none; it lies in main memory.

    On a GPU the networks need the room, and an image is looked at once a rung: a batch at a time is copied there.
    """
    cpu = torch.device("cpu")
    split = open_split(data, name, cpu) if target is None else open_transfer(target, data, name, cpu)
    split.images.device = device
    return split


@lru_cache(maxsize=4)
def _open_sample(data: DataConfig, device: torch.device) -> ImageSource:
    """Some of the images that were pretrained on; they lie in main memory, as splits do."""
    images = open_sample(data, _RANK_IMAGES, torch.device("cpu"))
    images.device = device
    return images


@lru_cache(maxsize=16)  # rungs of one process share train and validation; test is opened once and never kept
def _open_for_fit(target: str | None, data: DataConfig, name: SplitName, device: torch.device) -> Split:
    split = _open(target, data, name, device)
    require_classes(split, target or data.source, name)
    return split
