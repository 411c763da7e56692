"""Weighted nearest neighbours on frozen features: no fit, no choice to make."""

import torch
from torch import Tensor
from torch.nn import functional as F

from synthcl.evaluation.features import Labelled
from synthcl.evaluation.probes.linear import percent_equal

TEMPERATURE = 0.07
QUERIES_AT_A_TIME = 256


def predict(train: Labelled, queries: Tensor, classes: int, neighbours: int) -> Tensor:
    """Vote of the most cosine-similar training features, each with weight exp(similarity / 0.07).

    Args:
        train: features (n, d) and labels in [0, classes).
        queries: features (m, d).
        classes: number of classes.
        neighbours: voters a query; at most the number of training features vote.

    Returns:
        (m,) int64 labels.

    Source: Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination",
        section 3.4.
    """
    keys = F.normalize(train.features, dim=1)
    neighbours = min(neighbours, len(keys))
    predicted = []
    for chunk in F.normalize(queries, dim=1).split(QUERIES_AT_A_TIME):
        similarity, nearest = (chunk @ keys.T).topk(neighbours, dim=1)  # (chunk, neighbours)
        ballots = F.one_hot(train.labels[nearest], classes).to(similarity)  # (chunk, neighbours, classes)
        votes = torch.einsum("qk,qkc->qc", (similarity / TEMPERATURE).exp(), ballots)
        predicted.append(votes.argmax(dim=1))
    return torch.cat(predicted)


def accuracy(train: Labelled, queries: Labelled, classes: int, neighbours: int) -> float:
    """Top-1 accuracy in percent of `predict` on labelled queries."""
    return percent_equal(predict(train, queries.features, classes, neighbours), queries.labels)
