"""Encoders, projector, GAN networks and synchronised batch normalisation."""

import copy

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torchvision
from torch import nn

from synthcl.core.device import channels_last, normalise
from synthcl.core.errors import UserError
from synthcl.method.encoders.batch_norm import GlooBatchNorm, synchronise_batch_norm
from synthcl.method.encoders.conv import ConvConfig
from synthcl.method.encoders.projector import Projector
from synthcl.method.encoders.resnet import ResnetConfig
from synthcl.method.scene import Seen, Views
from synthcl.method.synthetic.gan.networks import base_and_doublings, make_discriminator, make_generator
from synthcl.method.synthetic.gan.settings import GanConfig

SIZES = [16, 20, 24, 28, 32, 48, 64, 96, 128]


def test_normalise_maps_the_unit_interval_to_minus_one_and_one():
    assert normalise(torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1)).flatten().tolist() == [-1, 0, 1]


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_keeps_the_images_and_leaves_no_doubt_about_their_layout(channels):
    images = torch.rand(2, channels, 4, 6)
    moved = channels_last(images)
    assert torch.equal(moved, images)
    assert moved.stride() == (24 * channels, 1, 6 * channels, channels)
    assert channels_last(images[:0]).shape == (0, channels, 4, 6)


@pytest.mark.parametrize("config", [ConvConfig(width=4), ResnetConfig(kind="resnet18", stem="imagenet")])
def test_an_encoder_takes_its_batch_in_parts_and_only_asked_for_gradients_are_made(config):
    encoder = config.build(3).double()
    images = torch.rand(6, 3, 32, 32, dtype=torch.float64)
    parts = [images[:3], images[3:5].clone().requires_grad_(), images[5:]]
    whole = images.clone().requires_grad_()
    results = []
    for batch in (parts, whole):
        features = encoder(batch)
        features.square().sum().backward()
        results.append((features, [parameter.grad.clone() for parameter in encoder.parameters()]))
        encoder.zero_grad()
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(parts[1].grad, whole.grad[3:5])
    torch.testing.assert_close(encoder([images[:2], images[2:]]), encoder(images))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("config", [ConvConfig(width=8), ResnetConfig(stem="cifar"), ResnetConfig(stem="imagenet")])
def test_encoder_gives_features_of_its_stated_dimension(config, channels):
    encoder = config.build(channels).eval()
    assert encoder(torch.zeros(2, channels, 32, 32)).shape == (2, encoder.feature_dim)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnet_is_torchvisions_less_the_classifier(name):
    theirs = getattr(torchvision.models, name)().eval()
    ours = ResnetConfig(kind=name, stem="imagenet").build(3).eval()
    ours.load_state_dict({key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")})
    theirs.fc = nn.Identity()
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(ours(images), theirs(images))


def test_cifar_stem_keeps_the_resolution():
    encoder = ResnetConfig(kind="resnet18", stem="cifar").build(1)
    stem = nn.Sequential(encoder.conv1, encoder.bn1, encoder.relu, encoder.maxpool)
    assert stem(torch.zeros(1, 1, 28, 28)).shape == (1, 64, 28, 28)


def test_conv_encoder_takes_every_size_from_16_pixels():
    encoder = ConvConfig(width=4).build(1).eval()
    assert {encoder(torch.zeros(1, 1, size, size)).shape for size in (16, 20, 28, 96)} == {(1, encoder.feature_dim)}


def test_embeddings_are_what_a_head_makes_on_the_unit_sphere():
    head = Projector(16, 32, 8)
    views = Views((torch.rand(5, 1, 4, 4),), (5,), {"real": slice(0, 5)}, torch.arange(5)[:, None])
    seen = Seen(views, lambda parts: parts[0].flatten(1), {"main": head})
    assert seen.head("main").shape == seen.embeddings("main").shape == (5, 8)
    torch.testing.assert_close(seen.embeddings("main").norm(dim=1), torch.ones(5))
    lengths = seen.head("main").norm(dim=1, keepdim=True)
    torch.testing.assert_close(seen.embeddings("main") * lengths, seen.head("main"))
    assert seen.head("main") is seen.head("main")  # made once


@pytest.mark.parametrize(
    ("size", "expected"), [(8, (4, 1)), (16, (4, 2)), (20, (5, 2)), (28, (7, 2)), (96, (6, 4)), (128, (4, 5))]
)
def test_sizes_factor_into_base_and_doublings(size, expected):
    assert base_and_doublings(size) == expected


@pytest.mark.parametrize(("size", "nearest"), [(30, "28 or 32"), (100, "96 or 112"), (7, "8"), (36, "32 or 40")])
def test_other_sizes_are_refused_with_the_nearest_good_ones(size, nearest):
    with pytest.raises(UserError, match=rf"{size} .*nearest that is: {nearest}$"):
        make_generator(GanConfig(), 1, size)
    with pytest.raises(UserError, match=rf"{size} .*nearest that is: {nearest}$"):
        make_discriminator(GanConfig(), 1, size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_gan_makes_and_judges_images_of_every_size(size, channels):
    config = GanConfig(latent_dim=8, generator_width=4, discriminator_width=4)
    images = make_generator(config, channels, size)(torch.randn(2, 8))
    assert images.shape == (2, channels, size, size)
    assert images.min() >= 0
    assert images.max() <= 1
    assert make_discriminator(config, channels, size)(images).shape == (2,)


@pytest.mark.parametrize("spectral", [True, False])
def test_generator_and_discriminator_see_each_row_alone(spectral):
    config = GanConfig(spectral_norm=spectral)
    generator, discriminator = make_generator(config, 1, 28), make_discriminator(config, 1, 28)
    latents = torch.randn(6, config.latent_dim)
    images = generator(latents)
    torch.testing.assert_close(generator(latents[2:4]), images[2:4])
    sliced = copy.deepcopy(discriminator)
    torch.testing.assert_close(sliced(images[2:4]), discriminator(images)[2:4])
    for name, buffer in discriminator.named_buffers():  # the power iteration moved on alike
        torch.testing.assert_close(sliced.get_buffer(name), buffer)


def test_generator_begins_without_a_checkerboard():
    generator = make_generator(GanConfig(), 1, 28)
    stages = []
    for layer in generator.layers:
        if isinstance(layer, nn.PixelShuffle):
            layer.register_forward_hook(lambda layer, inputs, output: stages.append(output))
    generator(torch.randn(2, 64))
    assert [stage.shape[-1] for stage in stages] == [14, 28]
    for stage in stages:
        corner = stage[:, :, ::2, ::2]
        assert corner.std() > 0
        for subpixel in (stage[:, :, ::2, 1::2], stage[:, :, 1::2, ::2], stage[:, :, 1::2, 1::2]):
            torch.testing.assert_close(subpixel, corner)


def test_generator_has_no_running_statistics():
    assert not list(make_generator(GanConfig(), 1, 28).buffers())


def test_spectral_norm_bounds_the_largest_singular_value_of_every_weight():
    discriminator = make_discriminator(GanConfig(discriminator_width=8), 1, 16)
    for parameter in discriminator.parameters():
        parameter.data.mul_(10)
    for _ in range(100):
        discriminator(torch.zeros(1, 1, 16, 16))
    weights = [layer.weight for layer in discriminator.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(weights) >= 3
    for weight in weights:
        assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)


def test_two_passes_of_the_discriminator_share_one_backward_pass():
    discriminator = make_discriminator(GanConfig(), 1, 16)
    images = torch.rand(2, 2, 1, 16, 16, requires_grad=True)
    (discriminator(images[0]) - discriminator(images[1])).sum().backward()
    assert images.grad.abs().sum() > 0


class Handmade(nn.Module):
    def __init__(self, latent_dim, channels, image_size, low=0.0, high=1.0, cut=False, extra=0):
        super().__init__()
        self.linear = nn.Linear(latent_dim, channels * (image_size + extra) ** 2)
        self.shape, self.low, self.high, self.cut = (channels, image_size + extra, image_size + extra), low, high, cut

    def forward(self, latents):
        images = self.linear(latents).sigmoid().view(-1, *self.shape) * (self.high - self.low) + self.low
        return images.detach() if self.cut else images


def too_dark(**sizes):
    return Handmade(**sizes, low=-1.0)


def too_large(**sizes):
    return Handmade(**sizes, extra=1)


def cut_off(**sizes):
    return Handmade(**sizes, cut=True)


def no_module(**sizes):
    return 3


def failing(**sizes):
    return nn.Linear(sizes["latent_dim"] + 1, 2)


def picky(latent_dim):
    return nn.Identity()


def test_a_users_own_generator_is_used():
    generator = make_generator(GanConfig(generator=f"{__name__}:Handmade", latent_dim=8), 3, 17)
    assert isinstance(generator, Handmade)
    assert generator(torch.randn(2, 8)).shape == (2, 3, 17, 17)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("too_dark", r"values from -\d.* must lie in \[0, 1\]"),
        ("too_large", r"returned \(2, 3, 17, 17\) .* must return images \(2, 3, 16, 16\)"),
        ("cut_off", "without a gradient"),
        ("no_module", "returned a int"),
        ("failing", r"fails on latents \(2, 8\)"),
        ("picky", "cannot be called with latent_dim, channels and image_size"),
        ("SIZES", "is a list"),
        ("missing", "cannot be imported"),
    ],
)
def test_a_users_bad_generator_is_refused_with_the_reason(name, message):
    with pytest.raises(UserError, match=message):
        make_generator(GanConfig(generator=f"{__name__}:{name}", latent_dim=8), 3, 16)


@pytest.mark.parametrize("name", ["nowhere", ":x", "nowhere_at_all:x"])
def test_a_generators_bad_name_is_refused(name):
    with pytest.raises(UserError, match=r"gan\.generator"):
        make_generator(GanConfig(generator=name), 1, 16)


def test_one_process_keeps_its_batch_norm():
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    assert synchronise_batch_norm(network) is network
    assert type(network[1]) is nn.BatchNorm1d


def _network():
    torch.manual_seed(0)
    network = nn.Sequential(ConvConfig(width=4).build(1), Projector(16, 8, 4), nn.BatchNorm1d(4, momentum=None))
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    return network.double()


def _forward_backward(network, images, target):
    images = images.clone().requires_grad_()
    output = network(images)
    (output * target).sum().backward()
    return output.detach(), images.grad, [parameter.grad for parameter in network.parameters()]


def _worker(rank, folder, results):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    images, target = torch.load(f"{folder}/batch.pt", weights_only=True)
    network = synchronise_batch_norm(_network())
    assert sum(isinstance(module, GlooBatchNorm) for module in network.modules()) == 6
    rows = slice(rank * 3, rank * 3 + 3)
    for _ in range(2):  # twice, so that running statistics have moved from something moved
        network.zero_grad()
        output, image_gradient, gradients = _forward_backward(network, images[rows], target[rows])
    for gradient in gradients:
        dist.all_reduce(gradient)
    evaluated = network.eval()(images[rows]).detach()
    results[rank] = [output, image_gradient, gradients, network.state_dict(), evaluated]
    dist.destroy_process_group()


def test_two_processes_normalise_like_one_with_the_whole_batch(tmp_path):
    torch.manual_seed(1)
    images, target = torch.rand(6, 1, 16, 16).double() + 3, torch.randn(6, 4).double()
    torch.save((images, target), tmp_path / "batch.pt")
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(_worker, (str(tmp_path), results), nprocs=2)
        first, second = results[0], results[1]

    network = _network()
    for _ in range(2):
        network.zero_grad()
        output, image_gradient, gradients = _forward_backward(network, images, target)
    close = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(torch.cat([first[0], second[0]]), output, **close)
    torch.testing.assert_close(torch.cat([first[1], second[1]]), image_gradient, **close)
    for ours, theirs in zip(first[2], gradients, strict=True):
        torch.testing.assert_close(ours, theirs, **close)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(first[3][name], value, **close)
        torch.testing.assert_close(second[3][name], value, **close)
    torch.testing.assert_close(torch.cat([first[4], second[4]]), network.eval()(images).detach(), **close)
