"""A view that learns: what it adds has the size it may have, and the signs of three players are right."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from small_trainer import tiny_config, trainer_of, whole_and_continued
from torch import Tensor

from synthcl.core import rng
from synthcl.core.errors import UserError
from synthcl.core.updates import frozen
from synthcl.method.scene import Seen, Views
from synthcl.method.views.perturbing import Perturbing, noises
from synthcl.method.views.viewmaker import Viewmaker, ViewmakerConfig, on_sphere
from synthcl.runs.view_pictures import rows_of
from synthcl.training.trainer import Trainer

OWN = {"share": 1.0, "budget": 0.05, "learning_rate": 1e-3}
REAL_ONLY = {"curriculum.synthetic_fraction": 0.0}


def maker(**fields: Any) -> dict[str, Any]:
    return {"views.more": {"kind": "viewmaker", "width": 4, "blocks": 2} | fields}


def grey(count: int = 4, channels: int = 3, size: int = 16) -> Views:
    """Images in the middle of the range, where nothing is cut off."""
    draw = rng.generator("grey")
    images = 0.5 + 0.02 * torch.randn(count, channels, size, size, generator=draw)
    return Views((images,), (count,), {"real": slice(0, count)}, torch.arange(count)[:, None] // 2)


def built(**fields: Any) -> Viewmaker:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ViewmakerConfig(**{"width": 4, "blocks": 2} | fields).build(16)


def weights(trainer: Trainer) -> list[Tensor]:
    return [value.clone() for value in trainer.lab.views["more"].state_dict().values() if isinstance(value, Tensor)]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(map(torch.equal, first, second))


def test_a_perturbation_has_the_mean_absolute_size_of_the_budget_image_by_image():
    made = torch.randn(3, 2, 5, 4, generator=rng.generator("made"), dtype=torch.float64)
    found = on_sphere(made, 0.07)
    for image, perturbation in zip(made, found, strict=True):
        total = sum(abs(torch.tanh(value).item()) for value in image.flatten())
        for value, scaled in zip(image.flatten(), perturbation.flatten(), strict=True):
            expected = torch.tanh(value).item() * 0.07 * image.numel() / total
            assert scaled.item() == pytest.approx(expected, rel=1e-12)
    assert torch.equal(on_sphere(torch.zeros(1, 1, 2, 2), 0.05), torch.zeros(1, 1, 2, 2))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("budget", [0.025, 0.05, 0.1])
def test_views_change_by_the_budget_where_nothing_is_cut_off_and_stay_in_range_where_it_is(channels, budget):
    view, views = built(), grey(channels=channels)
    draw = view.draw(4, 1.0, rng.generator("draw"))
    shown = view(views, draw, OWN | {"budget": budget}).parts[0]
    changes = (shown - views.parts[0]).abs().mean(dim=(1, 2, 3))
    torch.testing.assert_close(changes, torch.full((4,), budget), rtol=1e-5, atol=0)
    dark = views._replace(parts=(views.parts[0] - 0.5,))
    cut = view(dark, draw, OWN | {"budget": budget}).parts[0]
    assert cut.min() == 0
    assert torch.equal(view(views, draw, OWN | {"budget": 0.0}).parts[0], views.parts[0])


def test_noise_makes_views_differ_and_without_it_an_image_is_always_changed_alike():
    for noise, alike in ((1.0, False), (0.0, True)):
        view, views = built(noise=noise), grey()
        one, other = (view(views, view.draw(4, 1.0, rng.generator("n", n)), OWN).parts[0] for n in range(2))
        assert torch.equal(one, other) == alike


@pytest.mark.parametrize("size", [8, 13, 28])
def test_the_network_takes_any_size_and_a_grey_image_as_three_equal_colours(size):
    network = Perturbing(4, 2, 1.0)
    numbers = sum(side * side for side in noises(size, 2))
    images, noise = torch.rand(2, 1, size, size), torch.rand(2, numbers)
    made = network(images, noise)
    assert made.shape == images.shape
    torch.testing.assert_close(made, network(images.expand(-1, 3, -1, -1), noise).mean(dim=1, keepdim=True))


class Watched:
    """One step of a run, and what it was made of."""

    def __init__(self, overrides: dict[str, Any]) -> None:
        self.trainer = trainer_of(tiny_config(overrides))
        lab = self.trainer.lab
        self.before = copy.deepcopy(lab)
        asked: list[Any] = []
        images = lab.images
        lab.images = lambda *arguments: asked.append(arguments) or images(*arguments)
        self.trainer.advance(1)
        self.batch, self.knobs = asked[0]
        self.view = lab.views["more"]

    def contrast(self, fake: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """The loss as plain autograd has it with no node at all, and the weights of the network it depends on."""
        lab, batch, knobs = self.before, self.batch, self.knobs
        with frozen(lab.encoder):
            views, _ = lab.images(batch, knobs._replace(hardness=0.0))
            if fake is not None:
                views = views._replace(parts=(views.parts[0], fake, *views.parts[2:]))
            views = lab.views["base"](views, batch.draws["base"], {})
            maker, own, parts, start = lab.views["more"], knobs.own("views.more"), [], 0
            for pixels in views.parts:
                rows = slice(start, start := start + len(pixels))
                noise = batch.draws["more"].rows(rows).noise
                change = on_sphere(maker.network(pixels.detach(), noise), own["budget"])
                changed = maker.section.origins == "all" or rows.start == 0
                parts.append((pixels + change).clamp(0, 1) if changed else pixels)
            seen = Seen(views._replace(parts=tuple(parts)), lab.encoder, lab.heads)
            loss = lab.terms["contrast"](seen, knobs.own("terms.contrast"))
        return loss, list(maker.network.parameters())


@pytest.mark.parametrize("beside", [REAL_ONLY, {}, {"terms.spread": {"kind": "vicreg", "weight": 0.5}}])
def test_the_network_ascends_the_terms_that_play_and_no_other(beside):
    watched = Watched(maker() | beside)
    loss, parameters = watched.contrast()
    found = [parameter.grad for parameter in watched.view.network.parameters()]
    for one, other in zip(found, torch.autograd.grad(loss, parameters), strict=True):
        torch.testing.assert_close(one, -other, rtol=1e-3, atol=1e-6)
    assert all(gradient.norm() > 0 for gradient in found)


def test_a_step_of_the_network_raises_the_loss_and_one_of_the_encoder_lowers_it():
    watched = Watched(maker(learning_rate=1e-4) | REAL_ONLY)
    start = watched.contrast()[0].item()
    for network, after, sign in (
        (watched.before.views["more"].network, watched.view.network, 1),
        (watched.before.encoder, watched.trainer.lab.encoder, -1),
    ):
        old = copy.deepcopy(network.state_dict())
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), [p.grad for p in after.parameters()], strict=True):
                parameter.sub_(0.01 * gradient / gradient.norm().clamp(min=1e-12))
        assert sign * (watched.contrast()[0].item() - start) > 1e-4
        network.load_state_dict(old)


def test_the_sign_of_what_g_feels_is_turned_once_with_a_second_player_behind_it():
    weight = {"synthetic.gan.hardness_unit": "weight"}
    hard, calm = (Watched(maker(origins="all") | weight | {"curriculum.hardness": h}) for h in (2.0, 0.0))
    parameters = list(hard.before.networks.generator.parameters())
    fake = hard.before.networks.generator(hard.batch.asked["gan"].draw.latents)
    loss, _ = hard.contrast(fake)
    of_contrast = torch.autograd.grad(loss, parameters)
    of_hard, of_calm = (
        [parameter.grad for parameter in each.trainer.networks.generator.parameters()] for each in (hard, calm)
    )
    for one, realism, contrast in zip(of_hard, of_calm, of_contrast, strict=True):
        torch.testing.assert_close(one, realism - 2.0 * contrast, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("origins", "changed"), [("real", [True, False, False]), ("all", [True] * 3)])
def test_it_changes_views_of_real_images_and_of_synthetic_ones_where_asked(origins, changed):
    lab = Watched(maker(origins=origins)).before
    parts = tuple(torch.rand(16, 1, 16, 16, generator=rng.generator("p", n)) for n in range(3))
    views = Views(parts, (16,) * 3, {"real": slice(0, 16), "gan": slice(16, 48)}, torch.arange(48)[:, None])
    view = lab.views["more"]
    after = view(views, view.draw(48, 1.0, rng.generator("draw")), OWN)
    assert [not torch.equal(one, other) for one, other in zip(parts, after.parts, strict=True)] == changed


def test_it_learns_in_one_step_of_so_many_stops_where_its_rate_is_0_and_acts_all_the_same():
    stop = {"kind": "step", "start": 1e-3, "end": 0.0, "ramp_begin": 0.75}
    trainer = trainer_of(tiny_config(maker(every=2, learning_rate=stop) | REAL_ONLY))
    moved, found = [], weights(trainer)
    for step in range(8):
        (point,) = trainer.advance(step + 1)
        assert point["knob/views.more.learning_rate"] == (1e-3 if step < 6 else 0.0)
        moved.append(not same(found, weights(trainer)))
        found = weights(trainer)
    assert moved == [True, False, True, False, True, False, False, False]
    alone = trainer_of(tiny_config(REAL_ONLY)).advance(8)
    assert point["loss/contrast"] != alone[-1]["loss/contrast"]


def test_a_run_that_stopped_between_two_steps_of_it_goes_on_bit_for_bit():
    whole, second = whole_and_continued(tiny_config(maker(every=3, origins="all")), stop=2, steps=7)
    assert same(weights(whole), weights(second))


def test_it_stands_still_in_steps_in_which_no_term_plays_and_without_a_budget():
    late = {"kind": "step", "start": 0.0, "end": 1.0, "ramp_begin": 0.5}
    still = {"terms.contrast.weight": late, "terms.spread": {"kind": "vicreg", "weight": 0.1}}
    for overrides in (maker() | still | REAL_ONLY, maker() | still, maker(budget=late | {"end": 0.05})):
        trainer = trainer_of(tiny_config(overrides))
        first = weights(trainer)
        trainer.advance(4)
        assert same(first, weights(trainer))
        trainer.advance(5)
        assert not same(first, weights(trainer))
    assert not tiny_config(maker(budget=0.0)).views_on.keys() - {"base"}


def test_its_weights_have_an_optimiser_of_their_own_and_begin_by_the_seed_of_the_run():
    trainer, again, other = (trainer_of(tiny_config(maker() | {"training.seed": seed})) for seed in (0, 0, 1))
    assert same(weights(trainer), weights(again))
    assert not same(weights(trainer), weights(other))
    optimizers = trainer.lab.all_optimizers
    assert list(optimizers) == ["encoder", "generator", "discriminator", "views.more"]
    owned = [id(p) for one in optimizers.values() for group in one.param_groups for p in group["params"]]
    assert len(owned) == len({*owned})
    assert {*map(id, trainer.lab.views["more"].parameters())} <= {*owned}


def test_the_picture_of_views_shows_the_network_that_a_run_begins_with():
    config, images = tiny_config(maker()), torch.rand(3, 1, 16, 16, generator=rng.generator("pictures"))
    first, again = (rows_of(config, images) for _ in range(2))
    assert torch.equal(first["views.more"], again["views.more"])
    assert not torch.equal(first["views.more"], first["as they are"])


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (maker(budget=0.6), "less than or equal to 0.5"),
        (maker(learning_rate=-1e-3), "greater than or equal to 0"),
        (maker(every=0), "greater than or equal to 1"),
        (maker() | {"terms.contrast.plays": False}, "views.more of kind viewmaker ascends the terms that play"),
    ],
)
def test_what_cannot_be_is_refused(overrides, says):
    with pytest.raises(UserError, match=says):
        tiny_config(overrides)
