"""Neighbours are those of a loop over the definition."""

import pytest
import torch
from small_trainer import unit

from synthcl.evaluation.neighbours import nearest


def by_definition(features: list[list[float]], query: int, k: int) -> tuple[list[int], list[float]]:
    def cosine(a: list[float], b: list[float]) -> float:
        lengths = [sum(x * x for x in vector) ** 0.5 for vector in (a, b)]
        return sum(x * y for x, y in zip(a, b, strict=True)) / (lengths[0] * lengths[1])

    others = [row for row in range(len(features)) if row != query]
    ordered = sorted(others, key=lambda row: -cosine(features[query], features[row]))[:k]
    return ordered, [cosine(features[query], features[row]) for row in ordered]


@pytest.mark.parametrize("k", [1, 4, 19, 50])
def test_they_are_those_of_the_definition_at_any_scale(k):
    features = unit(20, 6, "neighbours") * torch.linspace(0.1, 30, 20)[:, None]
    queries = torch.tensor([3, 0, 19, 3])
    indices, similarities = nearest(features, queries, k)
    assert indices.shape == similarities.shape == (4, min(k, 19))
    for row, query in enumerate(queries.tolist()):
        ordered, cosines = by_definition(features.double().tolist(), query, k)
        assert indices[row].tolist() == ordered
        torch.testing.assert_close(similarities[row], torch.tensor(cosines))


def test_a_copy_is_nearest_and_of_equals_the_first():
    features = torch.tensor([[1.0, 2.0], [0.0, 0.0], [2.0, 4.0], [1.0, 2.0], [-1.0, -2.0]])
    indices, similarities = nearest(features, torch.tensor([3]), 4)
    assert indices.tolist() == [[0, 2, 1, 4]]
    torch.testing.assert_close(similarities, torch.tensor([[1.0, 1.0, 0.0, -1.0]]))


@pytest.mark.parametrize(("rows", "query", "k"), [(1, 0, 1), (3, 3, 1), (3, -1, 1), (3, 0, 0)])
def test_what_is_out_of_range_is_refused(rows, query, k):
    with pytest.raises(ValueError, match="must be 2 or more"):
        nearest(torch.ones(rows, 2), torch.tensor([query]), k)
