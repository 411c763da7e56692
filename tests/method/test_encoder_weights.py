"""Encoders that begin with weights from elsewhere see what those weights expect, and say what does not fit."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from small_trainer import CPU, random_images, tiny_config
from torch import Tensor, nn

from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.method.encoders import AnyEncoder
from synthcl.method.encoders.batch_norm import _convert
from synthcl.method.encoders.normalise import HALF, IMAGENET, Statistics
from synthcl.method.encoders.parted_conv import plain
from synthcl.runs.encoder_check import describe_encoders, require_encoder, require_references
from synthcl.runs.export import load_encoder, save_encoder
from synthcl.training.trainer import Trainer

VIT, NET = "test_vit", "test_resnet"
PIXELS = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
"""in [0, 1]"""


def encoder(**fields: Any) -> AnyEncoder:
    return Config.model_validate({"name": "test", "encoder": fields}).encoder


def normalised(images: Tensor, statistics: Statistics) -> Tensor:
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in statistics)
    return (images - mean) / std


@pytest.fixture
def vit(tmp_path: Path) -> tuple[nn.Module, Path]:
    """timm's network for images of 32 px with a classifier, and a file of its weights."""
    torch.manual_seed(1)
    network = timm.create_model(VIT, num_classes=7, img_size=32)
    nn.init.normal_(network.head.weight)
    file = tmp_path / "vit.safetensors"
    safetensors.torch.save_file(network.state_dict(), file)
    network.reset_classifier(0)
    return network.eval(), file


@pytest.fixture
def resnet(monkeypatch: pytest.MonkeyPatch) -> tuple[nn.Module, list[str]]:
    """torchvision's network, and the addresses that its weights were asked for at."""
    torch.manual_seed(2)
    network, asked = torchvision.models.resnet18(), []

    def load(url: str, **given: Any) -> dict[str, Tensor]:
        assert given["weights_only"]
        asked.append(url)
        return network.state_dict()

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", load)
    return network.eval(), asked


@torch.no_grad()
def test_a_file_of_timms_gives_its_features_of_images_normalised_as_timm_says(
    vit: tuple[nn.Module, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, file = vit
    settings = timm.get_pretrained_cfg(VIT)
    own = Statistics(settings.mean, settings.std)
    section = encoder(kind="timm", backbone=VIT, weights=str(file))
    torch.testing.assert_close(section.begin(3, 32).eval()(2 * PIXELS - 1), network(normalised(PIXELS, own)))
    other = encoder(kind="timm", backbone=VIT, weights=str(file), normalise="imagenet").begin(3, 32).eval()
    torch.testing.assert_close(other(2 * PIXELS - 1), network(normalised(PIXELS, IMAGENET)))
    assert section.begin(3, 48).eval()(torch.zeros(1, 3, 48, 48)).shape == (1, 64)  # its positions are resampled


@torch.no_grad()
def test_grey_images_are_seen_as_three_equal_colours(vit: tuple[nn.Module, Path], tmp_path: Path) -> None:
    network, file = vit
    grey = encoder(kind="timm", backbone=VIT, weights=str(file), normalise="half").begin(1, 32).eval()
    images = 2 * PIXELS[:, :1] - 1
    torch.testing.assert_close(grey(images), network(images.expand(-1, 3, -1, -1)))
    theirs = torchvision.models.resnet18().eval()
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in theirs.state_dict().items()}}, tmp_path / "r.pt"
    )
    theirs.fc = nn.Identity()
    section = encoder(kind="resnet18", stem="imagenet", weights=str(tmp_path / "r.pt"), normalise="half")
    torch.testing.assert_close(
        section.begin(1).eval()(images), theirs(images.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4
    )
    assert Statistics((0.25, 0.5, 0.75), (0.5, 0.25, 0.75)).of(1) == Statistics((0.5,), (0.5,))


@torch.no_grad()
def test_torchvisions_weights_are_fetched_where_a_run_begins_and_nowhere_else(
    resnet: tuple[nn.Module, list[str]], tmp_path: Path
) -> None:
    network, asked = resnet
    fields = {"encoder.kind": "resnet18", "encoder.stem": "imagenet", "encoder.weights": "torchvision:IMAGENET1K_V1"}
    config = tiny_config({"data.channels": 3} | fields)
    require_encoder(config.encoder, 3, 32)
    assert (
        "torchvision:IMAGENET1K_V1, which the node that needs it downloads"
        in dict(describe_encoders(config))["encoder"]
    )
    assert not asked
    begun = config.encoder.begin(3, 32)
    assert len(asked) == 1
    network.fc = nn.Identity()
    expected = network(normalised(PIXELS, IMAGENET))
    torch.testing.assert_close(begun.eval()(2 * PIXELS - 1), expected, rtol=1e-4, atol=1e-4)
    assert begun.state_dict().keys() == network.state_dict().keys()  # no numbers of the normalisation among them

    save_encoder(tmp_path / "encoder.safetensors", begun, config, {})
    loaded = load_encoder(tmp_path / "encoder.safetensors")
    assert len(asked) == 1
    shown = loaded.transform((PIXELS * 255).byte())
    torch.testing.assert_close(loaded(shown), begun(shown))
    torch.testing.assert_close(torch.jit.script(plain(loaded))(shown), begun(shown), rtol=1e-4, atol=1e-4)
    card = json.loads((tmp_path / "encoder.json").read_text())["input"]
    assert card["network"] == {"mean": list(IMAGENET.mean), "std": list(IMAGENET.std)}


@torch.no_grad()
def test_timms_own_weights_are_fetched_where_a_run_begins(
    vit: tuple[nn.Module, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    network, file = vit
    asked = []

    def load(*place: Any, **given: Any) -> dict[str, Tensor]:
        asked.append(place)
        return safetensors.torch.load_file(file)

    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", load)
    fields = {"encoder": {"kind": "timm", "backbone": VIT, "weights": "timm"}, "data.image_size": 32}
    config = tiny_config(fields | {"data.channels": 3})
    assert require_encoder(config.encoder, 3, 32) == 64
    assert not asked
    begun = config.encoder.begin(3, 32)
    assert len(asked) == 1
    save_encoder(tmp_path / "encoder.safetensors", begun, config, {})
    loaded = load_encoder(tmp_path / "encoder.safetensors")
    assert len(asked) == 1
    torch.testing.assert_close(loaded(PIXELS), begun.eval()(PIXELS))
    own = {name.removeprefix("network."): value for name, value in loaded.state_dict().items()}
    network.load_state_dict(own)  # as timm takes it


def test_a_run_begins_with_its_weights_and_its_trunk_learns_more_slowly(tmp_path: Path) -> None:
    torch.manual_seed(3)
    file = tmp_path / "begun.safetensors"
    real = {"curriculum.synthetic_fraction": 0.0, "curriculum.hardness": 0.0}
    fields = {"encoder.kind": "conv", "encoder.width": 8, "encoder.weights": str(file)} | real
    weights = encoder(kind="conv", width=8).build(1).state_dict()
    safetensors.torch.save_file(weights, file)
    moved = {}
    for factor in (1.0, 0.25):
        trainer = Trainer(
            tiny_config(fields | {"encoder.trunk_learning_rate_factor": factor}), random_images(), None, CPU
        )
        networks = trainer.networks
        before = {name: value.clone() for name, value in networks.projector.named_parameters()}
        assert all(torch.equal(value, weights[name]) for name, value in networks.encoder.state_dict().items())
        trainer.advance(1)
        trunk = {name: (value - weights[name]).detach() for name, value in networks.encoder.named_parameters()}
        heads = {name: (value - before[name]).detach() for name, value in networks.projector.named_parameters()}
        moved[factor] = trunk, heads
    for name, step in moved[1.0][0].items():
        torch.testing.assert_close(moved[0.25][0][name], 0.25 * step, rtol=1e-3, atol=1e-7)
    for name, step in moved[1.0][1].items():
        torch.testing.assert_close(moved[0.25][1][name], step)


class Evil:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)


def write(file: Path, what: str) -> None:
    if what == "pickle":
        torch.save({"weight": Evil()}, file)
    elif what == "list":
        torch.save([1, 2], file)
    elif what == "numbers":
        torch.save({"epoch": 3}, file)
    elif what == "text":
        file.write_text("no weights")
    elif what == "other":
        torch.save({"weight": torch.zeros(2)}, file)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("nothing", "there is no such file"),
        ("pickle", "holds more than tensors"),
        ("list", "has list where"),
        ("numbers", "has the entries epoch where"),
        ("text", "cannot be read|holds more"),
        ("other", 'do not fit the network: Missing key.s. in state_dict: "0.weight" and 19 more; give'),
    ],
)
def test_a_file_that_is_none_is_one_line(tmp_path: Path, what: str, says: str) -> None:
    file = tmp_path / "weights.pt"
    write(file, what)
    with pytest.raises(UserError, match=says) as raised:
        require_encoder(encoder(kind="conv", weights=str(file)), 1, 32)
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_weights_of_ones_own_are_normalised_as_they_were(tmp_path: Path) -> None:
    config = tiny_config({"encoder.kind": "resnet18"})
    save_encoder(tmp_path / "encoder.safetensors", config.encoder.build(1), config, {})
    begin = {"kind": "resnet18", "weights": str(tmp_path / "encoder.safetensors")}
    with pytest.raises(UserError, match=r"card says mean 0.5 .* give encoder.normalise=half"):
        require_encoder(encoder(**begin), 1, 32)
    assert require_encoder(encoder(**begin, normalise="half"), 1, 32) == 512
    assert encoder(**begin).statistics() == IMAGENET
    assert encoder(kind="resnet18").statistics() == encoder(kind="timm", backbone=VIT).statistics() == HALF


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"backbone": "vit_tiny_patch16_223"}, "no network of timm .* near: vit_tiny_patch16_"),
        ({"backbone": "vit_tiny_patch16_224.mine"}, "no weights of that name; choose vit_tiny_patch16_224, vit_tiny"),
        ({"backbone": VIT, "options": {"patches": 4}}, "cannot be made for images of 32 px .* 'patches'"),
        ({"backbone": "test_convnext"}, "fails on images of 16 px: .* change data.image_size"),
        ({"backbone": "test_vit4", "weights": "timm"}, "timm has none of 'test_vit4'; near it has weights of test_vit"),
    ],
)
def test_a_backbone_that_cannot_be_is_one_line(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says) as raised:
        require_encoder(encoder(kind="timm", **fields), 3, 16 if "16 px" in says else 32)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kind": "timm", "backbone": "hf-hub:somebody/model"}, "pattern"),
        ({"kind": "timm", "backbone": VIT, "options": {"checkpoint_path": "x"}}, "synthcl decides"),
        ({"kind": "timm", "backbone": VIT, "options": {"drop_path_rate": 0.1}}, "dropped at random"),
        ({"kind": "timm", "backbone": VIT, "weights": "torchvision:IMAGENET1K_V1"}, "give the path of a file or timm"),
        ({"kind": "conv", "weights": "timm"}, "none of this kind of encoder; give the path of a file$"),
        ({"kind": "resnet18", "weights": "torchvision:IMAGENET1K_V1"}, "stem is 'cifar'; write imagenet"),
        ({"kind": "conv", "trunk_learning_rate_factor": 0}, "greater than 0"),
    ],
)
def test_what_a_configuration_refuses(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Config(name="test").with_overrides({"encoder": fields})


def test_without_timm_the_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"needs the package timm; pip install 'synthcl\[timm\]'"):
        encoder(kind="timm", backbone=VIT).build(3, 32)


def test_a_backbone_draws_nothing_at_random_in_training() -> None:
    network = encoder(kind="timm", backbone="rexnet_100").build(3, 32)
    assert any(isinstance(layer, nn.Dropout) for layer in network.modules())
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(network(images), network(images))


def test_synchronised_layers_go_on_with_what_timm_has_behind_its_normalisation() -> None:
    network = encoder(kind="timm", backbone="test_efficientnet").build(3, 32).eval()
    before, names = network(PIXELS), [*network.state_dict()]
    kinds = {type(layer).__name__ for layer in _convert(network, nn.SyncBatchNorm).modules()}
    assert "BatchNormAct2d" not in kinds
    torch.testing.assert_close(network(PIXELS), before)
    assert [*network.state_dict()] == names
    layer = nn.BatchNorm2d(3)
    layer.add_module("more", nn.ReLU())
    with pytest.raises(ValueError, match="more"):
        _convert(layer, nn.SyncBatchNorm)


def test_a_reference_has_weights_and_is_checked_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"references.frozen has random weights, which say nothing; give its weights"):
        tiny_config({"evaluation.references.frozen.kind": "conv"})
    fields = {"kind": "timm", "backbone": VIT, "weights": str(tmp_path / "none.pt")}
    config = tiny_config({"evaluation.references.frozen": fields, "evaluation.reference_image_size": 32})
    with pytest.raises(UserError, match=r"evaluation.references.frozen: encoder.weights .* no such file"):
        require_references(config)
