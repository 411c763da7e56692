"""GAN warm-ups as tasks of Ray: followed by the driver, continued where a process ends. The GPU is Ray's word."""

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
from synthcl.runs.gan_cache import CacheEntry, warm_up
from synthcl.runs.storage import Storage

CPU = torch.device("cpu")
IMAGES = 32 * 500


@pytest.fixture(scope="module")
def one_gpu():
    ray.init("local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
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


def on_ray(settings, place, progress=lambda *told: None, gpus=1.0):
    """One warm-up as a task, its cache and state under a folder: what is then in the cache."""
    entry = CacheEntry(settings, images(settings), place)
    place.mkdir(exist_ok=True)
    remote_warmup.warm_up_on_ray([entry], 1.0, gpus, progress)
    return entry.read(CPU)


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
    assert equal(on_ray(config(tmp_path), tmp_path / "gan", progress), unbroken[0])
    again = [done for done, _, _ in told[disturbed[0] :]]
    assert min(again) > 0, "it did not begin anew"
    assert told[-1] == (IMAGES, IMAGES, unbroken[1])
    assert all(0 <= done <= total == IMAGES for done, total, _ in told)


def test_a_notice_to_the_driver_ends_it_with_its_state(on_a_cpu, unbroken, tmp_path):
    settings = config(tmp_path, **{"training.checkpoint_minutes": 60})
    place = CacheEntry(settings, images(settings), tmp_path).place

    def progress(done_images, total_images, statistics):
        if done_images > 0 and not raised:
            os.kill(os.getpid(), signal.SIGTERM)
            raised.append(done_images)

    raised = []
    try:
        with pytest.raises(KeyboardInterrupt):
            on_ray(settings, tmp_path, progress)
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
        on_ray(config(tmp_path, **rates), tmp_path)
    assert str(caught.value).startswith("GAN warm-up diverged")
    assert "\n" not in str(caught.value)


def test_a_process_that_dies_at_the_same_place_again_and_again_is_given_up(on_a_cpu, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_warmup, "_train", lambda *given: os._exit(1))
    with pytest.raises(UserError, match="again and again at 0 images"):
        on_ray(config(tmp_path), tmp_path)


def test_a_notice_to_a_driver_that_warms_up_itself_ends_it_with_its_state(tmp_path):
    settings = config(tmp_path, **{"training.checkpoint_minutes": 60})
    entry = CacheEntry(settings, images(settings), tmp_path)
    told = []

    def progress(done_images, total_images, statistics):
        told.append(done_images)
        if len(told) == 3:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        warmup._warm_up_here(entry, 1.0, progress)
    assert not preemption.signalled()
    done = []
    warm_up(settings, images(settings), CPU, lambda images, total, statistics: done.append(images), entry.place)
    assert done[0] == told[-1] > 0


def seeds_of(settings, *seeds):
    """Configurations of several draws of images, with their images."""
    own = [settings.with_overrides({"data.split_seed": seed}) for seed in seeds]
    return [(each, images(each)) for each in own]


def test_warm_ups_that_take_long_run_side_by_side_on_cpus_and_are_those_that_are_made_here(
    one_gpu, tmp_path, monkeypatch, capsys
):
    settings = config(tmp_path, **{"synthetic.gan.warmup_kimg": 1.0, "compute.gpus_per_worker": 0})
    storage = Storage(settings.compute.storage, settings.name)
    wanted = seeds_of(settings, 0, 1, 1)  # two draws may be the same images
    with monkeypatch.context() as patched:
        patched.setattr(warmup, "_warm_up_here", None)
        patched.setattr(remote_warmup, "DEVICE", None)
        first, second, again = warmup.warmed_gans(wanted, storage, each_seconds=2 * warmup.WORTH_SECONDS)
    assert re.search(r"^2 GAN warm-ups 100%, D in order \d\.\d\d, took ", capsys.readouterr().err, re.MULTILINE)
    assert equal(second, again)
    assert not equal(first, second)
    monkeypatch.setattr(warmup, "warm_up_on_ray", None)
    elsewhere = Storage(str(tmp_path / "elsewhere"), settings.name)
    here = warmup.warmed_gans(wanted, elsewhere, each_seconds=warmup.WORTH_SECONDS / 2)
    assert equal(here[0], first)
    assert equal(here[1], second)


def test_of_warm_ups_side_by_side_what_ended_is_kept_when_another_one_diverges(one_gpu, tmp_path):
    settings = config(tmp_path, **{"synthetic.gan.warmup_kimg": 0.128})
    rates = dict.fromkeys(
        ("synthetic.gan.warmup_generator_learning_rate", "synthetic.gan.warmup_discriminator_learning_rate"), 1e30
    )
    diverges = settings.with_overrides(rates | {"synthetic.gan.warmup_kimg": 30})
    first, other = (CacheEntry(each, images(each), tmp_path) for each in (settings, diverges))
    with pytest.raises(UserError, match="diverged"):
        remote_warmup.warm_up_on_ray([first, other], 1.0, 0.0, lambda *told: None)
    assert (first.made, other.made) == (True, False)


@pytest.mark.parametrize(("address", "threads"), [(None, 4), ("auto", 2)])
def test_warm_ups_share_the_threads_of_this_machine_and_have_those_of_a_trial_elsewhere(
    one_gpu, tmp_path, monkeypatch, address, threads
):
    """Of three, one is there the second time: that changes nothing for the two others."""
    settings = config(tmp_path, **{"compute.cpus_per_worker": 2, "compute.address": address})
    settings = settings.with_overrides({"compute.gpus_per_worker": 0, "synthetic.gan.warmup_kimg": 0.128})
    storage = Storage(settings.compute.storage, settings.name)
    seen = []

    def train(entry, cpus):
        seen.append(cpus)
        return warm_up(entry.config, entry.images, CPU, progress=False)

    monkeypatch.setattr(warmup, "_warm_up_here", train)
    monkeypatch.setattr(warmup, "resources", lambda: {"CPU": 13.0, "GPU": 0.0})
    warmup.warmed_gans(seeds_of(settings, 0, 1, 2), storage)
    for entry in list((storage.shared / "gan").glob("*.safetensors"))[:2]:
        entry.unlink()
    warmup.warmed_gans(seeds_of(settings, 0, 1, 2), storage)
    assert seen == [threads] * 5
    warmup.warmed_gan(*seeds_of(settings, 3)[0], storage)
    assert seen[5:] == [torch.get_num_threads()]  # alone it has all that this process has
