"""Mixed views: pixels and memberships against the equations, and what a step with them owes the rest of the run."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from small_trainer import CPU, random_images, tiny_config, untrained_gan

from synthcl.config.schema import Config
from synthcl.method.objectives.ppcl import ppcl
from synthcl.method.scene import Views
from synthcl.method.views import mixup, resizemix
from synthcl.method.views.cutmix import CutmixConfig
from synthcl.method.views.mixup import MixupConfig
from synthcl.method.views.resizemix import ResizemixConfig
from synthcl.training.trainer import Trainer

ON = {"share": 1.0}
SECTIONS = {"mixup": MixupConfig, "cutmix": CutmixConfig, "resizemix": ResizemixConfig}
MIXERS = [{"kind": kind} for kind in SECTIONS]
each_mixer = pytest.mark.parametrize("mixer", MIXERS, ids=lambda mixer: mixer["kind"])


def views_of(count: int, size: int = 8, channels: int = 3) -> Views:
    """Real images in two views each, then as many synthetic ones in two views each."""
    real, fake = torch.rand(2, count, channels, size, size, generator=torch.Generator().manual_seed(0))
    groups = torch.arange(count // 2).repeat(2)
    return Views(
        (real, fake),
        (count, count),
        {"real": slice(0, count), "gan": slice(count, 2 * count)},
        torch.cat([groups, groups + count // 2])[:, None],
        images=torch.cat([groups, torch.full((count,), -1)])[:, None],
    )


def trainer_of(config: Config) -> Trainer:
    return Trainer(config, random_images(), None if config.is_real_only else untrained_gan(config), CPU)


def test_mixup_is_a_weighted_mean_with_the_partner_in_pixels_and_in_groups():
    views, mixer = views_of(8), MixupConfig().build(8)
    draw = mixer.draw(16, 1.0, torch.Generator().manual_seed(1))
    after = mixer(views, draw, {"share": 0.6})
    before, mixed = (torch.cat(v.parts).double().numpy() for v in (views, after))
    group = views.members[:, 0]
    for i in range(16):
        p = i ^ 1
        kept = draw.kept[i].item() if draw.chosen[i] < 0.6 else 1.0
        np.testing.assert_allclose(mixed[i], kept * before[i] + (1 - kept) * before[p], atol=1e-6)
        assert after.members[i].tolist() == [group[i], group[p]]
        assert after.images[i].tolist() == [views.images[i, 0], views.images[p, 0]]
        assert after.weights[i].tolist() == pytest.approx([kept, 1 - kept])
    assert 0 < (draw.chosen < 0.6).sum() < 16
    assert (after.counts, after.spans) == (views.counts, views.spans)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
def test_what_mixup_keeps_is_the_larger_share_of_a_beta_number(alpha):
    draw = MixupConfig(alpha=alpha).build(8).draw(4000, 1.0, torch.Generator().manual_seed(0))
    beta = stats.beta(alpha, alpha)
    assert draw.kept.min() >= 0.5
    assert stats.kstest(draw.kept.numpy(), lambda kept: 2 * beta.cdf(kept) - 1).pvalue > 1e-3
    assert stats.kstest(draw.chosen.numpy(), "uniform").pvalue > 1e-3


def test_gradients_of_mixup_reach_both_images_by_their_weights():
    mixer, pixels = MixupConfig().build(8), torch.rand(2, 1, 8, 8, requires_grad=True)
    draw = mixup.Draw(torch.zeros(2), torch.tensor([0.7, 0.9]))
    after = mixer(Views((pixels,), (2,), {}, torch.arange(2)[:, None]), draw, ON)
    (gradient,) = torch.autograd.grad(after.parts[0][0].sum(), pixels)
    torch.testing.assert_close(gradient[:, 0], torch.tensor([0.7, 0.3])[:, None, None].expand(2, 8, 8))


def test_resizemix_pastes_the_whole_partner_and_touches_nothing_else():
    views, mixer = views_of(8, size=16), ResizemixConfig(scale_min=0.3, scale_max=0.6).build(16)
    draw = mixer.draw(16, 1.0, torch.Generator().manual_seed(3))
    after = mixer(views, draw, ON)
    before, mixed = torch.cat(views.parts), torch.cat(after.parts)
    assert 5 <= draw.side <= 10
    for i in range(16):
        top, left = int(draw.top[i]), int(draw.left[i])
        expected = before[i].clone()
        small = F.interpolate(before[i ^ 1][None], size=(draw.side, draw.side), mode="bilinear", antialias=True)[0]
        expected[:, top : top + draw.side, left : left + draw.side] = small
        torch.testing.assert_close(mixed[i], expected)
        outside = torch.ones(16, 16, dtype=torch.bool)
        outside[top : top + draw.side, left : left + draw.side] = False
        assert torch.equal(mixed[i][:, outside], before[i][:, outside])
    assert len({*draw.top.tolist()}) > 3


def test_the_weight_of_resizemix_is_the_share_of_pixels_that_are_left_and_boxes_reach_every_place():
    mixer = ResizemixConfig().build(8)
    sides, places = set(), set()
    for seed in range(200):
        draw = mixer.draw(4, 1.0, torch.Generator().manual_seed(seed))
        pixels = torch.tensor([0.0, 1.0]).repeat(2)[:, None, None, None].expand(4, 1, 8, 8)
        after = mixer(Views((pixels,), (4,), {}, torch.arange(4)[:, None]), draw, ON)
        for i in (0, 2):  # black, with a white partner
            assert after.weights[i, 1].item() == pytest.approx(after.parts[0][i].mean().item(), abs=1e-6)
        sides.add(draw.side)
        places |= {(draw.side, int(place)) for place in torch.cat([draw.top, draw.left])}
    assert sides == {1, 2, 3, 4, 5, 6}  # 0.1 to 0.8 of 8 pixels
    assert {place for side, place in places if side == 5} == {0, 1, 2, 3}


def test_cutmix_replaces_a_box_by_that_of_the_partner_and_touches_nothing_else():
    views, mixer = views_of(8), CutmixConfig().build(8)
    sides = set()
    for seed in range(40):
        draw = mixer.draw(16, 1.0, torch.Generator().manual_seed(seed))
        after = mixer(views, draw, {"share": 0.6})
        before, mixed = torch.cat(views.parts), torch.cat(after.parts)
        for i in range(16):
            expected, kept = before[i].clone(), 64
            if draw.chosen[i] < 0.6:
                box = tuple(slice(int(first[i]), int(first[i]) + draw.side) for first in (draw.top, draw.left))
                expected[:, *box] = before[i ^ 1][:, *box]
                kept -= draw.side**2
            assert torch.equal(mixed[i], expected)
            assert after.weights[i].tolist() == pytest.approx([kept / 64, 1 - kept / 64])
        sides.add(draw.side)
    assert len(sides) > 4
    assert sides <= {*range(9)}


@pytest.mark.parametrize("alpha", [0.5, 4.0])
def test_boxes_of_cutmix_have_the_area_of_a_beta_number(alpha):
    mixer = CutmixConfig(alpha=alpha).build(512)
    sides = [mixer.draw(2, 1.0, torch.Generator().manual_seed(seed)).side for seed in range(500)]
    assert stats.kstest(np.square(np.array(sides) / 512), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_gradients_of_cutmix_reach_each_pixel_of_the_image_that_shows_it():
    mixer, pixels = CutmixConfig().build(8), torch.rand(2, 1, 8, 8, requires_grad=True)
    draw = resizemix.Draw(torch.zeros(2), torch.full((2,), 0.75), torch.full((2,), 1.0), torch.full((2,), 3.0), 4)
    after = mixer(Views((pixels,), (2,), {}, torch.arange(2)[:, None]), draw, ON)
    (gradient,) = torch.autograd.grad(after.parts[0][0].sum(), pixels)
    box = torch.zeros(8, 8)
    box[1:5, 3:7] = 1
    assert torch.equal(gradient[:, 0], torch.stack([1 - box, box]))


@each_mixer
def test_a_mixture_that_keeps_everything_is_the_view_itself(mixer):
    views = views_of(8)
    zeros, ones = torch.zeros(16), torch.ones(16)
    draws = {
        "mixup": mixup.Draw(zeros, ones),
        "cutmix": resizemix.Draw(zeros, ones, zeros, zeros, 0),  # a box of no pixels
        "resizemix": resizemix.Draw(ones, zeros, zeros, zeros, 4),  # not chosen
    }
    made = SECTIONS[mixer["kind"]]().build(8)
    after = made(views, draws[mixer["kind"]], {"share": 0.5})
    for one, other in zip(after.parts, views.parts, strict=True):
        assert torch.equal(one, other)
    assert after.weights.tolist() == [[1.0, 0.0]] * 16


@each_mixer
def test_one_side_leaves_a_clean_key_of_every_image(mixer):
    made = SECTIONS[mixer["kind"]](sides="one").build(8)
    views = views_of(8)
    after = made(views, made.draw(16, 1.0, torch.Generator().manual_seed(0)), ON)
    assert (after.weights[:, 0] < 1).tolist() == ([True] * 4 + [False] * 4) * 2
    for one, other in zip(after.parts, views.parts, strict=True):
        assert torch.equal(one[4:], other[4:])
        assert not any(torch.equal(a, b) for a, b in zip(one[:4], other[:4], strict=True))


def test_mixing_twice_gives_four_memberships_that_add_up_to_one():
    config = tiny_config({"views.a": {"kind": "mixup", "share": 1.0}, "views.b": {"kind": "resizemix", "share": 1.0}})
    lab, views = trainer_of(config).lab, views_of(8, size=16)
    for name in ("a", "b"):
        mixer = lab.views[name]
        views = mixer(views, mixer.draw(16, 1.0, torch.Generator().manual_seed(0)), ON)
    assert views.members.shape == views.weights.shape == (16, 4)
    torch.testing.assert_close(views.weights.sum(dim=1), torch.ones(16))
    z = F.normalize(torch.randn(16, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    at = torch.zeros(16, 8).scatter_add_(1, views.members, views.weights)  # the same weights by group
    groups = torch.arange(8).expand(16, 8)
    torch.testing.assert_close(ppcl(z, views.members, 0.2, views.weights), ppcl(z, groups, 0.2, at))


@each_mixer
def test_a_share_of_0_changes_no_bit_and_one_that_rises_none_before_it_does(mixer):
    plain = trainer_of(tiny_config({"training.kimg": 0.064})).advance(4)
    off = tiny_config({"training.kimg": 0.064, "views.mix": mixer | {"share": 0.0}})
    assert trainer_of(off).advance(4) == plain
    ramp = {"kind": "step", "start": 0.0, "end": 1.0, "ramp_begin": 0.5}
    late = trainer_of(off.with_overrides({"views.mix.share": ramp})).advance(4)
    shares = [point.pop("knob/views.mix.share") for point in late]
    assert shares == [0.0, 0.0, 1.0, 1.0]
    assert late[:2] == plain[:2]
    assert late[2]["loss/contrast"] != plain[2]["loss/contrast"]


@each_mixer
def test_mixing_adds_no_views(mixer):
    seen = []
    trainer = trainer_of(tiny_config({"views.mix": mixer}))
    trainer.lab.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(sum(map(len, inputs[0]))))
    trainer.advance(2)
    assert seen == [32, 32]


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.4375, 0.6, 1.0])
@pytest.mark.parametrize("groups", [{}, {"synthetic.gan.views_per_pair": 2}, {"training.views_per_image": 4}])
def test_every_worker_has_even_rows_and_the_views_of_a_step_stay(workers, fraction, groups):
    config = tiny_config(
        groups
        | {
            "views.mix.kind": "mixup",
            "training.batch_images": 64,
            "compute.workers_per_trial": workers,
            "curriculum.synthetic_fraction": fraction,
        }
    )
    mix = config.mix_at(0.5)
    real, latents = mix.real, mix.latents
    assert real % (2 * workers) == latents % (2 * workers) == 0
    assert real * config.training.views_per_image + latents * config.gan.views_per_latent == 128
    assert abs(latents * config.gan.views_per_latent / 128 - fraction) <= 4 * workers / 128


def test_a_smaller_number_of_workers_still_mixes_whole_pairs():
    config = tiny_config({"views.mix.kind": "mixup", "training.batch_images": 64, "compute.workers_per_trial": 4})
    mix = config.mix_at(0.5)
    real, latents = mix.real, mix.latents
    assert all(rows // fewer % 2 == 0 for rows in (real, latents) for fewer in (1, 2, 4))
