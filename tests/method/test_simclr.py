import pytest
import torch
from scipy.stats import ks_2samp, kstest
from torch import Tensor
from torchvision.transforms import ColorJitter, RandomResizedCrop
from torchvision.transforms.v2 import functional as tv

from synthcl.core.errors import UserError
from synthcl.core.rng import generator
from synthcl.method.views.simclr import Draw, SimclrConfig, apply, apply_to_each, draw

BLURRED = SimclrConfig(blur_probability=0.5)


def images(count: int, channels: int, height: int, width: int | None = None) -> Tensor:
    return torch.rand(count, channels, height, width or height, generator=generator("images"))


def still(count: int) -> Draw:
    """The draw that leaves every image as it is."""
    zero, one = torch.zeros(count), torch.ones(count)
    return Draw(zero, zero, one, one, zero, one, one, one, zero, zero)


def with_all(count: int, **values: float) -> Draw:
    """`still` with some parameters set, the same for every view."""
    return still(count)._replace(**{name: torch.full((count,), value) for name, value in values.items()})


def chroma(colours: Tensor) -> Tensor:
    return colours - colours.mean(1, keepdim=True)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_strength_zero_returns_the_images(channels: int, dtype: torch.dtype) -> None:
    real = images(8, channels, 28).to(dtype)
    views = apply(real, draw(BLURRED, 8, 0.0, generator(0)), 28)
    assert views.dtype == dtype
    torch.testing.assert_close(views, real, rtol=0, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [12, 20, 32, 48])
@pytest.mark.parametrize("box", [(0, 0, 32, 32), (3, 7, 20, 13), (11, 0, 9, 32), (16, 24, 16, 8)])
def test_crop_equals_antialiased_resized_crop(channels: int, size: int, box: tuple[int, ...]) -> None:
    real = images(2, channels, 32)
    top, left, height, width = (side / 32 for side in box)
    views = apply(real, with_all(2, top=top, left=left, height=height, width=width), size)
    expected = tv.resized_crop(real, *box, size=[size, size], antialias=True)
    torch.testing.assert_close(views, expected, rtol=0, atol=1e-5)


def test_crop_of_an_oblong_image_equals_antialiased_resized_crop() -> None:
    real = images(2, 3, 24, 40)
    views = apply(real, with_all(2, top=6 / 24, left=10 / 40, height=12 / 24, width=30 / 40), 16)
    expected = tv.resized_crop(real, 6, 10, 12, 30, size=[16, 16], antialias=True)
    torch.testing.assert_close(views, expected, rtol=0, atol=1e-5)


def test_crop_between_pixels_moves_a_ramp_by_the_fraction() -> None:
    ramp = ((torch.arange(32) + 0.5) / 32).expand(1, 1, 32, 32)  # the value of a pixel is its centre's place
    left = torch.tensor([0.21])
    view = apply(ramp, with_all(1, width=0.5)._replace(left=left), 16)[0, 0]
    expected = left + 0.5 * (torch.arange(16) + 0.5) / 16
    torch.testing.assert_close(view[:, 1:-1], expected[1:-1].expand(16, -1), rtol=0, atol=1e-5)


def test_a_crop_smaller_than_a_pixel_shows_that_pixel() -> None:
    real = images(1, 3, 16)
    view = apply(real, with_all(1, top=5.3 / 16, left=2.2 / 16, height=1e-3, width=1e-3), 8)
    torch.testing.assert_close(view, real[:, :, 5:6, 2:3].expand(-1, -1, 8, 8), rtol=0, atol=1e-5)


def test_flip_mirrors_the_crop() -> None:
    real = images(2, 3, 32)
    box = {"top": 3 / 32, "left": 7 / 32, "height": 20 / 32, "width": 13 / 32}
    views = apply(real, with_all(2, flip=1.0, **box), 32)
    torch.testing.assert_close(views, tv.horizontal_flip(apply(real, with_all(2, **box), 32)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7])
@pytest.mark.parametrize("operation", ["brightness", "contrast", "saturation"])
def test_jitter_equals_torchvision(operation: str, factor: float, channels: int) -> None:
    real = images(4, channels, 16)
    views = apply(real, with_all(4, **{operation: factor}), 16)
    expected = getattr(tv, f"adjust_{operation}")(real, factor)
    torch.testing.assert_close(views, expected, rtol=0, atol=3e-4)  # torchvision's luma weights add up to 0.9999


@pytest.mark.parametrize("thirds", [-1, 1])
def test_hue_by_a_third_of_a_turn_equals_torchvision(thirds: int) -> None:
    real = images(4, 3, 16)
    expected = tv.adjust_hue(real, thirds / 3)
    torch.testing.assert_close(expected, real.roll(thirds, 1), rtol=0, atol=1e-4)  # red becomes green, or back
    torch.testing.assert_close(apply(real, with_all(4, hue=thirds / 3), 16), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("turns", [-0.5, -0.1, -0.05, 0.05, 0.1, 0.2])
def test_hue_moves_chroma_nearly_as_torchvision_does(turns: float) -> None:
    real = 0.3 + 0.4 * images(4, 3, 32)  # clamping plays no part
    views, expected = apply(real, with_all(4, hue=turns), 32), tv.adjust_hue(real, turns)
    assert (chroma(views) - chroma(expected)).norm() < 0.1 * chroma(expected).norm()
    direction = torch.cosine_similarity(chroma(views), chroma(expected), dim=1)
    assert direction.min() > 0.9986  # 3 degrees
    torch.testing.assert_close(views.mean(1), real.mean(1), rtol=0, atol=1e-5)


def test_grayscale_equals_torchvision() -> None:
    real = images(4, 3, 16)
    expected = tv.rgb_to_grayscale(real, num_output_channels=3)
    torch.testing.assert_close(apply(real, with_all(4, grayscale=1.0), 16), expected, rtol=0, atol=3e-4)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 2.0])
def test_blur_equals_torchvision(sigma: float) -> None:
    real = images(4, 3, 24)
    expected = tv.gaussian_blur(real, kernel_size=[23, 23], sigma=[sigma, sigma])
    torch.testing.assert_close(apply(real, with_all(4, blur_sigma=sigma), 24), expected, rtol=0, atol=1e-5)


def test_operations_compose_in_order() -> None:
    real = 0.35 + 0.3 * images(4, 3, 32)  # clamping plays no part
    box = {"top": 3 / 32, "left": 7 / 32, "height": 20 / 32, "width": 13 / 32}
    jitter = {"brightness": 1.3, "contrast": 0.7, "saturation": 1.4, "hue": 1 / 3}
    views = apply(real, with_all(4, flip=1.0, blur_sigma=0.6, **box, **jitter), 24)
    expected = tv.horizontal_flip(tv.resized_crop(real, 3, 7, 20, 13, size=[24, 24], antialias=True))
    for operation, value in jitter.items():
        expected = getattr(tv, f"adjust_{operation}")(expected, value)
    expected = tv.gaussian_blur(expected, kernel_size=[9, 9], sigma=[0.6, 0.6])
    torch.testing.assert_close(views, expected, rtol=0, atol=1e-3)
    grey = apply(real, with_all(4, flip=1.0, blur_sigma=0.6, grayscale=1.0, **box, **jitter), 24)
    torch.testing.assert_close(grey, tv.rgb_to_grayscale(expected, 3), rtol=0, atol=1e-3)


def test_chroma_operations_leave_grey_images_alone() -> None:
    real, jitter = images(4, 1, 16), {"brightness": 1.2, "contrast": 0.6}
    views = apply(real, with_all(4, saturation=0.2, hue=0.3, grayscale=1.0, **jitter), 16)
    assert torch.equal(views, apply(real, with_all(4, **jitter), 16))


def test_grey_images_get_the_same_views_with_one_channel_and_three() -> None:
    real, drawn = images(16, 1, 28), draw(BLURRED, 16, 1.5, generator(0))
    views = apply(real.expand(-1, 3, -1, -1), drawn, 20)
    torch.testing.assert_close(views, apply(real, drawn, 20).expand(-1, 3, -1, -1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("area_min", "ratio_max"), [(0.2, 4 / 3), (0.08, 4 / 3), (0.6, 2.0)])
def test_crops_are_distributed_as_random_resized_crop(area_min: float, ratio_max: float) -> None:
    drawn = draw(SimclrConfig(crop_area_min=area_min, crop_ratio_max=ratio_max), 20000, 1.0, generator(0))
    ours = torch.stack([drawn.height * drawn.width, drawn.width / drawn.height, drawn.top, drawn.left])
    square = torch.empty(3, 4096, 4096, device="meta")  # so large that whole pixels play no part
    with torch.random.fork_rng():
        torch.manual_seed(0)
        boxes = [RandomResizedCrop.get_params(square, [area_min, 1.0], [1 / ratio_max, ratio_max]) for _ in range(4000)]
    top, left, height, width = torch.tensor(boxes).double().T / 4096
    for mine, theirs in zip(ours, (height * width, width / height, top, left), strict=True):
        assert ks_2samp(mine, theirs).pvalue > 0.001
    assert (drawn.top + drawn.height).max() <= 1 + 1e-6
    assert (drawn.left + drawn.width).max() <= 1 + 1e-6
    assert torch.stack([drawn.top, drawn.left]).min() >= 0


def test_a_crop_that_never_fits_is_the_whole_image() -> None:
    drawn = draw(SimclrConfig(crop_area_min=1.0), 100, 1.0, generator(0))
    assert torch.equal(torch.stack(drawn[:4]), torch.tensor([0.0, 0.0, 1.0, 1.0])[:, None].expand(4, 100))


@pytest.mark.parametrize("strength", [0.3, 1.0, 2.0])
def test_jitter_is_uniform_over_the_scaled_range(strength: float) -> None:
    config = SimclrConfig(jitter_probability=1.0, brightness=0.3, contrast=0.45, saturation=0.6, hue=0.3)
    drawn = draw(config, 20000, strength, generator(0))
    for name in ("brightness", "contrast", "saturation"):
        spread = getattr(config, name) * strength
        low, high = max(0.0, 1 - spread), 1 + spread
        assert kstest(getattr(drawn, name), "uniform", (low, high - low)).pvalue > 0.001
    turns = min(0.5, 0.3 * strength)
    assert kstest(drawn.hue, "uniform", (-turns, 2 * turns)).pvalue > 0.001


def test_jitter_is_distributed_as_color_jitter() -> None:
    config = SimclrConfig(jitter_probability=1.0, brightness=0.4, contrast=0.5, saturation=0.6, hue=0.1)
    drawn = draw(config, 20000, 1.0, generator(0))
    ours = drawn.brightness, drawn.contrast, drawn.saturation, drawn.hue
    jitter = ColorJitter(config.brightness, config.contrast, config.saturation, config.hue)
    ranges = jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torch.tensor([ColorJitter.get_params(*ranges)[1:] for _ in range(2000)]).T
    for mine, other in zip(ours, theirs, strict=True):
        assert ks_2samp(mine, other).pvalue > 0.001


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 2.0])
def test_probabilities_follow_strength(strength: float) -> None:
    config = SimclrConfig(blur_probability=0.6, grayscale_probability=0.2, jitter_probability=0.8)
    drawn = draw(config, 20000, strength, generator(0))
    blurred = torch.zeros(1) if drawn.blur_sigma is None else (drawn.blur_sigma > 0).float()
    assert blurred.mean() == pytest.approx(min(1.0, 0.6 * strength), abs=0.015)
    assert drawn.grayscale.mean() == pytest.approx(0.2 * strength, abs=0.015)
    assert drawn.flip.mean() == pytest.approx(0.5 * min(1.0, strength), abs=0.015)
    assert (drawn.hue != 0).float().mean() == pytest.approx(0.8 if strength else 0.0, abs=0.015)
    assert torch.equal(drawn.hue != 0, drawn.brightness != 1)  # jitter is all or nothing


def test_blur_sigma_is_uniform_over_its_range() -> None:
    sigma = draw(SimclrConfig(blur_probability=1.0, blur_sigma_max=2.0), 20000, 1.0, generator(0)).blur_sigma
    assert kstest(sigma, "uniform", (0.1, 1.9)).pvalue > 0.001


def test_strength_scales_the_crop() -> None:
    for strength, smallest in ((0.5, 0.6), (1.0, 0.2), (2.0, 0.08)):
        drawn = draw(SimclrConfig(crop_area_min=0.2), 20000, strength, generator(0))
        assert (drawn.height * drawn.width).min() == pytest.approx(smallest, abs=0.01)
        assert (drawn.width / drawn.height).max() == pytest.approx((4 / 3) ** strength, rel=0.01)


def test_a_view_changes_smoothly_with_strength() -> None:
    real = images(64, 3, 32)
    near, far = (apply(real, draw(BLURRED, 64, s, generator(0)), 32) for s in (1.0, 1.0001))
    assert (near - far).abs().amax((1, 2, 3)).median() < 1e-3


@pytest.mark.parametrize(("channels", "size"), [(1, 4), (3, 4), (3, 8)])
def test_gradient_equals_finite_differences(channels: int, size: int) -> None:
    real = (0.4 + 0.2 * images(2, channels, 5, 6).double()).requires_grad_()  # away from the kinks of clamping
    drawn = draw(SimclrConfig(blur_probability=0.7, jitter_probability=1.0), 2, 1.0, generator(3))
    assert torch.autograd.gradcheck(lambda batch: apply(batch, drawn, size), real)


@pytest.mark.parametrize("config", [SimclrConfig(), BLURRED])
@pytest.mark.parametrize("channels", [1, 3])
def test_rows_of_a_draw_give_rows_of_the_views(config: SimclrConfig, channels: int) -> None:
    real, drawn = images(16, channels, 28), draw(config, 16, 1.0, generator(0))
    views = apply(real, drawn, 24)
    for rows in (slice(4, 12), torch.tensor([9, 2, 2, 15]), torch.arange(16) % 3 == 0):
        torch.testing.assert_close(apply(real[rows], drawn.rows(rows), 24), views[rows], rtol=0, atol=1e-6)


def test_several_views_of_an_image_are_those_of_its_copies() -> None:
    real, drawn = images(8, 3, 28), draw(BLURRED, 16, 1.0, generator(0))
    torch.testing.assert_close(apply(real, drawn, 24), apply(real.repeat(2, 1, 1, 1), drawn, 24), rtol=0, atol=1e-6)


def test_sets_of_images_get_the_views_of_their_rows_and_only_asked_for_gradients() -> None:
    still_ones, learnt = images(6, 3, 28), images(4, 3, 28).requires_grad_()
    drawn = draw(BLURRED, 20, 1.0, generator(0))
    first, second = apply_to_each([still_ones, learnt], [12, 8], drawn, 24)
    torch.testing.assert_close(first, apply(still_ones, drawn.rows(slice(12)), 24), rtol=0, atol=1e-6)
    torch.testing.assert_close(second, apply(learnt, drawn.rows(slice(12, 20)), 24), rtol=0, atol=1e-6)
    assert second.requires_grad
    assert not first.requires_grad


def test_draws_of_two_generators_follow_each_other() -> None:
    both = draw(BLURRED, 5, 1.0, generator(0), generator(1))
    for rows, seed in ((slice(5), 0), (slice(5, 10), 1)):
        for mine, alone in zip(both.rows(rows), draw(BLURRED, 5, 1.0, generator(seed)), strict=True):
            assert torch.equal(mine, alone)


def test_skipping_the_blur_changes_nothing_where_no_view_is_blurred() -> None:
    real, drawn = images(8, 3, 28), draw(SimclrConfig(), 8, 1.0, generator(0))
    assert drawn.blur_sigma is None
    views = apply(real, drawn._replace(blur_sigma=torch.zeros(8)), 24)
    torch.testing.assert_close(views, apply(real, drawn, 24), rtol=0, atol=1e-6)


def test_views_of_one_image_differ() -> None:
    views = apply(images(1, 3, 32).expand(32, -1, -1, -1), draw(SimclrConfig(), 32, 1.0, generator(0)), 32)
    distances = torch.cdist(views.flatten(1), views.flatten(1)) + 1e9 * torch.eye(32)
    assert distances.min() > 0.1


def test_a_draw_depends_on_its_generator_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = (draw(BLURRED, 64, 1.0, generator(seed)) for seed in (0, 0, 1))
    for mine, same, different in zip(first, again, other, strict=True):
        assert torch.equal(mine, same)
        assert not torch.equal(mine, different)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("pixels", "size"), [(28, 28), (32, 17), (24, 50), (96, 24)])
def test_views_have_their_size_and_stay_in_range(channels: int, pixels: int, size: int) -> None:
    views = apply(images(16, channels, pixels), draw(BLURRED, 16, 2.0, generator(0)), size)
    assert views.shape == (16, channels, size, size)
    assert views.min() >= 0
    assert views.max() <= 1
    assert views.isfinite().all()


def test_an_empty_batch_gives_no_views() -> None:
    assert apply(images(0, 3, 32), draw(BLURRED, 0, 1.0, generator(0)), 24).shape == (0, 3, 24, 24)


def test_moving_a_draw_keeps_its_numbers() -> None:
    for config in (SimclrConfig(), BLURRED):
        drawn = draw(config, 4, 1.0, generator(0))
        for mine, moved in zip(drawn, drawn.to("cpu"), strict=True):
            assert (mine is None and moved is None) or torch.equal(mine, moved)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("channels", [1, 3])
def test_views_and_gradients_are_the_same_on_a_gpu(channels: int) -> None:
    drawn, results = draw(BLURRED, 16, 1.0, generator(0)), []
    for device in ("cpu", "cuda"):
        real = images(16, channels, 32).to(device).requires_grad_()
        views = apply(real, drawn.to(device), 24)
        results.append((views.cpu(), torch.autograd.grad(views.square().sum(), real)[0].cpu()))
    torch.testing.assert_close(*results, rtol=0, atol=1e-4)


def test_reduced_precision_does_not_reach_the_interpolation() -> None:
    real, drawn = images(4, 3, 32).bfloat16(), draw(BLURRED, 4, 1.0, generator(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        views = apply(real, drawn, 32)
    torch.testing.assert_close(views, apply(real.float(), drawn, 32))


def test_bad_input_is_named() -> None:
    with pytest.raises(UserError, match=r"view strength -0\.5 must be in \[0, 2\]"):
        draw(SimclrConfig(), 4, -0.5, generator(0))
    drawn = draw(SimclrConfig(), 4, 1.0, generator(0))
    with pytest.raises(
        UserError, match=r"\(5, 3, 32, 32\) must be \(m, 1 or 3, H, W\) with m a divisor of the 4 views"
    ):
        apply(images(5, 3, 32), drawn, 32)
    with pytest.raises(UserError, match=r"\(4, 2, 32, 32\)"):
        apply(images(4, 2, 32), drawn, 32)
