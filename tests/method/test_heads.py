"""Heads without parameters, of one to three layers, and several at once."""

import pytest
import torch
from pydantic import ValidationError
from small_trainer import tiny_config, trainer_of, unit
from torch import nn

from synthcl.core.errors import UserError
from synthcl.method.encoders.fixed_head import FixedConfig
from synthcl.method.encoders.projector import MlpConfig, Projector
from synthcl.method.objectives.ppcl import ppcl
from synthcl.method.scene import Seen, Views


@pytest.mark.parametrize(("kappa", "dim"), [(1.0, 6), (1.3, 6), (2.0, 4), (1.01, 1)])
def test_a_fixed_head_weighs_the_i_th_feature_by_kappa_to_minus_i(kappa, dim):
    features = unit(5, 6, "features")
    vectors = FixedConfig(dim=dim, kappa=kappa).build(6)(features)
    for row in range(5):
        for i in range(dim):
            assert vectors[row, i].item() == pytest.approx(features[row, i].item() * kappa**-i, rel=1e-6)
    assert vectors.shape == (5, dim)


def test_a_fixed_head_of_kappa_1_on_all_features_is_none_at_all():
    head = FixedConfig(dim=6, kappa=1.0).build(6)
    features = unit(5, 6, "features")
    assert torch.equal(head(features), features)
    assert not list(head.parameters())
    assert not head.state_dict()


def test_so_many_features_count_as_the_closed_form_says():
    kappa, dim = 1.1, 20
    counted = FixedConfig(dim=dim, kappa=kappa).build(dim).weights.double().square().sum()
    assert counted.item() == pytest.approx((1 - kappa ** (-2 * dim)) / (1 - kappa**-2), rel=1e-6)


def test_a_fixed_head_whose_last_feature_would_vanish_or_is_not_there_is_refused():
    with pytest.raises(
        ValidationError, match=r"kappa 1\.2 leaves nothing of the last of dim 512; 1\.08\d* is the most"
    ):
        FixedConfig(dim=512, kappa=1.2)
    weakest = FixedConfig(dim=512, kappa=1.084).build(512).weights[-1]
    assert weakest.square() > torch.finfo(torch.float32).tiny
    with pytest.raises(UserError, match="dim 64, and the encoder has 32 features"):
        FixedConfig().build(32)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_an_mlp_has_so_many_linear_layers_and_two_unless_told_otherwise(depth):
    layers = MlpConfig(depth=depth, hidden=5, dim=3).build(7).layers
    widths = [layer.weight.shape for layer in layers if isinstance(layer, nn.Linear)]
    assert widths == [(3, 7)] if depth == 1 else [(5, 7), *[(5, 5)] * (depth - 2), (3, 5)]
    assert sum(isinstance(layer, nn.BatchNorm1d) for layer in layers) == depth - 1
    assert MlpConfig().build(7).state_dict().keys() == Projector(7, 256, 64, depth=2).state_dict().keys()


def test_terms_that_share_a_weight_over_several_heads_are_the_mean_of_their_losses():
    config = tiny_config(
        {
            "heads.second": {"kind": "mlp", "hidden": 16, "dim": 8},
            "terms.contrast.weight": 0.5,
            "terms.second": {"kind": "ppcl", "head": "second", "weight": 0.5},
        }
    )
    trainer = trainer_of(config)
    lab, knobs = trainer.lab, config.knobs_at(0.0)
    features, groups = torch.randn(12, lab.encoder.feature_dim), torch.arange(6).repeat(2)
    views = Views((torch.zeros(12, 1, 1, 1),), (12,), {}, groups[:, None])
    seen = Seen(views, lambda parts: features, lab.heads)
    played, private, _ = lab.losses(seen, knobs, players=1)
    losses = [ppcl(seen.embeddings(name), groups, 0.2) for name in ("main", "second")]
    assert private is None
    assert played.item() == pytest.approx(sum(losses).item() / 2, rel=1e-6)
    assert losses[0] != losses[1]
