"""Scores without labels meet their equations in closed form or a slow loop, and a panel is the same for every run."""

import math
from typing import get_args

import pytest
import torch
from scipy.special import gamma, iv
from small_trainer import CPU, random_images, tiny_config, unit
from torch import nn

from synthcl.config.sections import LabelFree
from synthcl.core.errors import UserError
from synthcl.core.kmeans import kmeans
from synthcl.core.rng import generator
from synthcl.evaluation import label_free, panel
from synthcl.method.objectives.ppcl import ppcl
from synthcl.method.views.simclr import SimclrConfig, apply, draw


def normal(*shape):
    return torch.randn(*shape, generator=generator("label-free", *shape), dtype=torch.float64)


# ---- equations


@pytest.mark.parametrize("fall", [0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_law_is_its_own(fall):
    columns = torch.linalg.qr(normal(200, 40) - normal(200, 40).mean(dim=0)).Q
    columns = torch.linalg.qr(columns - columns.mean(dim=0)).Q  # orthonormal and centred
    spectrum = torch.arange(1, 41, dtype=torch.float64) ** -fall
    vectors = columns * spectrum.sqrt() + 7.0  # whose mean does not count
    assert label_free.power_law(vectors) == pytest.approx(fall, abs=1e-6)
    assert label_free.power_law(vectors[:, :12]) == pytest.approx(fall, abs=1e-6)  # from the first eigenvalue on
    assert label_free.power_law(torch.ones(9, 4)) == 0


def test_lidar_of_equal_clusters_at_the_corners_of_a_simplex_is_one_less_than_their_number():
    views = torch.cat([normal(6, 20, 12), -normal(6, 20, 12)], dim=1)  # whose means are exactly those of the clusters
    whitened = torch.linalg.cholesky(views.flatten(0, 1).T @ views.flatten(0, 1)).inverse()
    spread = (views.flatten(0, 1) @ whitened.T).view_as(views)
    embeddings = 5 * torch.eye(6, 12, dtype=torch.float64)[:, None] + spread
    assert label_free.lidar(embeddings, delta=0) == pytest.approx(5, abs=1e-6)
    assert label_free.lidar(embeddings, delta=1e-4) == pytest.approx(5, abs=0.01)


def test_lidar_meets_its_definition_and_no_invertible_map_changes_it():
    embeddings = normal(9, 4, 5) + 2 * normal(9, 1, 5)
    between = within = torch.zeros(5, 5, dtype=torch.float64)
    for image in embeddings:
        away = image.mean(dim=0) - embeddings.mean(dim=(0, 1))
        between = between + torch.outer(away, away) / 8
        for view in image:
            within = within + torch.outer(view - image.mean(dim=0), view - image.mean(dim=0)) / (9 * 3)
    values = torch.linalg.eigvals(torch.linalg.solve(within, between)).real
    shares = values / values.sum()
    assert label_free.lidar(embeddings, delta=0) == pytest.approx(math.exp(-(shares * shares.log()).sum()))
    assert label_free.lidar(embeddings @ normal(5, 5), delta=0) == pytest.approx(label_free.lidar(embeddings, delta=0))


def test_alignment_is_the_mean_over_pairs_of_views():
    embeddings = normal(5, 3, 4)
    views = nn.functional.normalize(embeddings, dim=-1)
    pairs = [float((views[:, a] - views[:, b]).square().sum(dim=1).mean()) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert label_free.alignment(embeddings) == pytest.approx(sum(pairs) / 3)
    assert label_free.alignment(embeddings[:, :1].expand(5, 3, 4)) == pytest.approx(0, abs=1e-12)


def test_uniformity_of_the_uniform_sphere_is_its_bessel_form():
    dim, kappa = 6, 4
    expected = -4 + math.log(gamma(dim / 2) * (2 / kappa) ** (dim / 2 - 1) * iv(dim / 2 - 1, kappa))
    assert label_free.uniformity(3 * normal(2000, dim)) == pytest.approx(expected, abs=0.02)
    assert label_free.uniformity(torch.ones(5, 3)) == pytest.approx(0)


def test_the_contrastive_loss_is_that_of_training():
    embeddings = unit(24, 8, "contrast").view(6, 4, 8)
    groups = torch.arange(6).repeat_interleave(4)
    expected = ppcl(embeddings.flatten(0, 1), groups, temperature=0.2)
    assert label_free.contrast(9 * embeddings, 0.2) == pytest.approx(float(expected), abs=1e-5)


def test_separated_blobs_are_learnt_and_their_dimension_is_found():
    blobs = torch.cat([normal(50, 3) * 0.01 + 10 * torch.eye(3)[i] for i in range(3)])
    blobs = blobs[torch.randperm(150, generator=generator("order"))]
    assigned = kmeans(blobs, 3)
    for blob in range(3):
        assert len(assigned[blobs.argmax(dim=1) == blob].unique()) == 1
    assert len(assigned.unique()) == 3
    corners = torch.eye(4).repeat(8, 1)  # more clusters are asked for than there are places
    assert label_free.cluster_learnability(corners) == 1
    uniform = torch.rand(1000, 2, generator=generator("plane"), dtype=torch.float64)
    flat = torch.cat([uniform, uniform @ normal(2, 6)], dim=1)
    assert label_free.intrinsic_dimension(flat) == pytest.approx(2, abs=0.15)
    assert label_free.intrinsic_dimension(torch.ones(5, 2)) == 0
    expected = label_free.cluster_learnability(flat) + label_free.intrinsic_dimension(flat) / 8
    assert label_free.clid(flat) == pytest.approx(expected)


def test_retrieval_counts_images_that_find_themselves():
    first = torch.eye(4)
    second = torch.eye(4)[[0, 1, 3, 2]]
    assert label_free.retrieval(torch.stack([first, second, first], dim=1)) == 50


def test_a_probe_of_turns_reads_features_that_tell_them_and_guesses_at_others():
    told = torch.eye(4)[:, None] + 0.01 * normal(4, 40, 4).float()
    assert panel.rotation(told) == 100
    assert panel.rotation(normal(4, 400, 4).float()) < 40


# ---- the panel


class Projected(nn.Module):
    """Small blocks' means as features."""

    def forward(self, images):
        return nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)


@pytest.fixture
def measured(monkeypatch):
    """A function that measures on 40 random images, with the encoder and head at hand."""
    monkeypatch.setattr(panel, "panel_images", lambda data, device: random_images())
    encoder, head = Projected(), nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))

    def measure(**overrides):
        config = tiny_config(overrides | {"evaluation.label_free": list(panel.SCORES)})
        return panel.measure(encoder, head, config, CPU)

    return measure


def test_every_score_is_measured_by_its_name_in_evaluation_mode_and_repeats(measured):
    assert get_args(LabelFree) == tuple(panel.SCORES)
    scores = measured()
    assert scores.keys() == {f"label_free/{name}" for name in panel.SCORES}
    assert all(math.isfinite(value) for value in scores.values())
    assert {*scores} < {*panel.CLAIMED}
    assert measured() == scores
    # Neither a run's own views nor its batches of encoding change the panel.
    others = measured(**{"views.base.crop_area_min": 0.9, "curriculum.view_strength.start": 0.1})
    assert others == scores
    for name, value in measured(**{"evaluation.batch_images": 24}).items():
        assert value == pytest.approx(scores[name], rel=1e-4, abs=1e-6)


@torch.no_grad()
def test_rows_of_a_panel_are_views_of_one_image(monkeypatch):
    images = random_images()
    monkeypatch.setattr(panel, "panel_images", lambda data, device: images)
    config = tiny_config({"evaluation.batch_images": 24, "data.split_seed": 3})
    made = panel.make_panel(Projected(), nn.Identity(), config, CPU, turn=True)
    chosen = torch.randperm(40, generator=generator(3, "label-free images"))
    draws = draw(SimclrConfig(), 40 * panel.VIEWS, 1.0, generator(3, "label-free views"))
    shown = apply(images.pixels[chosen].float() / 255, draws, 16)
    assert made.features.shape == (40, panel.VIEWS, 16)
    for image, view in ((0, 0), (7, 3), (39, 7)):
        expected = Projected()(shown[view * 40 + image][None] * 2 - 1)[0]
        torch.testing.assert_close(made.features[image, view], expected)
    whole = images.pixels[chosen[5]].float() / 127.5 - 1
    torch.testing.assert_close(made.turned[1, 5], Projected()(torch.rot90(whole, 1, (1, 2))[None])[0])


def test_nothing_is_measured_unless_asked_for(monkeypatch):
    monkeypatch.setattr(panel, "panel_images", None)
    assert panel.measure(Projected(), nn.Identity(), tiny_config(), CPU) == {}


def test_turned_views_leave_no_rotation_score():
    turned = tiny_config({"evaluation.label_free": ["rotation"], "views.turn": {"kind": "rotation"}})
    with pytest.raises(UserError, match=r"'rotation', and views.turn turns images in training"):
        panel.require_panel(turned)
    panel.require_panel(turned.with_overrides({"evaluation.label_free": ["lidar"]}))
