"""An exported encoder gives the same features, here and in torchvision."""

import json

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from small_trainer import CPU, random_images, tiny_config, untrained_gan
from torch import nn

from synthcl.core.errors import UserError
from synthcl.runs.checkpoint_store import save
from synthcl.runs.export import load_any, load_encoder, save_encoder
from synthcl.training.trainer import Trainer


def trained_encoder(config):
    """An encoder whose running statistics are not those it was made with, in the memory format of training."""
    torch.manual_seed(0)
    encoder = config.encoder.build(config.data.channels).to(memory_format=torch.channels_last)
    encoder.train()(images(config, 8))
    return encoder


def images(config, count=3):
    return torch.rand(count, config.data.channels, config.view_size, config.view_size) * 2 - 1


@pytest.fixture
def exported(tmp_path):
    """Export an encoder; gives the file, the encoder in eval mode and the config."""

    def export(**overrides):
        config = tiny_config({name.replace("_", ".", 1): value for name, value in overrides.items()})
        encoder = trained_encoder(config)
        path = tmp_path / "encoder.safetensors"
        save_encoder(path, encoder, config, {"val/knn/digits": 91.5})
        return path, encoder.eval(), config

    return export


@pytest.mark.parametrize(
    "overrides",
    [
        {"encoder_kind": "conv", "encoder_width": 8},
        {"encoder_kind": "conv", "encoder_width": 5, "data_channels": 3},
        {"encoder_kind": "resnet18"},
        {"encoder_kind": "resnet18", "encoder_stem": "imagenet", "data_channels": 3, "data_image_size": 32},
    ],
)
@torch.no_grad()
def test_a_round_trip_gives_equal_features(exported, overrides):
    path, encoder, config = exported(**overrides)
    loaded = load_encoder(str(path))
    assert not loaded.training
    batch = images(config)
    assert torch.equal(loaded(batch), encoder.to(memory_format=torch.contiguous_format)(batch))
    assert loaded.feature_dim == encoder.feature_dim
    assert loaded.state_dict().keys() == load_file(path).keys() == encoder.state_dict().keys()
    again, its_config = load_any(path.parent)
    assert torch.equal(again(batch), loaded(batch))
    assert its_config == config
    assert sorted(file.name for file in path.parent.iterdir()) == ["encoder.json", "encoder.safetensors"]


@torch.no_grad()
def test_a_resnet_loads_into_torchvision_in_two_lines(exported):
    path, encoder, config = exported(
        encoder_kind="resnet18", encoder_stem="imagenet", data_channels=3, data_image_size=32
    )
    model = torchvision.models.resnet18()
    left = model.load_state_dict(load_file(path), strict=False)
    assert set(left.missing_keys) == {"fc.weight", "fc.bias"}
    assert left.unexpected_keys == []
    model.fc = nn.Identity()
    batch = images(config)
    torch.testing.assert_close(model.eval()(batch), encoder(batch))


@torch.no_grad()
def test_a_resnet_with_the_cifar_stem_loads_into_torchvision_s_with_that_stem(exported):
    path, encoder, config = exported(encoder_kind="resnet18", encoder_stem="cifar", data_channels=1)
    model = torchvision.models.resnet18()
    model.conv1, model.maxpool, model.fc = nn.Conv2d(1, 64, 3, padding=1, bias=False), nn.Identity(), nn.Identity()
    model.load_state_dict(load_file(path))
    batch = images(config)
    torch.testing.assert_close(model.eval()(batch), encoder(batch))


def test_the_card_says_what_goes_in_and_how_good_it_is(exported):
    path, _, config = exported(data_channels=3, views_size=12)
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["input"]["channels"] == 3
    assert card["input"]["size_pixels"] == 12
    assert card["input"]["range"] == [-1.0, 1.0]
    assert (torch.tensor([0.0, 1.0]) - card["input"]["mean"]).div(card["input"]["std"]).tolist() == [-1.0, 1.0]
    assert card["scores"] == {"val/knn/digits": 91.5}
    assert card["encoder"]["kind"] == "conv"
    assert config == type(config).model_validate(card["config"])


def test_a_checkpoint_gives_its_encoder(tmp_path):
    config = tiny_config()
    trainer = Trainer(config, random_images(), untrained_gan(config), CPU)
    trainer.advance(2)
    save(trainer, tmp_path)
    encoder, its_config = load_any(tmp_path)
    batch = images(config)
    torch.testing.assert_close(encoder(batch), trainer.networks.encoder.eval()(batch))
    assert its_config == config


def refusal(path) -> str:
    with pytest.raises(UserError) as error:
        load_encoder(path)
    assert "\n" not in str(error.value)
    assert path.stem in str(error.value)
    return str(error.value)


def test_missing_weights_and_a_missing_card_are_named(exported, tmp_path):
    assert "there is no file" in refusal(tmp_path / "absent.safetensors")
    path, _, _ = exported()
    path.with_suffix(".json").unlink()
    assert "encoder.json" in refusal(path)


@pytest.mark.parametrize(
    "card", ["", "not json", "[]", "{}", '"text"', '{"config": 3}', '{"config": {"name": "a", "b": 1}}']
)
def test_a_foreign_card_is_refused(exported, card):
    path, _, _ = exported()
    path.with_suffix(".json").write_text(card)
    assert "was not written by synthcl" in refusal(path)


@pytest.mark.parametrize("content", [b"", b"text", b"\xff" * 64])
def test_corrupt_weights_are_refused(exported, content):
    path, _, _ = exported()
    path.write_bytes(content)
    assert "is not a safetensors file" in refusal(path)


def test_truncated_weights_are_refused(exported):
    path, _, _ = exported()
    path.write_bytes(path.read_bytes()[:-100])
    assert "is not a safetensors file" in refusal(path)


@pytest.mark.parametrize("change", ["renamed", "missing", "reshaped"])
def test_weights_that_the_card_does_not_describe_are_refused(exported, change):
    path, _, _ = exported()
    weights = load_file(path)
    first = weights.pop("0.weight")
    if change == "renamed":
        weights["other.weight"] = first
    elif change == "reshaped":
        weights["0.weight"] = first[:2].clone()
    save_file(weights, path)
    assert "does not hold the weights its card describes" in refusal(path)


def make_encoder(channels):
    """An encoder of a user's own."""
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(4 * channels, 5))


def test_an_encoder_of_ones_own_is_exported_and_its_code_is_called_only_where_it_is_trusted(exported):
    own = {"kind": "custom", "code": f"{__name__}:make_encoder", "feature_dim": 5}
    path, encoder, config = exported(encoder=own)
    for load in (load_encoder, load_any):
        with pytest.raises(UserError, match=r"made by the code '.*:make_encoder'.*trust_code=True, or --trust-code"):
            load(path)
    batch = images(config)
    for loaded in (load_encoder(path, trust_code=True), load_any(path.parent, trust_code=True)[0]):
        assert torch.equal(loaded(batch), encoder.to(memory_format=torch.contiguous_format)(batch))
    scripted = torch.jit.script(load_encoder(path, trust_code=True))
    assert torch.equal(scripted(batch), loaded(batch))


KINDS = [
    {"encoder_kind": "conv", "encoder_width": 5, "data_channels": 3},
    {"encoder_kind": "resnet18", "encoder_stem": "cifar"},
    {"encoder_kind": "resnet18", "encoder_stem": "imagenet", "data_channels": 3, "data_image_size": 32},
]


@pytest.mark.parametrize("overrides", KINDS)
@torch.no_grad()
def test_torchscript_takes_an_encoder_and_any_number_of_images(exported, overrides):
    path, _, config = exported(**overrides)
    encoder = load_encoder(path)
    assert not any(type(layer).__name__.startswith("Parted") for layer in encoder.modules())
    for made in (torch.jit.script(encoder), torch.jit.trace(encoder, images(config, 2))):
        for count in (1, 5):
            batch = images(config, count)
            torch.testing.assert_close(made(batch), encoder(batch), atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_a_compiled_encoder_gives_the_same_features(exported):
    path, _, config = exported(encoder_width=4)
    encoder = load_encoder(path)
    batch = images(config)
    compiled = torch.compile(encoder, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(batch), encoder(batch), atol=1e-6, rtol=1e-5)


def test_a_loaded_encoder_carries_the_transform_of_its_evaluation(exported):
    path, _, config = exported(data_channels=3, data_image_size=16, views_size=12)
    encoder = load_encoder(path)
    seen = encoder.transform(torch.randint(0, 256, (3, 40, 30), dtype=torch.uint8))
    assert seen.shape == (1, 3, config.view_size, config.view_size)
    assert encoder(seen).shape == (1, encoder.feature_dim)
    assert "transform" not in encoder.state_dict()
