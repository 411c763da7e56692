"""The GAN warm-up as a Ray task: followed by the driver, continued where its process ends. The GPU is Ray's word."""

import os
import re
import signal

import psutil
import pytest
import ray
import torch
from tiny_run import TINY

from synthcl import load_preset
from synthcl.cluster import preemption, remote_warmup, warmup
from synthcl.core.errors import UserError
from synthcl.data import open_split
from synthcl.runs.gan_cache import warm_up
from synthcl.runs.storage import Storage

CPU = torch.device("cpu")
IMAGES = 32 * 500


@pytest.fixture(scope="module")
def one_gpu():
    ray.init("local", num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def on_a_cpu(one_gpu, monkeypatch):
    monkeypatch.setattr(remote_warmup, "DEVICE", "cpu")


def config(tmp_path, **overrides):
    fixed = {
        "compute.storage": str(tmp_path),
        "synthetic.gan.warmup_kimg": IMAGES / 1000,
        "training.checkpoint_minutes": 0.002,
    }
    return load_preset("fashion-mini").with_overrides(TINY | fixed | overrides)


def images(settings):
    return open_split(settings.data, "unlabelled", CPU).images


def send(number):
    """To the process of the task, as its node does."""
    for process in psutil.Process().children(recursive=True):
        if process.name().startswith("ray::_train"):
            process.send_signal(number)


def equal(first, second):
    return all(torch.equal(value, second[part][name]) for part in first for name, value in first[part].items())


@pytest.fixture(scope="module")
def unbroken():
    settings = config(".")
    return warm_up(settings, images(settings), CPU, progress=False)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_warm_up_whose_process_ends_continues_bit_by_bit_and_its_progress_reaches_the_driver(
    on_a_cpu, unbroken, tmp_path, number
):
    told = []

    def progress(done_images, total_images, statistics):
        told.append((done_images, total_images, statistics))
        if done_images > IMAGES / 10 and not disturbed:
            disturbed.append(len(told))
            send(number)

    disturbed = []
    state, statistics = remote_warmup.warm_up_on_gpu(config(tmp_path), 1.0, str(tmp_path / "unfinished"), progress)
    assert (equal(state, unbroken[0]), statistics) == (True, unbroken[1])
    again = [done for done, _, _ in told[disturbed[0] :]]
    assert min(again) > 0, "it did not begin anew"
    assert told[-1] == (IMAGES, IMAGES, statistics)
    assert all(0 <= done <= total == IMAGES for done, total, _ in told)


def test_a_notice_to_the_driver_ends_it_with_its_state(on_a_cpu, unbroken, tmp_path):
    place = str(tmp_path / "unfinished")
    settings = config(tmp_path, **{"training.checkpoint_minutes": 60})

    def progress(done_images, total_images, statistics):
        if done_images > 0 and not raised:
            os.kill(os.getpid(), signal.SIGTERM)
            raised.append(done_images)

    raised = []
    try:
        with pytest.raises(KeyboardInterrupt):
            remote_warmup.warm_up_on_gpu(settings, 1.0, place, progress)
    finally:
        preemption.remove_note(preemption._key())  # this driver stays
    assert len(raised) == 1
    assert not preemption.signalled()
    done = []
    state, _ = warm_up(settings, images(settings), CPU, lambda images, total, statistics: done.append(images), place)
    assert done[0] >= raised[0]
    assert equal(state, unbroken[0])


def test_the_bar_of_a_warm_up_elsewhere_is_that_of_one_here(on_a_cpu, tmp_path, capsys):
    settings = config(tmp_path, **{"synthetic.gan.warmup_kimg": 0.256})
    storage = Storage(settings.compute.storage, settings.name)
    gan = warmup.warmed_gan(settings, images(settings), storage)
    shown = capsys.readouterr().err
    assert re.search(r"^GAN warm-up 100%, D in order \d\.\d\d, took ", shown, re.MULTILINE)
    assert equal(gan, warm_up(settings, images(settings), CPU, progress=False)[0])
    assert sorted(file.suffix for file in (storage.shared / "gan").iterdir()) == [".json", ".png", ".safetensors"]


def test_what_the_user_can_mend_stays_one_line(on_a_cpu, tmp_path):
    rates = dict.fromkeys(
        ("synthetic.gan.warmup_generator_learning_rate", "synthetic.gan.warmup_discriminator_learning_rate"), 1e30
    )
    with pytest.raises(UserError) as caught:
        remote_warmup.warm_up_on_gpu(config(tmp_path, **rates), 1.0, str(tmp_path / "unfinished"), lambda *told: None)
    assert str(caught.value).startswith("GAN warm-up diverged")
    assert "\n" not in str(caught.value)


def test_a_process_that_dies_at_the_same_place_again_and_again_is_given_up(on_a_cpu, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_warmup, "_train", lambda *given: os._exit(1))
    with pytest.raises(UserError, match="again and again at 0 images"):
        remote_warmup.warm_up_on_gpu(config(tmp_path), 1.0, str(tmp_path / "unfinished"), lambda *told: None)


def test_a_notice_to_a_driver_that_warms_up_itself_ends_it_with_its_state(tmp_path):
    settings = config(tmp_path, **{"training.checkpoint_minutes": 60})
    place = str(tmp_path / "unfinished")
    told = []

    def progress(done_images, total_images, statistics):
        told.append(done_images)
        if len(told) == 3:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        warmup._warm_up_here(settings, place, progress)
    assert not preemption.signalled()
    done = []
    warm_up(settings, images(settings), CPU, lambda images, total, statistics: done.append(images), place)
    assert done[0] == told[-1] > 0
