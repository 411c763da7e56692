"""The protocol: which probes are fitted on what, and the names of their scores, in percent.

    features/std, features/rank spread and effective rank of the features themselves, to tell a collapsed encoder

    val/knn/<set>               weighted nearest neighbours, all labels
    val/ridge/<set>             ridge probe, all labels: the cheap score of the early rungs
    val/linear/<set>@<p>        logistic probe on p percent of the training labels
    val/transfer/<target>@100   logistic probe on another data set; val/transfer/mean is their mean
    val/transfer-ridge/<target> ridge probe there, at early rungs of a search by transfer; and .../mean

Every probe is fitted on train and its regularisation chosen on validation, and `score` never opens a test split
unless told to. Then the same fitted probes are scored on test as well, under `test/`: nothing is fitted again on
train and validation together, so the two columns differ in the images scored and in nothing else.
"""

from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from synthcl.config import Config, DataConfig
from synthcl.data import Split, SplitName, open_split, open_transfer, require_classes
from synthcl.errors import UserError
from synthcl.evaluation import knn
from synthcl.evaluation.collapse import collapse
from synthcl.evaluation.features import Labelled, encode
from synthcl.evaluation.labels import label_count, label_order
from synthcl.evaluation.linear import logistic, ridge

Part = Literal["val", "test"]
_RANK_IMAGES = 2048  # more do not change what a collapse looks like


def score(
    encoder: nn.Module, config: Config, device: torch.device, *, quick: bool, test: bool = False
) -> dict[str, float]:
    """Scores of a frozen encoder, in percent.

    Args:
        encoder: (n, C, view_size, view_size) in [-1, 1] -> (n, feature_dim), on `device`.
        config: the run's configuration.
        device: where images, features and probes live.
        quick: true at every rung but the last: nearest neighbours and ridge only, on fewer labelled images, and
            transfer only when the search's objective asks for it.
        test: also score the test splits; once, when every choice has been made.

    Raises:
        UserError: when features are not finite, or train or validation lacks a class.
    """
    settings, source = config.evaluation, config.data.source
    most = min(settings.max_label_images, settings.early_label_images) if quick else settings.max_label_images
    task = _embed(encoder, config, device, None, most, test)
    ridge_probe = ridge(task.train, task.validation, task.classes)
    metrics = collapse(task.train.features[:_RANK_IMAGES])
    for part, images in task.scored.items():
        metrics[f"{part}/knn/{source}"] = knn.accuracy(task.train, images, task.classes, settings.knn_neighbours)
        metrics[f"{part}/ridge/{source}"] = ridge_probe.accuracy(images)
    if not quick:
        for fraction in settings.label_fractions:
            labelled = task.train.first(label_count(fraction, task.train_images, task.classes))
            probe = logistic(labelled, task.validation, task.classes)
            for part, images in task.scored.items():
                metrics[f"{part}/linear/{source}@{100 * fraction:g}"] = probe.accuracy(images)
    elif config.search.objective == "linear":
        return metrics

    kind, fit, suffix = ("transfer-ridge", ridge, "") if quick else ("transfer", logistic, "@100")
    for target in settings.transfer:
        task = _embed(encoder, config, device, target, most, test)
        probe = fit(task.train, task.validation, task.classes)
        for part, images in task.scored.items():
            metrics[f"{part}/{kind}/{target}{suffix}"] = probe.accuracy(images)
    for part in task.scored if settings.transfer else ():
        reached = [metrics[f"{part}/{kind}/{target}{suffix}"] for target in settings.transfer]
        metrics[f"{part}/{kind}/mean"] = sum(reached) / len(reached)
    return metrics


def objective(metrics: dict[str, float], config: Config) -> float:
    """The one number a trial is compared by, higher is better.

    At a quick rung the ridge scores stand in for the logistic ones. The two kinds are close but not equal, so
    objectives are comparable between trials at the same rung, which is where successive halving compares them.

    Args:
        metrics: what `score` returned.
        config: its search section says linear, transfer (mean over targets), or weighted:
            (1 - transfer_weight) * linear + transfer_weight * transfer.

    Raises:
        UserError: when the objective needs a score that the protocol did not measure.
    """
    final = f"val/linear/{config.data.source}@100"
    names = (final, "val/transfer/mean")
    if final not in metrics:
        names = (f"val/ridge/{config.data.source}", "val/transfer-ridge/mean")
    share = {"linear": 0.0, "transfer": 1.0, "weighted": config.search.transfer_weight}[config.search.objective]
    total = 0.0
    for name, weight in zip(names, (1 - share, share), strict=True):
        if weight and name not in metrics:
            raise UserError(
                f"search.objective={config.search.objective!r} needs the score {name!r}, which was not measured; "
                f"name a data set in evaluation.transfer={list(config.evaluation.transfer)} or use 'linear'"
            )
        total += weight * metrics[name] if weight else 0.0
    return total


class _Task(NamedTuple):
    train: Labelled  # every prefix is stratified
    validation: Labelled
    scored: dict[Part, Labelled]
    classes: int
    train_images: int  # before the cap on labels


def _embed(
    encoder: nn.Module, config: Config, device: torch.device, target: str | None, most_labels: int, test: bool
) -> _Task:
    def features(split: Split, rows: Tensor | None = None) -> Labelled:
        batch_images, workers = config.evaluation.batch_images, config.data.loader_workers
        encoded = encode(encoder, split.images, rows, batch_images, config.view_size, workers)
        return Labelled(encoded, (split.labels if rows is None else split.labels[rows]).to(encoded.device))

    # A view's size is all that an encoder sees of a set it was not trained on.
    data = config.data if target is None else config.data.model_copy(update={"image_size": config.view_size})
    split = _open_for_fit(target, data, "train", device)
    order = label_order(split.labels, config.data.split_seed)
    train = features(split, order[: max(len(split.classes), most_labels)])
    validation = features(_open_for_fit(target, data, "validation", device))
    scored: dict[Part, Labelled] = {"val": validation}
    if test:
        scored["test"] = features(_open(target, data, "test", device))
    return _Task(train, validation, scored, len(split.classes), len(order))


def _open(target: str | None, data: DataConfig, name: SplitName, device: torch.device) -> Split:
    """A split of a transfer target, or of the source when target is none; it lies in main memory.

    On a GPU the networks need the room, and an image is looked at once a rung: a batch at a time is copied there.
    """
    cpu = torch.device("cpu")
    split = open_split(data, name, cpu) if target is None else open_transfer(target, data, name, cpu)
    split.images.device = device
    return split


@lru_cache(maxsize=16)  # rungs of one process share train and validation; test is opened once and never kept
def _open_for_fit(target: str | None, data: DataConfig, name: SplitName, device: torch.device) -> Split:
    split = _open(target, data, name, device)
    require_classes(split, target or data.source, name)
    return split
