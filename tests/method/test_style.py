"""Perturbed feature statistics: the equation, and that nothing of them is outside the pass that they are for."""

from __future__ import annotations

from functools import partialmethod
from math import sqrt
from typing import Any

import pytest
import torch
from small_trainer import batch_of, tiny_config, trainer_of
from torch import Tensor, nn

from synthcl import load_encoder
from synthcl.core import rng
from synthcl.core.errors import UserError
from synthcl.method.encoders.conv import ConvConfig
from synthcl.method.encoders.custom import CustomEncoder
from synthcl.method.encoders.dsu import DsuConfig
from synthcl.method.encoders.resnet import ResnetConfig
from synthcl.method.encoders.style import Draw, Stage, Style, moments, restyled
from synthcl.method.encoders.timm_backbone import TimmEncoder
from synthcl.runs.encoder_check import require_encoder
from synthcl.runs.export import save_encoder
from synthcl.training.trainer import Trainer

ALL_OF_IT = {"share": 1.0, "coefficient": 1.0}
DSU = {"encoder.style.kind": "dsu"}
SOME = DSU | {"encoder.style.share": 0.7}


def maps_of(*shape: int, key: str = "maps", dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=rng.generator(key), dtype=torch.float64).to(dtype)


def listening(channels: int = 3, **fields: Any) -> tuple[nn.Module, Style]:
    """A stage that leaves maps as they are, and the style after it."""
    stage = nn.Identity()
    return stage, DsuConfig(**fields).build([Stage(stage, channels)])


def drawn(style: Style, views: int, own: dict[str, float] = ALL_OF_IT) -> Draw | None:
    return style.draw(views, own, rng.generator("draw"))


def changed(stage: nn.Module, style: Style, maps: Tensor, own: dict[str, float] = ALL_OF_IT) -> Tensor:
    with style.acting(drawn(style, len(maps), own), own):
        found: Tensor = stage(maps)
    return found


def test_maps_get_the_moments_that_they_are_to_have_and_no_deviation_below_a_tenth_of_their_own():
    maps = maps_of(4, 3, 6, 5)
    mean, deviation = moments(maps)
    new_mean, factor = maps_of(4, 3, key="mean"), torch.linspace(-0.5, 2.0, 12).view(4, 3)
    found = restyled(maps, mean, deviation, new_mean, factor * deviation)
    torch.testing.assert_close(found.mean(dim=(2, 3)), new_mean)
    floored = factor.double().clamp(min=0.1) * maps.std(dim=(2, 3), correction=0)
    torch.testing.assert_close(found.std(dim=(2, 3), correction=0), floored)
    one_pixel = restyled(maps[:, :, :1, :1], *moments(maps[:, :, :1, :1]), new_mean, factor)
    torch.testing.assert_close(one_pixel, new_mean[:, :, None, None])


def test_dsu_adds_noise_of_the_size_that_statistics_vary_by_over_the_batch():
    stage, style = listening()
    maps, own = maps_of(5, 3, 4, 2), {"share": 1.0, "coefficient": 0.5}
    found, noise = changed(stage, style, maps, own), drawn(style, 5, own).noise.tolist()
    means = [[sum(each.flatten().tolist()) / 8 for each in view] for view in maps]
    deviations = [
        [sqrt(sum((pixel - mean) ** 2 for pixel in each.flatten().tolist()) / 8 + 1e-6) for each, mean in zip(*pair)]  # noqa: B905
        for pair in zip(maps, means, strict=True)
    ]

    def over_views(statistics: list[list[float]], channel: int) -> float:
        values = [view[channel] for view in statistics]
        middle = sum(values) / 5
        return sqrt(sum((value - middle) ** 2 for value in values) / 4 + 1e-6)

    for view in range(5):
        for channel in range(3):
            mean, deviation = means[view][channel], deviations[view][channel]
            new_mean = mean + 0.5 * noise[view][channel] * over_views(means, channel)
            new_deviation = deviation + 0.5 * noise[view][3 + channel] * over_views(deviations, channel)
            expected = max(new_deviation, 0.1 * deviation) * (maps[view, channel] - mean) / deviation + new_mean
            torch.testing.assert_close(found[view, channel], expected)


def test_dsu_is_what_the_released_code_computes_where_no_deviation_reaches_the_floor():
    stage, style = listening()
    maps, own = maps_of(6, 3, 8, 8), {"share": 1.0, "coefficient": 1.0}
    mean, deviation = maps.mean(dim=(2, 3)), (maps.var(dim=(2, 3)) + 1e-6).sqrt()
    first, second = drawn(style, 6).noise.chunk(2, dim=1)
    new_mean = mean + first * (mean.var(0, keepdim=True) + 1e-6).sqrt()
    new_deviation = deviation + second * (deviation.var(0, keepdim=True) + 1e-6).sqrt()
    assert (new_deviation > 0.1 * deviation).all()
    plain = (maps - mean[:, :, None, None]) / deviation[:, :, None, None]
    expected = plain * new_deviation[:, :, None, None] + new_mean[:, :, None, None]
    torch.testing.assert_close(changed(stage, style, maps, own), expected, rtol=1e-4, atol=1e-4)


def test_the_gradient_passes_the_statistics_and_their_spread_over_the_batch():
    stage, style = listening()
    maps = maps_of(3, 3, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda inputs: changed(stage, style, inputs), (maps,))


def test_each_view_is_perturbed_or_not_by_itself_and_by_nothing_of_coefficient_or_share_0():
    stage, style = listening()
    maps, own = maps_of(64, 3, 4, 4, dtype=torch.float32), {"share": 0.4, "coefficient": 1.0}
    found = changed(stage, style, maps, own)
    same = (found == maps).flatten(1).all(dim=1)
    assert torch.equal(same, drawn(style, 64).chosen[:, 0] >= 0.4)
    assert 0 < same.sum() < 64
    for nothing in ({"share": 0.0}, {"coefficient": 0.0}):
        assert changed(stage, style, maps, ALL_OF_IT | nothing) is maps


def test_nothing_changes_in_evaluation_or_outside_the_pass():
    stage, style = listening()
    maps = maps_of(4, 3, 4, 4)
    assert not torch.equal(changed(stage, style, maps), maps)
    assert stage(maps) is maps
    assert changed(stage.eval(), style, maps) is maps
    with pytest.raises(ZeroDivisionError), style.acting(drawn(style, 4), ALL_OF_IT):
        raise ZeroDivisionError
    assert stage.train()(maps) is maps


def test_halves_have_their_moments_computed_in_float32():
    stage, style = listening()
    maps = (8 + maps_of(4, 3, 16, 16)).to(torch.bfloat16)
    found = changed(stage, style, maps)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, changed(stage, style, maps.float()).to(torch.bfloat16))


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (ConvConfig(width=8), [4, 8, 16, 32]),
        (ResnetConfig(), [64, 64, 128, 256, 512]),
        (ResnetConfig(kind="resnet50", stem="imagenet"), [64, 256, 512, 1024, 2048]),
        (TimmEncoder(backbone="test_resnet"), [32, 32, 48, 192, 96]),
        (TimmEncoder(backbone="test_efficientnet"), [16, 24, 32, 48, 64]),
    ],
)
def test_stages_of_an_encoder_give_maps_of_the_channels_that_they_state(section, expected):
    with torch.device("meta"):
        encoder = section.build(3).eval()
        stages, found = section.stages(encoder), []
        for stage in stages:
            stage.module.register_forward_hook(lambda _module, _inputs, maps: found.append(maps.shape[:2]))
        encoder(torch.zeros(2, 3, 32, 32))
    assert [stage.channels for stage in stages] == expected
    assert found == [(2, channels) for channels in expected]
    assert DsuConfig().chosen(stages, "") == stages[:-1]
    assert DsuConfig(stages=(3, 1, 3)).chosen(stages, "") == [stages[0], stages[2]]


@pytest.mark.parametrize(
    ("section", "says"),
    [
        (ConvConfig(style=DsuConfig(stages=(5,))), "encoder.style.stages names 5; conv has stages 1 to 4"),
        (TimmEncoder(backbone="test_vit", style=DsuConfig()), "a stage of test_vit gives .* no maps"),
        (
            CustomEncoder(code="torch.nn:Identity", feature_dim=4, style=DsuConfig()),
            "encoder.style: .* has no stages that give maps",
        ),
    ],
)
def test_what_has_no_such_stages_is_refused_before_a_run(section, says, monkeypatch):
    monkeypatch.setattr(CustomEncoder, "build", lambda self, channels, size: ConvConfig(width=1).build(channels))
    size = 160 if section.kind == "timm" else 16
    with pytest.raises(UserError, match=says):
        require_encoder(section, 3, size)


def trained(overrides: dict[str, Any], steps: int = 4) -> Trainer:
    trainer = trainer_of(tiny_config({"training.kimg": 0.064} | overrides))
    trainer.history = trainer.advance(steps)
    return trainer


@pytest.mark.parametrize("field", ["share", "coefficient"])
def test_a_style_of_0_is_absent_and_one_that_rises_changes_nothing_before(field):
    alone = trained({}).history
    off = trained(DSU | {f"encoder.style.{field}": 0.0})
    assert off.history == alone
    assert off.lab.style is None
    rising = {"kind": "step", "start": 0.0, "end": 1.0, "ramp_begin": 0.5}
    history = trained(SOME | {f"encoder.style.{field}": rising}).history
    assert [point.pop(f"knob/encoder.style.{field}") for point in history] == [0.0, 0.0, 1.0, 1.0]
    assert history[:2] == alone[:2]
    assert history[2]["loss/contrast"] != alone[2]["loss/contrast"]


def test_views_apart_have_draws_of_their_own_and_leave_those_of_the_others():
    lab = trainer_of(tiny_config(SOME | {"terms.turn": {"kind": "rotation", "hidden": 8, "share": 0.5}})).lab
    batch = batch_of(lab)
    assert len(batch.style.chosen) == len(batch.groups) + len(batch.apart.rows)
    assert len(torch.unique(batch.style.noise, dim=0)) == len(batch.style.noise)


def test_the_slow_encoder_is_never_perturbed():
    trainer = trained(SOME | {"terms.more": {"kind": "byol", "hidden": 8}})
    lab, images = trainer.lab, torch.rand(4, 1, 16, 16)
    hooks = {
        network: sum(len(module._forward_hooks) for module in network.modules())
        for network in (lab.encoder, lab.slow.encoder)
    }
    assert list(hooks.values()) == [3, 0]
    own = ALL_OF_IT
    with lab.style.acting(lab.style.draw(4, own, rng.generator("draw")), own):
        inside, slow = lab.encoder(images), lab.slow.encoder(images)
    assert torch.equal(slow, lab.slow.encoder(images))
    assert not torch.equal(inside, lab.encoder(images))


def test_an_exported_encoder_has_no_trace_of_it(tmp_path):
    trainer = trained(SOME)
    plain = trainer_of(tiny_config())
    assert trainer.lab.encoder.state_dict().keys() == plain.lab.encoder.state_dict().keys()
    save_encoder(tmp_path / "encoder.safetensors", trainer.lab.encoder, trainer.config, {})
    exported = load_encoder(tmp_path / "encoder.safetensors")
    assert not any(module._forward_hooks for module in exported.modules())
    images = torch.rand(4, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(exported(images), trainer.lab.encoder.eval()(images))


def test_compiled_code_perturbs_as_much_as_its_knobs_say_also_where_an_encoder_without_style_was_compiled(monkeypatch):
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))
    moving = {"kind": "piecewise", "start": 0.0, "third": 0.5, "two_thirds": 1.0, "end": 0.0}
    real_only = SOME | {"curriculum.synthetic_fraction": 0.0, "encoder.style.coefficient": moving}
    trainer_of(tiny_config({"curriculum.synthetic_fraction": 0.0, "training.compile": True})).advance(1)
    plain, compiled = (trainer_of(tiny_config(real_only | {"training.compile": on})) for on in (False, True))
    torch._dynamo.utils.counters.clear()
    for one, other in zip(plain.advance(6), compiled.advance(6), strict=True):
        assert other == pytest.approx(one, rel=1e-4, abs=1e-5)
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] > 0
    assert not counters["graph_break"]
