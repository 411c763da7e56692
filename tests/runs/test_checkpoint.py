"""Checkpoints are whole or absent, and anything else is refused in one line."""

import io
import os
import pickle

import pytest
import torch
from small_trainer import CPU, random_images, tiny_config, untrained_gan

from synthcl.core.errors import UserError
from synthcl.runs import checkpoint
from synthcl.runs.checkpoint import FILE, FORMAT, SAMPLES
from synthcl.runs.checkpoint_store import load, save
from synthcl.training.trainer import Trainer, sample_generator


def make(overrides=None) -> Trainer:
    config = tiny_config(overrides)
    return Trainer(config, random_images(), untrained_gan(config), CPU)


@pytest.fixture
def saved(tmp_path):
    save(make(), tmp_path)
    return tmp_path


def refusal(path) -> str:
    with pytest.raises(UserError) as error:
        checkpoint.load(path, CPU)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    return str(error.value)


def test_a_checkpoint_gives_back_what_was_saved(tmp_path):
    trainer = make()
    trainer.advance(2)
    save(trainer, tmp_path / "deep" / "folder")
    for path in (tmp_path / "deep" / "folder", tmp_path / "deep" / "folder" / FILE):
        state = checkpoint.load(path, CPU)
        assert checkpoint.config_of(state) == trainer.config
        assert torch.__version__.startswith(state["versions"]["torch"])
        assert state["trainer"]["step"] == 2
        for name, network in vars(trainer.networks).items():
            for field, value in network.state_dict().items():
                assert torch.equal(state["trainer"]["networks"][name][field], value)
    assert sorted(path.name for path in (tmp_path / "deep" / "folder").iterdir()) == [FILE, SAMPLES]


def test_a_real_only_checkpoint_has_no_samples(tmp_path):
    save(make({"curriculum.synthetic_fraction.start": 0.0}), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_write_that_fails_leaves_the_old_checkpoint_and_no_half_one(saved, tmp_path_factory, monkeypatch):
    old = (saved / FILE).read_bytes()
    empty = tmp_path_factory.mktemp("empty")

    def disk_full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    for folder in (saved, empty):
        with pytest.raises(OSError, match="No space left"):
            save(make(), folder)
    assert (saved / FILE).read_bytes() == old
    assert list(empty.iterdir()) == []
    assert sorted(path.name for path in saved.iterdir()) == [FILE, SAMPLES]


def test_a_missing_checkpoint_is_refused(tmp_path):
    assert "there is no file checkpoint.pt" in refusal(tmp_path)
    assert "there is no file other.pt" in refusal(tmp_path / "other.pt")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(saved, share):
    whole = (saved / FILE).read_bytes()
    (saved / FILE).write_bytes(whole[: int(share * len(whole))])
    refusal(saved)


def test_a_damaged_checkpoint_of_any_kind_is_refused(tmp_path):
    """Older formats are unpickled as a stream, whose decoder fails in many ways on a part of it."""
    buffer = io.BytesIO()
    torch.save({"weights": torch.zeros(40)}, buffer, _use_new_zipfile_serialization=False)
    whole = buffer.getvalue()
    for end in range(len(whole)):
        (tmp_path / FILE).write_bytes(whole[:end])
        refusal(tmp_path)
    for content in (b"text\n", b"\x80\x04N.", b"0.", b"]K\x01a.", bytes(range(256))):
        (tmp_path / FILE).write_bytes(content)
        refusal(tmp_path)


@pytest.mark.parametrize(
    "foreign",
    [torch.zeros(3), {"state_dict": {"weight": torch.zeros(3)}}, [1, 2], {"format": "x", "config": 1, "trainer": 2}],
)
def test_a_foreign_file_of_torch_is_refused(tmp_path, foreign):
    torch.save(foreign, tmp_path / FILE)
    assert "was not written by synthcl" in refusal(tmp_path)


def test_a_newer_format_is_refused(saved):
    state = checkpoint.load(saved, CPU)
    torch.save(state | {"format": FORMAT + 1}, saved / FILE)
    assert f"has format {FORMAT + 1}, this synthcl reads {FORMAT}" in refusal(saved)


class Malicious:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("bare", [False, True])
def test_pickled_code_is_refused_and_not_run(saved, bare, tmp_path_factory):
    evidence = tmp_path_factory.mktemp("evidence") / "created"
    payload = Malicious(evidence)
    if bare:
        (saved / FILE).write_bytes(pickle.dumps(payload))
    else:
        torch.save(checkpoint.load(saved, CPU) | {"trainer": payload}, saved / FILE)
    refusal(saved)
    assert not evidence.exists()
    pickle.loads(pickle.dumps(payload)).close()  # the payload works
    assert evidence.exists()


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("training.learning_rate", 0.2, "training.learning_rate=0.1, this run has 0.2"),
        ("data.image_fraction", 0.5, "data.image_fraction=1.0, this run has 0.5"),
        ("synthetic.gan.pair", False, "synthetic.gan.pair=True, this run has False"),
        ("curriculum.hardness.start", 2.0, "curriculum.hardness.start=0.5, this run has 2.0"),
        ("encoder.width", 4, "encoder.width=8, this run has 4"),
    ],
)
def test_another_configuration_is_refused_by_the_field_that_differs(saved, field, value, shown):
    trainer = make({field: value})
    before = trainer.state_dict()["networks"]["encoder"]["0.weight"].clone()
    with pytest.raises(UserError) as error:
        load(trainer, saved)
    assert shown in str(error.value)
    assert str(saved) in str(error.value)
    assert torch.equal(trainer.state_dict()["networks"]["encoder"]["0.weight"], before)


def test_the_first_field_that_differs_is_named_in_the_order_of_the_config(saved):
    with pytest.raises(UserError, match=r"data\.split_seed=0, this run has 1"):
        load(make({"terms.contrast.temperature": 0.5, "data.split_seed": 1, "synthetic.gan.beta1": 0.5}), saved)


@pytest.mark.parametrize(
    "overrides",
    [
        {"data.root": "elsewhere", "data.download": True, "data.loader_workers": 0, "data.resident_limit_mib": 1.0},
        {"training.checkpoint_minutes": 1.0, "training.log_kimg": 1.0},
        {"evaluation.knn_neighbours": 5, "search.trials": 3, "compute.storage": "elsewhere", "name": "other"},
    ],
)
def test_where_data_lie_and_when_to_log_may_differ(saved, overrides):
    load(make(overrides), saved)


def test_a_checkpoint_with_a_config_of_another_version_is_refused(saved):
    state = checkpoint.load(saved, CPU)
    with pytest.raises(UserError, match="config is not one of this synthcl"):
        checkpoint.config_of(state | {"config": {"name": "run", "unknown": 1}})


def test_sample_latents_follow_the_seed():
    def latents(seed):
        return torch.rand(3, generator=sample_generator(tiny_config({"training.seed": seed}))).tolist()

    assert latents(0) == latents(0) != latents(1)
