"""Generator and discriminator without batch statistics: G(z) depends on z alone, D(x) on x alone.

So the slices of a batch on several processes agree with the whole, and the averaged generator needs no
statistics of its own.
"""

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from synthcl.core.device import channels_last
from synthcl.core.errors import UserError
from synthcl.method.synthetic.gan.custom import users_generator
from synthcl.method.synthetic.gan.settings import GanConfig


def make_generator(config: GanConfig, channels: int, image_size: int) -> nn.Module:
    """The generator: latents (n, latent_dim) -> images (n, C, image_size, image_size) in [0, 1].

    Args:
        config: the gan section; `config.generator` names a factory of the user's own.
        channels: of the images.
        image_size: pixels a side: base * 2^k with base 4 to 7, unless the generator is the user's own.

    Raises:
        UserError: on a size the generator cannot make, or a user's generator that breaks the contract.
    """
    if config.generator is None:
        return Generator(config.latent_dim, config.generator_width, channels, image_size)
    return users_generator(config, channels, image_size)


def make_discriminator(config: GanConfig, channels: int, image_size: int) -> nn.Module:
    """The discriminator: images (n, C, image_size, image_size) in [0, 1] -> logits (n,), large for real.

    Args:
        config: the gan section.
        channels: of the images.
        image_size: pixels a side: base * 2^k with base 4 to 7.

    Raises:
        UserError: on another size.
    """
    return Discriminator(config.discriminator_width, channels, image_size, config.spectral_norm)


class Generator(nn.Module):
    """A linear layer to base x base pixels, then upsampling and convolution to the image.

    Args:
        latent_dim: dimensions of z.
        width: channels of the last stage; each earlier one has twice as many, up to 8 * width.
        channels: of the images.
        image_size: pixels a side.
    """

    def __init__(self, latent_dim: int, width: int, channels: int, image_size: int) -> None:
        super().__init__()
        self.base, doublings = base_and_doublings(image_size)
        widths = [width * 2 ** min(3, left) for left in range(doublings, -1, -1)]  # at base, ..., image_size pixels
        self.first = nn.Linear(latent_dim, widths[0] * self.base**2)
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [PixelNorm(), _doubling(inputs, outputs), nn.PixelShuffle(2), nn.LeakyReLU(0.2, inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (n, latent_dim) -> images (n, C, image_size, image_size) in [0, 1]."""
        stage = self.first(latents).view(len(latents), -1, self.base, self.base)
        stage = F.leaky_relu(stage, 0.2, inplace=True).contiguous(memory_format=torch.channels_last)
        return 0.5 * (self.layers(stage).tanh() + 1)


def _doubling(inputs: int, outputs: int) -> nn.Conv2d:
    """A convolution before a pixel shuffle whose four subpixels begin equal: no checkerboard to unlearn.

    Source: Aitken et al. 2017, "Checkerboard artifact free sub-pixel convolution".
    """
    convolution = nn.Conv2d(inputs, 4 * outputs, 3, padding=1)
    with torch.no_grad():
        for parameter in convolution.parameters():
            parameter.copy_(parameter[::4].repeat_interleave(4, dim=0))
    return convolution


class PixelNorm(nn.Module):
    """Each pixel's channels divided by their root mean square (Karras et al. 2018, section 4.2)."""

    def forward(self, stage: Tensor) -> Tensor:
        return stage * (stage.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class Discriminator(nn.Module):
    """Strided convolutions to half of base x base pixels, then one logit an image.

    Args:
        width: channels of the first stage; each later one has twice as many, up to 8 * width.
        channels: of the images.
        image_size: pixels a side.
        spectral: divide every weight by its largest singular value (Miyato et al. 2018).
    """

    def __init__(self, width: int, channels: int, image_size: int, spectral: bool) -> None:
        super().__init__()
        base, halvings = base_and_doublings(image_size)
        normed: Callable[[nn.Module], nn.Module] = spectral_norm if spectral else lambda layer: layer
        widths = [channels] + [width * 2 ** min(3, stage) for stage in range(halvings + 1)]
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [normed(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)), nn.LeakyReLU(0.2, inplace=True)]
        left = (base + 1) // 2  # pixels a side after the last stride, 2 to 4
        layers += [nn.Flatten(), normed(nn.Linear(widths[-1] * left**2, 1))]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, C, image_size, image_size) in [0, 1] -> logits (n,)."""
        return self.layers(channels_last(images * 2 - 1)).squeeze(1)


def base_and_doublings(image_size: int) -> tuple[int, int]:
    """Write a size as base * 2^doublings with base 4 to 7 and at least one doubling.

    Raises:
        UserError: on a size that is not of this form.
    """
    for base in (4, 5, 6, 7):
        ratio = image_size // base
        if image_size % base == 0 and ratio >= 2 and ratio & (ratio - 1) == 0:
            return base, ratio.bit_length() - 1
    sizes = sorted(base * 2**doublings for base in (4, 5, 6, 7) for doublings in range(1, 8))
    smaller = [size for size in sizes if size < image_size]
    larger = [size for size in sizes if size > image_size]
    nearest = " or ".join(str(size) for size in smaller[-1:] + larger[:1])
    raise UserError(
        f"synthetic.gan.image_size {image_size} is not base * 2^k with base 4 to 7; the nearest that is: {nearest}"
    )
