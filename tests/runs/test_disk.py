"""What a run will need of the disk is known before it begins, and asked for."""

import disks
import pytest
import torch
from small_trainer import CPU, untrained_gan

from synthcl import load_preset
from synthcl.core.errors import UserError
from synthcl.data import ResidentImages
from synthcl.runs.checkpoint_store import save
from synthcl.runs.disk import checkpoint_bytes, encoder_bytes, require_space
from synthcl.runs.export import save_encoder
from synthcl.runs.storage import Storage
from synthcl.training.trainer import Trainer

disk = disks.disk
SGD = {"training.optimizer": "sgd"}
FROZEN = {"synthetic.gan.frozen": True, "synthetic.gan.pair": False}
REAL_ONLY = {"curriculum.synthetic_fraction": {"kind": "constant", "start": 0.0}}


@pytest.mark.parametrize("overrides", [{}, SGD, FROZEN, REAL_ONLY], ids=["joint", "sgd", "frozen", "real-only"])
def test_the_estimate_is_a_little_more_than_what_is_written(tmp_path, overrides):
    config = load_preset("fashion-mini").with_overrides({"training.batch_images": 8} | overrides)
    pixels = torch.zeros(40, 1, config.data.image_size, config.data.image_size, dtype=torch.uint8)
    trainer = Trainer(config, ResidentImages(pixels, CPU), untrained_gan(config), CPU)
    trainer.advance(1)  # now the optimisers have their moments
    save(trainer, tmp_path / "checkpoint")
    written = sum(file.stat().st_size for file in (tmp_path / "checkpoint").iterdir())
    assert 0.8 < written / checkpoint_bytes(config) < 1
    save_encoder(tmp_path / "encoder.safetensors", trainer.networks.encoder, config, {})
    assert 0.5 < (tmp_path / "encoder.safetensors").stat().st_size / encoder_bytes(config) < 1


def test_too_small_a_disk_is_refused_with_both_numbers_and_what_is_there_counts(disk):
    config = load_preset("fashion-mini")  # checkpoints of some 4 MiB, and a disk of 16
    storage = Storage(str(disk.folder / "runs"), "run")
    require_space(storage, config, kept=1, at_a_time=1)
    with pytest.raises(UserError) as error:
        require_space(storage, config, kept=1, at_a_time=2)
    assert "has 16 MiB free, 'fashion-mini' needs 21 MiB: 1 checkpoints of 4.1 MiB" in str(error.value)
    assert "\n" not in str(error.value)
    assert not storage.folder.exists()

    storage.folder.mkdir(parents=True)
    (storage.folder / "checkpoint.pt").write_bytes(bytes(2 * checkpoint_bytes(config)))
    require_space(storage, config, kept=1, at_a_time=1)  # of a run that goes on
