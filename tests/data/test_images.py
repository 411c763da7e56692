"""Pixels, their content key, and the order in which batches arrive."""

import warnings

import numpy as np
import pytest
import torch
from image_files import STREAM, all_pixels, folder_config, one_line, write_classes, write_image
from PIL import Image

from synthcl import data
from synthcl.config.sections import DataConfig
from synthcl.core.errors import UserError
from synthcl.data.images import ResidentImages, StreamedImages, convert_array, read_image
from synthcl.data.order import available_cores

# ---- pixels


def test_arrays_are_averaged_when_shrunk_and_keep_constant_colours():
    fine = np.indices((32, 32)).sum(0) % 2 * 255  # a checkerboard; without antialiasing it would stay black and white
    shrunk = convert_array(fine.astype(np.uint8)[None, ..., None], 16, 1)
    assert int(shrunk[..., 2:-2, 2:-2].min()) > 110
    assert int(shrunk[..., 2:-2, 2:-2].max()) < 145
    flat = np.full((3, 8, 8, 1), 37, np.uint8)
    assert torch.equal(convert_array(flat, 28, 3), torch.full((3, 3, 28, 28), 37, dtype=torch.uint8))


def test_channels_convert_by_luma_and_by_repetition():
    colour = np.zeros((1, 16, 16, 3), np.uint8)
    colour[..., 0], colour[..., 1], colour[..., 2] = 200, 100, 50
    luma = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    assert abs(int(convert_array(colour, 16, 1)[0, 0, 0, 0]) - luma) <= 1
    grey = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (2, 16, 16, 1), dtype=np.uint8)
    assert torch.equal(convert_array(grey, 16, 3)[:, 2], torch.from_numpy(grey[..., 0]))


@pytest.mark.parametrize(("width", "height"), [(80, 40), (40, 80)])
def test_files_are_shrunk_to_the_short_side_and_cropped_at_the_centre(tmp_path, width, height):
    write_image(tmp_path / "long.png", 0, width, height)
    with Image.open(tmp_path / "long.png") as image:
        shrunk = np.asarray(image.resize((width // 2, height // 2), Image.Resampling.BILINEAR))
    top, left = (height // 2 - 20) // 2, (width // 2 - 20) // 2
    expected = torch.from_numpy(shrunk[top : top + 20, left : left + 20].copy()).permute(2, 0, 1)
    difference = read_image(tmp_path / "long.png", 20, 3).int() - expected.int()
    assert int(difference.abs().max()) <= 1  # which side is shrunk first decides a rounding


def test_turned_deep_and_palette_files_are_read_as_they_look(tmp_path):
    upper = np.zeros((32, 32), np.uint8)
    upper[:16] = 255
    turned = Image.fromarray(upper)
    exif = turned.getexif()
    exif[0x0112] = 3  # stored upside down
    turned.save(tmp_path / "turned.png", exif=exif)
    read = read_image(tmp_path / "turned.png", 16, 1)[0]
    assert (int(read[2, 8]), int(read[13, 8])) == (0, 255)
    Image.fromarray(np.full((32, 32), 0x8040, np.uint16)).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png", 16, 1).unique().tolist() == [0x80]
    Image.fromarray(upper).convert("P").save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png", 16, 3)[:, 2, 2].tolist() == [255, 255, 255]


@pytest.mark.parametrize(("channels", "suffix"), [(1, "png"), (3, "jpg")])
def test_streamed_and_resident_images_agree_pixel_for_pixel(tmp_path, channels, suffix):
    write_classes(tmp_path / "train", 8, suffix=suffix)
    resident = data.open_split(folder_config(tmp_path, channels=channels), "train", "cpu")
    streamed = data.open_split(folder_config(tmp_path, channels=channels, resident_limit_mib=STREAM), "train", "cpu")
    assert (resident.images.resident, streamed.images.resident) == (True, False)
    assert torch.equal(all_pixels(resident), all_pixels(streamed))
    assert torch.equal(resident.labels, streamed.labels)
    assert all_pixels(resident).float().std() > 10  # noise, so equality says something


def test_sets_above_the_limit_stay_in_main_memory_when_they_are_arrays():
    split = data.open_split(DataConfig(source="digits", resident_limit_mib=STREAM), "test", "meta")
    assert split.images.pixels.device.type == "cpu"
    assert split.images.device.type == "meta"


def test_content_key_follows_the_content(tmp_path):
    pixels = torch.arange(3 * 256).view(3, 1, 16, 16).to(torch.uint8)
    key = ResidentImages(pixels, "cpu").content_key
    assert key == ResidentImages(pixels.clone(), "cpu").content_key
    changed = pixels.clone()
    changed[2, 0, 15, 15] += 1
    reshaped = pixels.view(3, 1, 8, 32)
    assert len({key, ResidentImages(changed, "cpu").content_key, ResidentImages(reshaped, "cpu").content_key}) == 3

    write_classes(tmp_path, 2, ("cat",))
    names = ("cat/0.png", "cat/1.png")
    streamed = StreamedImages(tmp_path, names, 16, 3, "cpu").content_key
    assert streamed == StreamedImages(tmp_path, names[::-1], 16, 3, "cpu").content_key
    others = [StreamedImages(tmp_path, names[:1], 16, 3, "cpu"), StreamedImages(tmp_path, names, 16, 1, "cpu")]
    write_image(tmp_path / "cat" / "1.png", 5, 60)
    others.append(StreamedImages(tmp_path, names, 16, 3, "cpu"))
    assert len({streamed, *(other.content_key for other in others)}) == 4
    (tmp_path / "cat" / "1.png").unlink()
    with pytest.raises(UserError, match=r"1\.png.*cannot be read"):
        _ = StreamedImages(tmp_path, names, 16, 3, "cpu").content_key


# ---- order


@pytest.mark.parametrize("workers", [0, 2])
def test_stream_gives_batches_in_the_order_asked_for(tmp_path, workers):
    write_classes(tmp_path, 6)
    names = tuple(f"{name}/{index}.png" for name in ("cat", "dog") for index in range(6))
    source = StreamedImages(tmp_path, names, 16, 3, "cpu")
    batches = [torch.tensor([11, 0, 3]), torch.tensor([5]), torch.tensor([0, 0, 1, 2]), torch.arange(12)]
    state = torch.get_rng_state()
    received = list(data.stream(source, iter(batches), workers))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(received) == len(batches)
    for images, batch in zip(received, batches, strict=True):
        assert torch.equal(images, source.fetch(batch))


def test_stream_starts_no_more_workers_than_there_are_cores(tmp_path):
    write_classes(tmp_path, 2)
    source = StreamedImages(tmp_path, ("cat/0.png", "cat/1.png", "dog/0.png"), 16, 3, "cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the data loader warns of too many
        (images,) = data.stream(source, [torch.arange(3)], 10_000 if available_cores() < 8 else 0)
    assert torch.equal(images, source.fetch(torch.arange(3)))


def test_stream_of_resident_images_is_lazy():
    source = ResidentImages(torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1), "cpu")
    endless = (data.epoch_indices(4, 3 * step, 3, "a") for step in iter(int, 1))
    assert next(data.stream(source, endless, 0)).flatten().tolist() == data.epoch_indices(4, 0, 3, "a").tolist()


@pytest.mark.parametrize("workers", [0, 1])
def test_stream_names_a_broken_file_in_one_line(tmp_path, workers):
    write_classes(tmp_path, 2)
    whole = (tmp_path / "cat" / "1.png").read_bytes()
    (tmp_path / "cat" / "1.png").write_bytes(whole[: len(whole) // 2])
    source = StreamedImages(tmp_path, ("cat/0.png", "cat/1.png"), 16, 3, "cpu")
    batches = data.stream(source, [torch.tensor([0]), torch.tensor([1])], workers)
    assert torch.equal(next(batches), source.fetch(torch.tensor([0])))
    with pytest.raises(UserError, match=r"cat/1\.png' cannot be read: .*truncated.*; replace or remove it") as error:
        next(batches)
    one_line(error)


def test_every_epoch_shows_every_image_once_in_a_new_order():
    epochs = data.epoch_indices(101, 0, 303, 5, "real").split(101)
    assert all(epoch.sort().values.tolist() == list(range(101)) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[0], data.epoch_indices(101, 0, 101, 6, "real"))


def test_slices_of_the_sequence_agree_wherever_a_run_resumes():
    whole = data.epoch_indices(7, 0, 60, 1, "real")
    for begin in range(40):
        for size in (0, 1, 5, 20):
            assert torch.equal(data.epoch_indices(7, begin, size, 1, "real"), whole[begin : begin + size])
    data.epoch_indices(7, 0, 7, 1, "real").zero_()  # a caller's copy
    assert torch.equal(data.epoch_indices(7, 0, 60, 1, "real"), whole)


@pytest.mark.parametrize("arguments", [(0, 0, 1), (5, -1, 1), (5, 0, -1)])
def test_impossible_slices_are_refused(arguments):
    with pytest.raises(ValueError, match="must be at least"):
        data.epoch_indices(*arguments, "a")


# ---- accelerator


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("limit", [1024.0, STREAM])
def test_images_arrive_on_the_gpu_as_they_are_on_the_cpu(tmp_path, limit):
    write_classes(tmp_path / "train", 8)
    config = folder_config(tmp_path, resident_limit_mib=limit)
    on_cpu, on_gpu = (data.open_split(config, "train", device).images for device in ("cpu", "cuda"))
    batches = list(torch.randperm(len(on_cpu)).split(3))
    for images, batch in zip(data.stream(on_gpu, batches, 2), batches, strict=True):
        assert images.is_cuda
        assert torch.equal(images.cpu(), on_cpu.fetch(batch))
    assert on_gpu.content_key == on_cpu.content_key
