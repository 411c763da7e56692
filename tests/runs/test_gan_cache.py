"""The GAN's warm-up and its cache."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import buckets
import pytest
import torch

from synthcl.config.schema import Config
from synthcl.core.errors import Leaving, UserError
from synthcl.method.synthetic.gan.networks import make_generator
from synthcl.runs import gan_cache, location, storage
from synthcl.training import gan_warmup

s3, bucket = buckets.s3, buckets.bucket
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
    before = sample(settings, gan_cache.warm_up(config(warmup_kimg=0.0), Images(), DEVICE, progress=False)[0])
    after = sample(settings, gan_cache.warm_up(settings, Images(), DEVICE, progress=False)[0])
    contrast_before = before[..., :8].mean() - before[..., 8:].mean()
    contrast_after = after[..., :8].mean() - after[..., 8:].mean()
    assert abs(contrast_before) < 0.1
    assert contrast_after > 0.4  # of 200 / 255 = 0.78


def test_warm_up_is_a_function_of_its_settings_and_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    untouched = torch.random.get_rng_state()
    first = gan_cache.warm_up(config(), Images(), DEVICE, progress=False)[0]
    assert torch.equal(torch.random.get_rng_state(), untouched)
    torch.manual_seed(4)
    assert equal(first, gan_cache.warm_up(config(), Images(), DEVICE, progress=False)[0])


def test_averaged_generator_lags_behind():
    untrained = gan_cache.warm_up(config(warmup_kimg=0.0), Images(), DEVICE, progress=False)[0]["generator"]

    def moved(half_life_kimg):
        trained = gan_cache.warm_up(config(warmup_half_life_kimg=half_life_kimg), Images(), DEVICE, progress=False)[0]
        return sum((trained["generator"][name] - value).norm().item() for name, value in untrained.items())

    assert 0 < moved(10.0) < 0.1 * moved(0.001)


def test_real_images_are_resized_to_the_generators_size():
    settings = config(image_size=8)
    state = gan_cache.warm_up(settings, Images(), DEVICE, progress=False)[0]
    assert sample(settings, state, size=8).shape == (64, 1, 8, 8)


def test_progress_bar_is_shown_on_request(capsys):
    gan_cache.warm_up(config(), Images(), DEVICE, progress=False)[0]
    assert capsys.readouterr().err == ""
    gan_cache.warm_up(config(), Images(), DEVICE, progress=True)[0]
    assert "GAN warm-up" in capsys.readouterr().err


def test_divergence_names_the_learning_rates():
    settings = config(warmup_kimg=2.0, warmup_generator_learning_rate=1e30, warmup_discriminator_learning_rate=1e30)
    with pytest.raises(UserError, match=r"warmup_generator_learning_rate \(1e\+30\)"):
        gan_cache.warm_up(settings, Images(), DEVICE, progress=False)[0]


def test_cache_is_made_once_and_read_again(tmp_path, monkeypatch):
    folder = tmp_path / "deep" / "cache"
    first = gan_cache.cached_gan(config(), Images(), folder, DEVICE, progress=False)
    assert equal(first, gan_cache.warm_up(config(), Images(), DEVICE, progress=False)[0])
    key = gan_cache.cache_key(config(), Images())
    assert sorted(path.name for path in folder.iterdir()) == [f"{key}.json", f"{key}.png", f"{key}.safetensors"]
    record = json.loads((folder / f"{key}.json").read_text())
    assert record["settings"]["images"] == "squares"
    assert 0 <= record["statistics"]["accuracy"] <= 1

    monkeypatch.setattr(gan_cache, "warm_up", None)  # may not be called again
    assert equal(first, gan_cache.cached_gan(config(), Images(), folder, DEVICE))


def test_key_follows_images_and_settings_but_not_the_joint_training():
    key = gan_cache.cache_key(config(), Images())
    assert key != gan_cache.cache_key(config(), Images(content_key="others"))
    assert key != gan_cache.cache_key(config(latent_dim=9), Images())
    assert key != gan_cache.cache_key(config().with_overrides({"data.image_size": 20}), Images())
    for field in (
        "synthetic.gan.generator_learning_rate",
        "synthetic.gan.discriminator_learning_rate",
        "training.seed",
    ):
        assert key == gan_cache.cache_key(config().with_overrides({field: 7}), Images())
    ramp = {"kind": "linear", "start": 1e-3, "end": 1e-4}
    assert key == gan_cache.cache_key(
        config().with_overrides({"synthetic.gan.generator_learning_rate": ramp}), Images()
    )


@pytest.mark.parametrize("content", [b"", b"not safetensors", None])
def test_a_bad_cached_file_is_named_for_deletion(tmp_path, content):
    path = tmp_path / f"{gan_cache.cache_key(config(), Images())}.safetensors"
    if content is None:  # readable, but of another architecture
        gan_cache.cached_gan(config(generator_width=8), Images(), tmp_path, DEVICE, progress=False)
        next(tmp_path.glob("*.safetensors")).rename(path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{path}.*delete it"):
        gan_cache.cached_gan(config(), Images(), tmp_path, DEVICE, progress=False)


def test_an_interrupted_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(source, target, replace=os.replace):
        if target.suffix == ".safetensors":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gan_cache.cached_gan(config(), Images(), tmp_path, DEVICE, progress=False)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".png"}


class Told(list):
    """The images done that a warm-up tells."""

    def __call__(self, done_images, total_images, statistics):
        self.append(done_images)


@pytest.fixture
def hasty(monkeypatch):
    """Whether to leave is asked after every step."""
    monkeypatch.setattr(gan_cache, "LOOK_SECONDS", 0.0)


def at(step):
    """A pause that says no until that step."""
    asked = []
    return lambda: asked.append(None) or len(asked) == step


LONGER = {"warmup_kimg": 0.96, "loss": "relativistic", "gradient_penalty": 0.5}  # 60 steps, looked at after 50


@pytest.fixture(scope="module")
def unbroken():
    return gan_cache.warm_up(config(**LONGER), Images(), DEVICE, progress=False)


@pytest.mark.parametrize("stops", [[1] * 59, [49], [50], [51], [20, 37, 2]], ids=lambda stops: str(sum(stops)))
def test_an_interrupted_warm_up_continues_bit_by_bit(stops, unbroken, hasty, tmp_path):
    place = str(tmp_path / "unfinished")
    for number, stop in enumerate(stops):
        told = Told()
        with pytest.raises(Leaving):
            gan_cache.warm_up(config(**LONGER), Images(), DEVICE, told, place, at(stop))
        assert told == [16 * (sum(stops[:number]) + step) for step in range(stop + 1)]
    state, statistics = gan_cache.warm_up(config(**LONGER), Images(), DEVICE, False, place)
    assert equal(state, unbroken[0])
    assert statistics == unbroken[1]


@pytest.mark.parametrize("where", ["folder", "URI"])
def test_a_killed_warm_up_continues_bit_by_bit_from_its_last_checkpoint(where, unbroken, tmp_path):
    place = str(tmp_path / "unfinished") if where == "folder" else (tmp_path / "unfinished").as_uri()
    code = f"""if True:
        import os, signal, sys
        sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]!r}
        import torch, test_gan_cache
        torch.set_num_threads(1)
        settings = test_gan_cache.config(**test_gan_cache.LONGER)
        settings = settings.with_overrides({{"training.checkpoint_minutes": 1e-9}})
        def kill(done, total, statistics):
            if done == 16 * 33:
                os.kill(os.getpid(), signal.SIGKILL)
        test_gan_cache.gan_cache.warm_up(settings, test_gan_cache.Images(), test_gan_cache.DEVICE, kill, {place!r})
    """
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    told = Told()
    state, statistics = gan_cache.warm_up(config(**LONGER), Images(), DEVICE, told, place)
    assert told[0] == 16 * 32
    assert equal(state, unbroken[0])
    assert statistics == unbroken[1]


def test_a_checkpoint_is_due_after_the_minutes_of_the_config_which_change_nothing_else(unbroken, tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(gan_cache.warmup_checkpoint, "keep", lambda place, key, state: kept.append(state["step"]))
    for minutes in (60, 1e-9):
        settings = config(**LONGER).with_overrides({"training.checkpoint_minutes": minutes})
        assert equal(gan_cache.warm_up(settings, Images(), DEVICE, False, str(tmp_path / "unfinished"))[0], unbroken[0])
        assert gan_cache.cache_key(settings, Images()) == gan_cache.cache_key(config(**LONGER), Images())
    assert kept == list(range(1, 60))  # the last step's is the result


def test_a_finished_warm_up_leaves_no_checkpoint(tmp_path, hasty):
    key = gan_cache.cache_key(config(), Images())
    place = gan_cache.CacheEntry(config(), Images(), tmp_path).place
    with pytest.raises(Leaving):
        gan_cache.warm_up(config(), Images(), DEVICE, False, place, at(2))
    assert [path.name for path in tmp_path.iterdir()] == [f".{key}.unfinished"]
    state = gan_cache.cached_gan(config(), Images(), tmp_path, DEVICE, progress=False)
    assert equal(state, gan_cache.warm_up(config(), Images(), DEVICE, progress=False)[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{key}.json", f"{key}.png", f"{key}.safetensors"]


class Malicious:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("ran"),)


def damaged(place, content):
    if content == "cut short":
        place.write_bytes(place.read_bytes()[:-100])
    elif content == "of other images":
        with pytest.raises(Leaving):
            gan_cache.warm_up(config(**LONGER), Images(content_key="others"), DEVICE, False, str(place), at(3))
    elif content == "code":
        torch.save(Malicious(), place)
    elif content == "of another network":
        whole = torch.load(place, weights_only=True)
        del whole["state"]["parts"]["discriminator"]
        torch.save(whole, place)
    else:
        place.write_bytes(b"")


@pytest.mark.parametrize("content", ["cut short", "of other images", "code", "of another network", "empty"])
def test_a_checkpoint_that_cannot_be_used_is_left_out_with_one_line(
    content, unbroken, hasty, tmp_path, caplog, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "unfinished"
    with pytest.raises(Leaving):
        gan_cache.warm_up(config(**LONGER), Images(), DEVICE, False, str(place), at(3))
    if content == "of other images":
        place.unlink()
    damaged(place, content)
    told = Told()
    state, _ = gan_cache.warm_up(config(**LONGER), Images(), DEVICE, told, str(place))
    assert told[0] == 0
    assert equal(state, unbroken[0])
    assert [record.getMessage().startswith("GAN warm-up starts over") for record in caplog.records] == [True]
    assert str(place) in caplog.text
    assert not (tmp_path / "ran").exists()


def test_a_disk_that_is_away_fails_the_warm_up_rather_than_beginning_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(location, "PATIENCE_SECONDS", 0.5)
    with pytest.raises(FileNotFoundError, match="the storage is away"):
        gan_cache.warm_up(config(), Images(), DEVICE, False, str(tmp_path / "away" / "unfinished"))


def test_a_bucket_keeps_the_state_of_an_unfinished_warm_up_for_other_machines(bucket, hasty, unbroken, tmp_path):
    first = storage.Storage(bucket.uri, "run")
    entry = gan_cache.CacheEntry(config(**LONGER), Images(), first.shared / "gan", location.below(bucket.uri, "gan"))
    with pytest.raises(Leaving):
        gan_cache.warm_up(config(**LONGER), Images(), DEVICE, False, entry.place, at(7))
    key = gan_cache.cache_key(config(**LONGER), Images())
    assert bucket.names() == [f"gan/.{key}.unfinished"]

    storage.Storage(bucket.uri, "run").pull()  # on another machine: nobody needs its copy there
    assert not entry.path.parent.exists() or list(entry.path.parent.iterdir()) == []
    told = Told()
    entry.write(*gan_cache.warm_up(config(**LONGER), Images(), DEVICE, told, entry.place))
    state = entry.read(DEVICE)
    assert told[0] == 16 * 7
    assert equal(state, unbroken[0])
    assert bucket.names() == []


def test_what_is_shown_begins_where_the_warm_up_continues_and_follows_it_back(capsys, monkeypatch):
    monkeypatch.setattr("synthcl.core.progress.EVERY_SECONDS", 0.0)  # every state is a line of the log
    with gan_cache.bar(True) as show:
        show(500, 1000, {})
        show(900, 1000, {"order": 0.61})
        show(700, 1000, {"order": 0.61})  # another machine has taken over from the last checkpoint
        show(1000, 1000, {"order": 0.58})
    shown = [line.removeprefix("GAN warm-up ").split(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert shown == ["50%", "90%", "70%", "100%", "100%"]


def test_a_warm_up_ends_after_so_many_passes_over_few_images():
    few = Images()  # 32 of them
    assert gan_warmup.budget_kimg(config(warmup_kimg=0.3).gan, len(few)) == 0.3
    assert gan_warmup.budget_kimg(config(warmup_kimg=0.3, warmup_passes_max=5).gan, len(few)) == 5 * len(few) / 1000
    assert gan_warmup.budget_kimg(config(warmup_kimg=0.3, warmup_passes_max=1000).gan, len(few)) == 0.3

    kimg = 3 * len(few) / 1000
    limited = config(warmup_kimg=5.0, warmup_passes_max=3)
    told = []
    state, _ = gan_cache.warm_up(limited, few, DEVICE, lambda done, total, statistics: told.append((done, total)))
    assert told[-1] == (3 * len(few), 3 * len(few))
    assert equal(state, gan_cache.warm_up(config(warmup_kimg=kimg), few, DEVICE, progress=False)[0])
    assert gan_cache.cache_key(limited, few) == gan_cache.cache_key(config(warmup_kimg=kimg), few)  # the same GAN
