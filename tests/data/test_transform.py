"""The transform of a loaded encoder gives what evaluation gives the encoder, and refuses what cannot be right."""

import numpy as np
import pytest
import torch
from image_files import folder_config, one_line, write_classes
from PIL import Image
from torch import nn

from synthcl import data
from synthcl.core.errors import UserError
from synthcl.data.features import encode
from synthcl.data.transform import Transform


class Listens(nn.Module):
    """An encoder that keeps what it is given."""

    def forward(self, images):
        self.given = images
        return images.flatten(1)


def given_to_probes(split: data.Split, size: int) -> torch.Tensor:
    listens = Listens()
    encode(listens, split.images, None, len(split.images), size)
    return listens.given


@pytest.mark.parametrize(("channels", "image_size", "size"), [(3, 16, 16), (1, 16, 12), (3, 18, 24)])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_files_and_pil_images_become_what_the_probes_are_given(tmp_path, channels, image_size, size, suffix):
    write_classes(tmp_path / "train", 3, suffix=suffix)
    config = folder_config(tmp_path, channels=channels, image_size=image_size)
    split = data.open_split(config, "unlabelled", "cpu")
    given = given_to_probes(split, size)
    transform = Transform(image_size, size, channels)
    files = split.images.files
    for name, image in zip(files.names, given, strict=True):
        file = files.folder / name
        for same in (file, str(file)):
            assert torch.equal(transform(same)[0], image)
        levels = (transform(Image.open(file))[0] - image).abs().max() * 127.5
        assert levels < (4 if suffix == "jpg" else 1e-3)  # a JPEG's own grey is not quite that of its colours
    assert given.shape[1:] == (channels, size, size)


@pytest.mark.parametrize("size", [28, 20])
def test_tensors_become_what_the_probes_are_given(size):
    config = data.transfer_config("fashion-mini", folder_config("."))
    config = config.model_copy(update={"image_size": 28, "channels": 1})
    split = data.open_split(config, "validation", "cpu")
    pixels = split.images.fetch(torch.arange(4))
    given = given_to_probes(split, size)[:4]
    transform = Transform(28, size, 1)
    assert torch.equal(transform(pixels), given)
    assert torch.equal(transform(pixels[0]), given[:1])
    torch.testing.assert_close(transform(pixels.double() / 255), given)
    assert given.amin() == -1
    assert given.dtype == torch.float32


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(40, 60), (62, 40), (40, 40), (12, 12)])
def test_a_tensor_of_another_size_becomes_what_a_file_of_it_becomes(tmp_path, channels, height, width):
    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (height, width, channels), dtype=np.uint8)
    Image.fromarray(noise.squeeze()).save(tmp_path / "noise.png")
    transform = Transform(16, 14, channels)
    of_file, pixels = transform(tmp_path / "noise.png"), torch.from_numpy(noise).permute(2, 0, 1)
    of_uint8, of_floats = transform(torch.stack([pixels, pixels])), transform(pixels / 255)
    assert torch.equal(of_uint8[0], of_uint8[1])
    levels = (of_uint8[:1] - of_file).abs().max() * 127.5
    assert levels < (2 if height == width else 1e-3)  # of a square, two libraries round
    assert (of_floats - of_file)[..., 1:-1, 1:-1].abs().max() * 127.5 < 2  # a file's border sees what is cropped away


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(2, 1, 16, 16), r"shape \(2, 1, 16, 16\); give .* 3 channels"),
        (torch.zeros(16, 16, 3), r"shape \(16, 16, 3\)"),
        (torch.zeros(16, 16), r"shape \(16, 16\)"),
        (torch.zeros(3, 0, 16), r"shape \(3, 0, 16\)"),
        (torch.full((3, 16, 16), 255.0), r"floats from 255 to 255; give floats in \[0, 1\]"),
        (torch.full((3, 16, 16), -0.5), r"floats from -0.5"),
        (torch.zeros(3, 16, 16).index_fill(1, torch.tensor([3]), torch.nan), "floats from nan"),
        (torch.zeros(3, 16, 16, dtype=torch.int64), r"torch.int64; give torch.uint8"),
        (np.zeros((16, 16, 3), np.uint8), "images are a ndarray; give a PIL image"),
        (Image.new("F", (16, 16)), "mode 'F'.*give 8 or 16 bits"),
        ("nowhere.png", r"'nowhere.png' cannot be read"),
    ],
)
def test_what_cannot_be_right_is_one_line(images, said):
    with pytest.raises(UserError, match=said) as error:
        Transform(16, 16, 3)(images)
    one_line(error)


def test_an_empty_batch_is_an_empty_batch():
    assert Transform(16, 12, 3)(torch.zeros(0, 3, 16, 16)).shape == (0, 3, 12, 12)
