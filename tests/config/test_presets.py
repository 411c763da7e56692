"""Every shipped preset is a whole, runnable configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_trainer import FOLDER as MORE

from synthcl.comparison.arms import ARMS, apply_arm
from synthcl.config.presets import load_preset, preset_names
from synthcl.config.schema import Config
from synthcl.data import SOURCES
from synthcl.method.synthetic.gan.networks import base_and_doublings, make_discriminator, make_generator

FOLDER = Path(__file__).parents[2] / "synthcl" / "config" / "presets"


@pytest.fixture(params=preset_names())
def preset(request: pytest.FixtureRequest) -> Config:
    return load_preset(request.param)


def test_there_is_a_preset_for_every_size() -> None:
    assert {"fashion-mini", "cifar10", "cifar100", "stl10", "imagenet100", "folder"} <= set(preset_names())


@pytest.mark.parametrize("name", preset_names())
def test_the_name_is_the_file_name_and_a_comment_says_what_it_is_for(name: str) -> None:
    assert load_preset(name).name == name
    assert (FOLDER / f"{name}.yaml").read_text().startswith("# ")


def test_a_recorded_configuration_reads_back_as_itself(preset: Config, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(preset.model_dump_json())
    assert load_preset(str(path)) == preset


def test_an_override_changes_that_field_alone(preset: Config) -> None:
    changed = preset.with_overrides({"training.kimg": 7.5})
    assert changed.training.kimg == 7.5
    assert changed.with_overrides({"training.kimg": preset.training.kimg}) == preset
    assert changed.digest("training") != preset.digest("training")
    assert changed.digest("data", "synthetic") == preset.digest("data", "synthetic")


def test_data_sets_are_known_and_a_transfer_target_is_another_one(preset: Config) -> None:
    assert preset.data.source in SOURCES
    assert set(preset.evaluation.transfer) <= set(SOURCES) - {preset.data.source}


def test_the_gan_can_make_its_images(preset: Config) -> None:
    size, channels = preset.gan_image_size, preset.data.channels
    base, doublings = base_and_doublings(size)
    assert base in (4, 5, 6, 7)
    assert base * 2**doublings == size <= preset.data.image_size
    with torch.device("meta"):  # shapes without memory or time
        images = make_generator(preset.gan, channels, size)(torch.empty(2, preset.gan.latent_dim))
        assert images.shape == (2, channels, size, size)
        assert make_discriminator(preset.gan, channels, size)(images).shape == (2,)


def test_the_encoder_takes_its_views(preset: Config) -> None:
    with torch.device("meta"):
        encoder = preset.encoder.build(preset.data.channels)
        views = torch.empty(2, preset.data.channels, preset.view_size, preset.view_size)
        assert encoder(views).shape == (2, encoder.feature_dim)
    assert preset.view_size <= preset.data.image_size


@pytest.mark.parametrize("progress", [0.0, 0.3, 0.7, 1.0])
def test_a_step_is_made_of_whole_images_and_latents_at_the_fraction_asked_for(preset: Config, progress: float) -> None:
    made = preset.mix_at(progress)
    workers = preset.compute.workers_per_trial
    assert made.real % workers == made.latents % workers == preset.training.batch_images % workers == 0
    asked = preset.curriculum.synthetic_fraction.value_at(progress)
    granule = 4 * workers / (2 * preset.training.batch_images)
    assert abs(preset.knobs_at(progress).synthetic_fraction - asked) <= granule / 2
    constant = preset.curriculum.synthetic_fraction.kind == "constant"
    assert not constant or preset.knobs_at(progress).synthetic_fraction == pytest.approx(asked)


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_encodes_the_same_number_of_views(preset: Config, arm: str) -> None:
    config = apply_arm(preset.with_overrides(MORE if arm == "folder-synthetic" else {}), arm)
    for progress in (0.0, 0.5, 1.0):
        made = config.mix_at(progress)
        synthetic = sum(config.synthetic[name].views_per_group * count for name, count in made.groups.items())
        views = config.training.views_per_image * made.real + synthetic
        assert views == 2 * preset.training.batch_images


def test_the_generator_teaches_in_every_preset(preset: Config) -> None:
    assert preset.curriculum.hardness.bounds[1] > 0
    assert preset.curriculum.synthetic_fraction.bounds[1] > 0
    assert preset.gan.warmup_kimg > 0
