"""The probes equal their references, and the protocol scores what its metric names say."""

import math

import numpy as np
import pytest
import torch
from blobs import blobs
from torch import Tensor, nn
from torch.nn import functional as F

from synthcl.config.schema import Config
from synthcl.core.device import normalise
from synthcl.core.errors import UserError
from synthcl.core.rng import generator
from synthcl.data import ResidentImages, Split
from synthcl.data.features import encode
from synthcl.evaluation import names, objective, protocol, score
from synthcl.evaluation.features import Labelled
from synthcl.evaluation.labels import label_count, label_order, require_labels
from synthcl.evaluation.probes import knn
from synthcl.evaluation.probes.linear import logistic
from synthcl.evaluation.protocol import rung_score
from synthcl.evaluation.scores import collapse
from synthcl.method.encoders.conv import ConvConfig
from synthcl.runs.preflight import open_data

CPU = torch.device("cpu")


# --- nearest neighbours ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("neighbours", [1, 7, 1000])
def test_knn_equals_a_slow_loop(neighbours, monkeypatch):
    monkeypatch.setattr(knn, "QUERIES_AT_A_TIME", 16)
    train, queries = blobs(80, 0), blobs(50, 1)
    keys = train.features.numpy().astype(np.float64)
    expected = []
    for query in queries.features.numpy().astype(np.float64):
        similarity = [query @ key / np.linalg.norm(query) / np.linalg.norm(key) for key in keys]
        votes = np.zeros(3)
        for index in np.argsort(similarity)[::-1][:neighbours]:
            votes[train.labels[index]] += math.exp(similarity[index] / 0.07)
        expected.append(votes.argmax())
    assert knn.predict(train, queries.features, 3, neighbours).tolist() == expected
    right = 100 * np.mean(np.array(expected) == queries.labels.numpy())
    assert knn.accuracy(train, queries, 3, neighbours) == pytest.approx(right)


def test_one_near_neighbour_outvotes_many_far_ones():
    train = Labelled(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 1, 1, 1]))
    assert knn.predict(train, torch.tensor([[2.0, 0.1]]), 2, 4).tolist() == [0]


# --- collapse --------------------------------------------------------------------------------------------------------


def test_effective_rank_is_the_dimension_for_identity_covariance_and_one_for_a_line():
    orthonormal = torch.linalg.qr(torch.randn(50, 8, generator=generator("q"))).Q
    assert collapse(3 * orthonormal)["features/rank"] == pytest.approx(8, abs=1e-4)
    line = torch.randn(50, 1, generator=generator("l")) * torch.arange(1.0, 9)
    assert collapse(line)["features/rank"] == pytest.approx(1, abs=1e-4)
    assert collapse(torch.zeros(5, 3)) == {"features/std": 0.0, "features/rank": 1.0}


def test_effective_rank_equals_rankme_by_singular_values():
    features = blobs(40, 0).features
    shares = np.linalg.svd(features.numpy().astype(np.float64), compute_uv=False)
    shares /= shares.sum()
    assert collapse(features)["features/rank"] == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-6)


def test_spread_is_zero_when_features_coincide_and_that_of_the_sphere_when_they_fill_it():
    assert collapse(torch.ones(20, 4) * torch.arange(1.0, 21)[:, None])["features/std"] == pytest.approx(0, abs=1e-7)
    sphere = torch.randn(20000, 16, generator=generator("sphere"))
    assert collapse(sphere)["features/std"] == pytest.approx(1 / 4, rel=0.01)


# --- label fractions -------------------------------------------------------------------------------------------------


def test_every_prefix_of_the_label_order_is_stratified_and_seeded():
    labels = torch.tensor([0] * 500 + [1] * 100 + [2] * 3)[torch.randperm(603, generator=generator("mix"))]
    order = label_order(labels, seed=1)
    assert order.sort().values.tolist() == list(range(603))
    for count in range(3, 604):
        sizes = labels[order[:count]].bincount(minlength=3)
        assert sizes.min() >= 1
        assert (sizes - count * labels.bincount() / 603).abs().max() <= 2
    assert torch.equal(order, label_order(labels, seed=1))
    assert not torch.equal(order, label_order(labels, seed=2))
    assert not torch.equal(order[:300].sort().values, label_order(labels, seed=2)[:300].sort().values)


def test_a_fraction_takes_at_least_one_image_a_class():
    assert [label_count(fraction, 1200, 10) for fraction in (1.0, 0.1, 0.01, 0.001)] == [1200, 120, 12, 10]


def test_an_entry_above_one_is_a_number_of_labels():
    assert [label_count(entry, 1200, 10) for entry in (500, 20)] == [500, 20]


@pytest.mark.parametrize(
    ("fractions", "cap", "message"),
    [
        (
            [1.0, 0.1, 0.01],
            200,
            r"max_label_images=200 is below the 1200 labels .* write evaluation\.label_fractions="
            r"\[200, 0\.1, 0\.01\], or evaluation\.max_label_images=null",
        ),
        ([0.5], 500, r"max_label_images=500 is below the 600 labels"),
        ([1500, 0.1], None, r"label_fractions=\[1500, 0\.1\]: there are 1200 labelled training images; write 1\.0"),
        ([5], None, r"label_fractions: 5 labels are fewer than the 10 classes; write 10 or more"),
        ([0.001], 5, r"max_label_images: 5 labels are fewer than the 10 classes"),
        ([100, 0.5], None, r"0\.5 of 1200 labels are 600, more than the largest number, 100"),
    ],
)
def test_labels_that_would_make_a_name_untrue_are_refused_with_what_to_write(fractions, cap, message):
    evaluation = settings(**{"evaluation.label_fractions": fractions, "evaluation.max_label_images": cap}).evaluation
    with pytest.raises(UserError, match=message) as caught:
        require_labels(evaluation, 1200, 10)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fractions", "cap"), [([1.0, 0.1], None), ([1.0, 0.1], 1200), ([1.0, 500], 5000), ([500, 0.1], 600)]
)
def test_labels_that_a_data_set_has_are_taken(fractions, cap):
    taken = settings(**{"evaluation.label_fractions": fractions, "evaluation.max_label_images": cap})
    require_labels(taken.evaluation, 1200, 10)


# --- features --------------------------------------------------------------------------------------------------------


class Flatten(nn.Module):
    """Features are pixels, and nothing is hidden: it records how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5).eval()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.shapes.append(tuple(images.shape))
        return self.frozen(self.dropout(images)).flatten(1)


def source(pixels: Tensor) -> ResidentImages:
    return ResidentImages(pixels, CPU)


def test_encode_follows_the_indices_in_batches_and_restores_modes():
    pixels = torch.randint(256, (10, 1, 4, 4), generator=generator("pixels"), dtype=torch.uint8)
    encoder, indices = Flatten(), torch.tensor([7, 0, 3, 3, 9])
    features = encode(encoder, source(pixels), indices, batch_images=2, view_size=4)
    torch.testing.assert_close(features, normalise(pixels[indices].float() / 255).flatten(1))
    assert encoder.shapes == [(2, 1, 4, 4), (2, 1, 4, 4), (1, 1, 4, 4)]
    assert encoder.training
    assert encoder.dropout.training
    assert not encoder.frozen.training
    assert len(encode(encoder, source(pixels), None, batch_images=100, view_size=4)) == 10


def test_encode_resizes_with_antialiasing_to_the_size_of_the_views():
    checkerboard = torch.tensor([[0, 255], [255, 0]], dtype=torch.uint8).repeat(8, 8)[None, None]
    features = encode(Flatten(), source(checkerboard), None, batch_images=1, view_size=4)
    assert features.shape == (1, 16)
    assert features.abs().max() < 0.15  # averaged to grey, where sampling would give black or white


def test_non_finite_features_are_one_clear_line():
    class Broken(Flatten):
        def forward(self, images: Tensor) -> Tensor:
            features = super().forward(images)
            features[0, 0] = math.nan
            return features

    encoder = Broken()
    with pytest.raises(UserError, match="encoder gives non-finite features for 2 of 5 images") as caught:
        encode(encoder, source(torch.zeros(5, 1, 4, 4, dtype=torch.uint8)), None, batch_images=4, view_size=4)
    assert "\n" not in str(caught.value)
    assert encoder.training


# --- protocol --------------------------------------------------------------------------------------------------------

CLASSES = ("a", "b", "c", "d")
SIZES = {"train": 200, "validation": 80, "test": 120}


def fake_split(name: str, part: str) -> Split:
    """Noise, a little brighter in the quadrant that is the class."""
    labels = torch.arange(SIZES[part]) % 4
    noise = torch.randint(160, (len(labels), 1, 16, 16), generator=generator(name, part), dtype=torch.uint8)
    bright = 16 * F.one_hot(labels, 4).reshape(-1, 1, 2, 2).repeat_interleave(8, 2).repeat_interleave(8, 3)
    return Split(source(noise + bright.to(torch.uint8)), labels, CLASSES)


class Pooled(Flatten):
    """A mean over every 4 x 4 pixels: 16 features."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(F.avg_pool2d(images, 4))


@pytest.fixture
def opened(monkeypatch):
    """Fake data sets, and the list of the splits that were opened."""
    log: list[tuple[str, str]] = []

    def open_split(data, part, device):
        log.append((data.source, part))
        return fake_split(data.source, part)

    def open_transfer(name, data, part, device):
        log.append((name, part))
        return fake_split(name, part)

    monkeypatch.setattr(protocol, "open_split", open_split)
    monkeypatch.setattr(protocol, "open_transfer", open_transfer)
    protocol._open_for_fit.cache_clear()
    yield log
    protocol._open_for_fit.cache_clear()


def settings(**overrides) -> Config:
    config = Config.model_validate({"name": "t", "data": {"source": "toy", "image_size": 16}})
    return config.with_overrides({"evaluation.transfer": ["far", "near"]} | overrides)


FEATURES = {"features/std", "features/rank"}
LINEAR = {"linear/toy@100", "linear/toy@10", "linear/toy@1"}
CHEAP = {"knn/toy", "ridge/toy"}
TRANSFER = {"transfer/far@100", "transfer/near@100", "transfer/mean"}
QUICK_TRANSFER = {"transfer-ridge/far", "transfer-ridge/near", "transfer-ridge/mean"}


def named(prefix: str, *groups: set[str]) -> set[str]:
    return {f"{prefix}/{name}" for name in set.union(*groups)}


def test_metric_names_say_the_protocol(opened):
    encoder = Pooled()
    full = score(encoder, settings(), CPU, quick=False)
    assert set(full) == FEATURES | named("val", LINEAR, CHEAP, TRANSFER)
    assert set(score(encoder, settings(), CPU, quick=True)) == FEATURES | named("val", CHEAP)
    by_transfer = settings(**{"search.objective": "transfer"})
    assert set(score(encoder, by_transfer, CPU, quick=True)) == FEATURES | named("val", CHEAP, QUICK_TRANSFER)
    both = score(encoder, settings(), CPU, quick=False, test=True)
    assert set(both) == set(full) | named("test", LINEAR, CHEAP, TRANSFER)
    assert {name: both[name] for name in full} == full
    assert all(0 <= value <= 100 for value in full.values())
    assert full["val/linear/toy@100"] > 60  # chance is 25
    assert full["val/transfer/mean"] == pytest.approx(
        (full["val/transfer/far@100"] + full["val/transfer/near@100"]) / 2
    )


def test_scoring_on_validation_never_opens_test_and_opens_the_rest_once(opened):
    for quick in (True, True, False):
        score(Pooled(), settings(), CPU, quick=quick)
    assert sorted(opened) == [(name, part) for name in ("far", "near", "toy") for part in ("train", "validation")]


def test_test_scores_fit_on_train_choose_on_validation_and_open_test_once(opened):
    scores = score(Pooled(), settings(), CPU, quick=False, test=True)
    assert len(opened) == len(set(opened)) == 9
    embedded = {
        part: Labelled(encode(Pooled(), split.images, None, 1000, 16), split.labels)
        for part, split in ((part, fake_split("toy", part)) for part in SIZES)
    }
    order = label_order(embedded["train"].labels, 0)
    for percent, count in ((100, 200), (10, 20), (1, 4)):
        chosen = Labelled(embedded["train"].features[order[:count]], embedded["train"].labels[order[:count]])
        probe = logistic(chosen, embedded["validation"], 4)
        assert scores[f"test/linear/toy@{percent}"] == pytest.approx(probe.accuracy(embedded["test"]))
    assert scores["test/knn/toy"] == pytest.approx(knn.accuracy(embedded["train"], embedded["test"], 4, 20))


def capped(**overrides) -> Config:
    cap = {"evaluation.label_fractions": [20, 0.1], "evaluation.max_label_images": 20}
    return settings(**cap | {"evaluation.transfer": []} | overrides)


def test_a_probe_on_fewer_labels_is_named_by_their_number(opened):
    scores = score(Pooled(), capped(**{"evaluation.transfer": ["far"]}), CPU, quick=False)
    linear, transfer = {"linear/toy@20-labels", "linear/toy@10"}, {"transfer/far@20-labels", "transfer/mean"}
    assert set(scores) == FEATURES | named("val", linear, CHEAP, transfer)
    assert scores["val/linear/toy@20-labels"] == scores["val/linear/toy@10"]  # 10 % of 200 are the same 20 images
    whole = score(Pooled(), settings(), CPU, quick=False)
    assert scores["val/linear/toy@20-labels"] == whole["val/linear/toy@10"]  # the first 20 in either case
    assert objective(scores, capped()) == scores["val/linear/toy@20-labels"]


def test_labels_are_capped_by_config(opened):
    early = settings(**{"evaluation.early_label_images": 20, "evaluation.transfer": []})
    assert score(Pooled(), early, CPU, quick=True) == score(Pooled(), capped(), CPU, quick=True)
    assert score(Pooled(), early, CPU, quick=False) != score(Pooled(), capped(), CPU, quick=False)
    fewest = capped(**{"evaluation.label_fractions": [4, 0.01], "evaluation.max_label_images": 4})
    scores = score(Pooled(), fewest, CPU, quick=False)
    assert scores["val/linear/toy@4-labels"] == scores["val/linear/toy@1"]  # one image a class


def test_a_cap_that_the_data_set_makes_untrue_is_refused_before_a_probe_is_fitted(opened):
    uncounted = settings(**{"evaluation.max_label_images": 20})
    for quick in (True, False):
        with pytest.raises(UserError, match=r"max_label_images=20 is below the 200 labels"):
            score(Pooled(), uncounted, CPU, quick=quick)


def test_such_a_cap_is_found_when_the_data_is_opened_before_a_cluster_is_joined():
    config = Config(name="t").with_overrides(
        {"data.source": "digits", "data.image_size": 16, "evaluation.transfer": []}
    )
    open_data(config)
    with pytest.raises(UserError, match=r"max_label_images=500 is below the 11\d\d labels .* write .*=\[500, 0\.1"):
        open_data(config.with_overrides({"evaluation.max_label_images": 500}))


@pytest.mark.parametrize("kind", ["linear", "transfer", "weighted"])
def test_the_last_rung_also_has_the_measure_of_the_rungs_before_it(opened, kind):
    config = settings(**{"search.objective": kind, "evaluation.early_label_images": 20, "evaluation.batch_images": 20})
    quick = score(Pooled(), config, CPU, quick=True)
    last = score(Pooled(), config, CPU, quick=False, early=True)
    without = score(Pooled(), config, CPU, quick=False)
    assert last.items() > without.items()
    assert rung_score(quick, config) == objective(quick, config)
    assert rung_score(last, config) == pytest.approx(rung_score(quick, config))  # of the same encoder
    assert objective(last, config) == objective(without, config)
    assert rung_score(last, config) != objective(last, config)


def test_scores_of_an_earlier_version_get_the_name_of_what_was_fitted():
    earlier = {
        "val/linear/toy@100": 1.0,
        "test/linear/toy@100": 2.0,
        "val/linear/toy@10": 3.0,
        "val/transfer/mean": 4.0,
    }
    today = names.renamed(earlier, capped())
    assert list(today) == [
        "val/linear/toy@20-labels",
        "test/linear/toy@20-labels",
        "val/linear/toy@10",
        "val/transfer/mean",
    ]
    assert list(today.values()) == [1.0, 2.0, 3.0, 4.0]
    assert names.renamed(earlier, settings()) == earlier


def test_a_missing_class_is_one_clear_line(opened, monkeypatch):
    def lacking(data, part, device):
        split = fake_split("toy", part)
        return Split(split.images, split.labels % 3, CLASSES) if part == "validation" else split

    monkeypatch.setattr(protocol, "open_split", lacking)
    with pytest.raises(UserError, match=r"data set 'toy': class 'd' has none of the 80 images of the validation split"):
        score(Pooled(), settings(), CPU, quick=True)


FULL_METRICS = {"val/linear/toy@100": 80.0, "val/ridge/toy": 70.0, "val/transfer/mean": 40.0}
QUICK_METRICS = {"val/ridge/toy": 60.0, "val/transfer-ridge/mean": 20.0}


@pytest.mark.parametrize(
    ("kind", "full", "quick"), [("linear", 80.0, 60.0), ("transfer", 40.0, 20.0), ("weighted", 70.0, 50.0)]
)
def test_the_objective_uses_ridge_scores_at_quick_rungs_only(kind, full, quick):
    config = settings(**{"search.objective": kind, "search.transfer_weight": 0.25})
    assert objective(FULL_METRICS, config) == pytest.approx(full)
    assert objective(QUICK_METRICS, config) == pytest.approx(quick)


def test_an_objective_that_was_not_measured_is_one_clear_line(opened):
    measured = score(Pooled(), settings(**{"evaluation.transfer": []}), CPU, quick=False)
    with pytest.raises(UserError, match=r"search.objective='weighted' needs the score 'val/transfer/mean'"):
        objective(measured, settings(**{"search.objective": "weighted"}))


def test_scores_of_a_random_convolutional_encoder_on_digits():
    config = settings(**{"data.source": "digits", "evaluation.transfer": ["digits"], "search.objective": "weighted"})
    torch.manual_seed(0)
    encoder = ConvConfig(width=4).build(1)
    quick, full = (score(encoder, config, CPU, quick=quick) for quick in (True, False))
    for metrics in (quick, full):
        assert 40 < objective(metrics, config) <= 100  # chance is 10
    assert full["val/linear/digits@100"] == full["val/transfer/digits@100"]  # the same images by another door
    assert full["val/linear/digits@1"] < full["val/linear/digits@10"] < full["val/linear/digits@100"]


def test_probe_splits_stay_in_main_memory_and_transfer_sets_have_the_size_of_a_view(monkeypatch):
    config = settings(**{"data.source": "digits", "views.base.size": 24, "data.image_size": 32})
    elsewhere = torch.device("meta")
    split = protocol._open(None, config.data, "train", elsewhere)
    assert split.images.pixels.device.type == "cpu"
    assert split.images.fetch(torch.arange(3)).device == elsewhere  # a batch at a time is copied

    encoder, sizes = Pooled(), {}
    encode_at = protocol.encode

    def spy(encoder, images, *given):
        sizes[images.pixels.shape[-1]] = len(images)
        return encode_at(encoder, images, *given)

    monkeypatch.setattr(protocol, "encode", spy)
    for target, size in ((None, 32), ("fashion-mini", 24)):
        sizes.clear()
        protocol._embed(encoder, config, CPU, target, test=True)
        assert list(sizes) == [size]
