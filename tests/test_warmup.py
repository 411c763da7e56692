"""The GAN's warm-up and its cache."""

import json
import os

import pytest
import torch

from synthcl import warmup
from synthcl.config import Config
from synthcl.errors import UserError
from synthcl.models.gan import make_generator

DEVICE = torch.device("cpu")


class Images:
    """Squares of one brightness at the left, the rest black."""

    def __init__(self, size=16, brightness=200, content_key="squares"):
        self.content_key = content_key
        self.images = torch.zeros(32, 1, size, size, dtype=torch.uint8)
        self.images[..., : size // 2] = brightness

    def __len__(self):
        return len(self.images)

    def fetch(self, indices):
        return self.images[indices]


def config(**gan):
    small = {"latent_dim": 8, "generator_width": 4, "discriminator_width": 4, "warmup_kimg": 0.1}
    small |= {"warmup_batch_images": 16, "warmup_half_life_kimg": 0.1} | gan
    overrides = {f"gan.{name}": value for name, value in small.items()} | {"data.image_size": 16}
    return Config(name="test").with_overrides(overrides)


def sample(settings, state, size=16):
    generator = make_generator(settings.gan, 1, size)
    generator.load_state_dict(state["generator"])
    return generator(torch.randn(64, settings.gan.latent_dim, generator=torch.Generator().manual_seed(0))).detach()


def equal(first, second):
    return all(torch.equal(first[part][name], second[part][name]) for part in first for name in first[part])


def test_generator_learns_where_the_images_are_bright():
    settings = config(
        warmup_kimg=2.0,
        augment_strength=0.0,
        warmup_generator_learning_rate=5e-3,
        warmup_discriminator_learning_rate=5e-3,
    )
    before = sample(settings, warmup.warm_up(config(warmup_kimg=0.0), Images(), DEVICE, progress=False)[0])
    after = sample(settings, warmup.warm_up(settings, Images(), DEVICE, progress=False)[0])
    contrast_before = before[..., :8].mean() - before[..., 8:].mean()
    contrast_after = after[..., :8].mean() - after[..., 8:].mean()
    assert abs(contrast_before) < 0.1
    assert contrast_after > 0.4  # of 200 / 255 = 0.78


def test_warm_up_is_a_function_of_its_settings_and_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    untouched = torch.random.get_rng_state()
    first = warmup.warm_up(config(), Images(), DEVICE, progress=False)[0]
    assert torch.equal(torch.random.get_rng_state(), untouched)
    torch.manual_seed(4)
    assert equal(first, warmup.warm_up(config(), Images(), DEVICE, progress=False)[0])


def test_averaged_generator_lags_behind():
    untrained = warmup.warm_up(config(warmup_kimg=0.0), Images(), DEVICE, progress=False)[0]["generator"]

    def moved(half_life_kimg):
        trained = warmup.warm_up(config(warmup_half_life_kimg=half_life_kimg), Images(), DEVICE, progress=False)[0]
        return sum((trained["generator"][name] - value).norm().item() for name, value in untrained.items())

    assert 0 < moved(10.0) < 0.1 * moved(0.001)


def test_real_images_are_resized_to_the_generators_size():
    settings = config(image_size=8)
    state = warmup.warm_up(settings, Images(), DEVICE, progress=False)[0]
    assert sample(settings, state, size=8).shape == (64, 1, 8, 8)


def test_progress_bar_is_shown_on_request(capsys):
    warmup.warm_up(config(), Images(), DEVICE, progress=False)[0]
    assert capsys.readouterr().err == ""
    warmup.warm_up(config(), Images(), DEVICE, progress=True)[0]
    assert "GAN warm-up" in capsys.readouterr().err


def test_divergence_names_the_learning_rates():
    settings = config(warmup_kimg=2.0, warmup_generator_learning_rate=1e30, warmup_discriminator_learning_rate=1e30)
    with pytest.raises(UserError, match=r"warmup_generator_learning_rate \(1e\+30\)"):
        warmup.warm_up(settings, Images(), DEVICE, progress=False)[0]


def test_cache_is_made_once_and_read_again(tmp_path, monkeypatch):
    folder = tmp_path / "deep" / "cache"
    first = warmup.cached_gan(config(), Images(), folder, DEVICE, progress=False)
    assert equal(first, warmup.warm_up(config(), Images(), DEVICE, progress=False)[0])
    key = warmup.cache_key(config(), Images())
    assert sorted(path.name for path in folder.iterdir()) == [f"{key}.json", f"{key}.png", f"{key}.safetensors"]
    record = json.loads((folder / f"{key}.json").read_text())
    assert record["settings"]["images"] == "squares"
    assert 0 <= record["statistics"]["accuracy"] <= 1

    monkeypatch.setattr(warmup, "warm_up", None)  # may not be called again
    assert equal(first, warmup.cached_gan(config(), Images(), folder, DEVICE))


def test_key_follows_images_and_settings_but_not_the_joint_training():
    key = warmup.cache_key(config(), Images())
    assert key != warmup.cache_key(config(), Images(content_key="others"))
    assert key != warmup.cache_key(config(latent_dim=9), Images())
    assert key != warmup.cache_key(config().with_overrides({"data.image_size": 20}), Images())
    for field in ("gan.generator_learning_rate", "gan.discriminator_learning_rate", "training.seed"):
        assert key == warmup.cache_key(config().with_overrides({field: 7}), Images())


@pytest.mark.parametrize("content", [b"", b"not safetensors", None])
def test_a_bad_cached_file_is_named_for_deletion(tmp_path, content):
    path = tmp_path / f"{warmup.cache_key(config(), Images())}.safetensors"
    if content is None:  # readable, but of another architecture
        warmup.cached_gan(config(generator_width=8), Images(), tmp_path, DEVICE, progress=False)
        next(tmp_path.glob("*.safetensors")).rename(path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{path}.*delete it"):
        warmup.cached_gan(config(), Images(), tmp_path, DEVICE, progress=False)


def test_an_interrupted_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(source, target, replace=os.replace):
        if target.suffix == ".safetensors":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        warmup.cached_gan(config(), Images(), tmp_path, DEVICE, progress=False)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".png"}
