"""Latents that walk, latents that return, and views of a strength of their own."""

import pytest
import torch
from small_trainer import CPU, random_images, tiny_config, untrained_gan

from synthcl.core.errors import UserError
from synthcl.method.scene import Asked
from synthcl.method.synthetic.gan.source import of_pool, walked
from synthcl.training.batch import make_batch
from synthcl.training.trainer import Trainer


def trainer_of(overrides=None) -> Trainer:
    config = tiny_config(overrides)
    return Trainer(config, random_images(), untrained_gan(config), CPU)


def batch_of(trainer: Trainer, step: int = 0):
    config, mix = trainer.config, trainer.config.mix_at(0.0)
    count = mix.real + trainer.lab.sources["gan"].reads_real(mix.groups["gan"])
    images = torch.zeros(count, 1, 16, 16, dtype=torch.uint8)
    plugins = {"views": trainer.lab.views, "sources": trainer.lab.sources}
    where = {"views_per_image": 2, "seed": 0, "step": step, "device": CPU}
    return make_batch(images, torch.arange(count), mix, config.knobs_at(0.0), **plugins, **where)


@pytest.mark.parametrize("distance", [0.0, 0.3, 0.8, 1.0])
def test_a_walk_keeps_the_distribution_and_has_the_correlation_that_it_says(distance):
    z, others = torch.randn(2, 100_000, 2, generator=torch.Generator().manual_seed(0))
    after = walked(z, others, distance)
    torch.testing.assert_close(torch.cov(after.T), torch.eye(2), rtol=0, atol=0.02)
    assert abs(after.mean()) < 0.02
    correlation = torch.corrcoef(torch.stack([z[:, 0], after[:, 0]]))[0, 1].item()
    assert correlation == pytest.approx((1 - distance**2) ** 0.5, abs=0.01)
    assert (after is z) == (distance == 0)


def test_a_walk_moves_the_image_of_the_average_alone_and_one_of_0_changes_no_bit():
    plain = trainer_of()
    ramp = {"kind": "step", "start": 0.0, "end": 0.6, "ramp_begin": 0.5}
    walks = trainer_of({"synthetic.gan.walk": ramp})
    before, after = plain.advance(8), walks.advance(8)
    shares = [point.pop("knob/synthetic.gan.walk") for point in after]
    assert shares == [0.0] * 4 + [0.6] * 4
    assert after[:4] == before[:4]
    assert after[4]["loss/discriminator"] == before[4]["loss/discriminator"]  # it judges G(z)
    assert after[4]["synthetic/pair_similarity"] != before[4]["synthetic/pair_similarity"]
    source, own = walks.lab.sources["gan"], {"hardness": 0.0}
    draw, real = source.draw(4, 0, 3), torch.rand(4, 1, 16, 16)
    near, far = (source.make(Asked(draw, real, None), own | {"walk": walk}).parts for walk in (0.0, 0.6))
    torch.testing.assert_close(near[0], far[0])
    with torch.no_grad():
        expected = walks.networks.generator_ema(walked(draw.latents, draw.others, 0.6))
    torch.testing.assert_close(far[1], expected)


def test_a_pool_returns_every_latent_once_an_epoch_under_the_same_name():
    trainer = trainer_of({"synthetic.gan.pool": 12})
    source = trainer.lab.sources["gan"]
    steps = [source.draw(4, 0, step) for step in range(6)]  # two epochs
    names = torch.cat([draw.ids for draw in steps])
    assert sorted(names[:12].tolist()) == sorted(names[12:].tolist()) == list(range(-13, -1))
    assert not torch.equal(names[:12], names[12:])
    latents = torch.cat([draw.latents for draw in steps])
    for name in range(-13, -1):
        first, second = latents[names == name]
        assert torch.equal(first, second)
    assert len(latents.unique(dim=0)) == 12
    many = of_pool(torch.arange(2000), 8, seed=0)
    assert abs(many.mean()) < 0.03
    assert many.std() == pytest.approx(1, abs=0.03)
    batch = batch_of(trainer, step=2)
    assert batch.images[:16].tolist() == [*range(8), *range(8)]
    assert batch.images[16:].tolist() == steps[2].ids.tolist() * 4  # views of a latent
    assert batch_of(trainer_of()).images[16:].tolist() == [-1] * 16


def test_views_of_generated_images_have_the_strength_that_the_factor_says():
    same, weak, still = (
        batch_of(trainer_of({"synthetic.gan.view_strength_factor": factor})).draws["base"] for factor in (1.0, 0.5, 0.0)
    )
    half = batch_of(trainer_of({"curriculum.view_strength": 0.5})).draws["base"]
    for name in ("top", "height", "flip", "brightness", "hue"):
        of_same, of_weak, of_still, of_half = (getattr(draw, name) for draw in (same, weak, still, half))
        assert torch.equal(of_weak[:16], of_same[:16])
        assert torch.equal(of_weak[16:], of_half[16:])
        assert torch.equal(of_still[:16], of_same[:16])
    assert (still.height[16:] == 1).all()
    assert (still.brightness[16:] == 1).all()
    assert (weak.height[16:] != same.height[16:]).any()


def test_a_run_with_pixel_views_of_two_strengths_is_that_of_one_where_they_agree():
    pixel = {"views.turn": {"kind": "rotation", "degrees": 30}, "views.gone": {"kind": "erase", "probability": 1.0}}
    ramp = {"kind": "step", "start": 1.0, "end": 0.0, "ramp_begin": 0.5}
    split = trainer_of(pixel | {"synthetic.gan.view_strength_factor": ramp}).advance(8)
    one = trainer_of(pixel).advance(8)
    assert [point.pop("knob/synthetic.gan.view_strength_factor") for point in split] == [1.0] * 4 + [0.0] * 4
    assert split[:4] == one[:4]
    assert split[4]["loss/contrast"] != one[4]["loss/contrast"]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"synthetic.gan.walk": 1.5}, "less than or equal to 1"),
        ({"synthetic.gan.walk": 0.5, "synthetic.gan.pair": False}, "without a pair there is no second image"),
        ({"synthetic.gan.pool": 2}, "fewer latents than the 4 of a step"),
        ({"synthetic.gan.view_strength_factor": 3.0}, "views have strengths up to 2"),
    ],
)
def test_what_cannot_be_is_refused(overrides, says):
    with pytest.raises(UserError, match=says):
        tiny_config(overrides)


def test_a_lazy_penalty_enters_one_step_in_so_many_and_the_first_at_that():
    penalised = {"synthetic.gan.gradient_penalty": 1.0}
    eager, lazy = trainer_of(penalised), trainer_of(penalised | {"synthetic.gan.penalty_every": 3})
    history = lazy.advance(7)
    assert ["gan/penalty" in point for point in history] == [True, False, False, True, False, False, True]
    (first,) = eager.advance(1)
    assert history[0]["gan/penalty"] == first["gan/penalty"]
    added = [
        point["loss/discriminator"] - point["gan/penalty"] * weight for point, weight in ((first, 1), (history[0], 3))
    ]
    assert added[1] == pytest.approx(added[0], rel=1e-5)
    assert all("gan/penalty" in point for point in eager.advance(4))


def test_a_cached_gan_goes_by_the_penalties_of_the_warm_up_alone_and_by_them_only_where_they_are_lazy():
    plain, joint, warmup = (
        tiny_config({f"synthetic.gan.{name}": 8}).gan.warmup_reads()
        for name in ("latent_dim", "penalty_every", "warmup_penalty_every")
    )
    assert plain | {"latent_dim": joint["latent_dim"]} == joint
    assert "warmup_penalty_every" not in joint
    assert warmup == joint | {"warmup_penalty_every": 8}
