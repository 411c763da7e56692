"""The rotation pretext: turns, its loss, and views that no other term, statistic or mixer touches."""

import math

import pytest
import torch
from small_trainer import (
    CPU,
    FOLDER,
    batch_of,
    random_folders,
    random_images,
    tiny_config,
    trainer_of,
    unit,
    untrained_gan,
)
from torch import nn

from synthcl.core import distributed
from synthcl.core.errors import UserError
from synthcl.core.quarter_turns import quarter_turned
from synthcl.evaluation.panel import require_panel
from synthcl.method.objectives.rotation import RotationTermConfig
from synthcl.method.scene import Apart, Seen, Views
from synthcl.training.lab import Lab
from synthcl.training.plan import Images
from synthcl.training.plan import Seen as Shown
from synthcl.training.trainer import Trainer

NOW = {"weight": 1.0}
TURN = {"terms.turn": {"kind": "rotation", "hidden": 8, "share": 0.5}}
PLAIN = {
    "views.base.crop_area_min": 1.0,
    "views.base.crop_ratio_max": 1.0,
    "views.base.flip_probability": 0.0,
    "views.base.jitter_probability": 0.0,
    "views.base.grayscale_probability": 0.0,
}
"""views that show images as they are"""


def see(features, apart, rows=None) -> Seen:
    rows = torch.arange(len(apart)) if rows is None else rows
    views = Views((torch.zeros(len(features), 1, 1, 1),), (len(features),), {}, torch.arange(len(features))[:, None])
    taken = Apart(torch.zeros(len(apart), 1, 1, 1), rows)
    return Seen(views, lambda parts: torch.cat([features, apart]), {"main": nn.Identity()}, apart=taken)


def test_four_quarter_turns_are_the_identity_and_each_moves_pixels_as_it_says():
    images = torch.rand(5, 3, 6, 6)
    turned = images
    for _ in range(4):
        turned = quarter_turned(turned, torch.ones(5, dtype=torch.int64))
    assert torch.equal(turned, images)
    turns = torch.tensor([0, 1, 2, 3, 2])
    found = quarter_turned(images, turns)
    for i, turn in enumerate(turns.tolist()):
        for y in range(6):
            for x in range(6):
                row, column = {0: (y, x), 1: (x, 5 - y), 2: (5 - y, 5 - x), 3: (5 - x, y)}[turn]
                assert torch.equal(found[i, :, y, x], images[i, :, row, column])


def test_the_loss_is_the_cross_entropy_of_the_turns():
    torch.manual_seed(0)
    term, features, apart = RotationTermConfig(hidden=8).build(5), unit(4, 5, "shared"), unit(6, 5, "apart").double()
    rows = torch.tensor([0, 1, 2, 3, 8, 11])
    first, _, second = term.classifier
    first_weights, second_weights = first.weight.double(), second.weight.double()
    total = 0.0
    for features_of_one, row in zip(apart, rows.tolist(), strict=True):
        hidden = [max(0.0, (first_weights[j] @ features_of_one + first.bias[j]).item()) for j in range(8)]
        logits = [
            sum(second_weights[k, j].item() * hidden[j] for j in range(8)) + second.bias[k].item() for k in range(4)
        ]
        total -= logits[row % 4] - math.log(sum(math.exp(logit) for logit in logits))
    assert term(see(features, apart.float(), rows), NOW).item() == pytest.approx(total / 6, rel=1e-5)


def test_a_classifier_that_knows_nothing_has_ln_4_and_one_that_knows_all_has_0():
    term = RotationTermConfig(hidden=4).build(4)
    nn.init.zeros_(term.classifier[2].weight)
    nn.init.zeros_(term.classifier[2].bias)
    features = torch.eye(4).repeat(3, 1)
    seen = see(features, features)
    assert term(seen, NOW).item() == pytest.approx(math.log(4))
    for layer, weight in ((0, torch.eye(4)), (2, 100 * torch.eye(4))):
        term.classifier[layer].weight.data, term.classifier[layer].bias.data = weight, torch.zeros(4)
    assert term(seen, NOW).item() == pytest.approx(0)
    assert term.measures(seen)["rotation/accuracy"] == 1


def test_a_step_without_turned_views_adds_nothing():
    term, vectors = RotationTermConfig().build(4), unit(6, 4, "z")
    views = Views((torch.zeros(6, 1, 1, 1),), (6,), {}, torch.arange(6)[:, None])
    seen = Seen(views, lambda parts: vectors, {"main": nn.Identity()})
    loss = term(seen, NOW)
    loss.backward()
    assert loss == 0
    assert not any(parameter.grad.any() for parameter in term.parameters())
    assert term.measures(seen) == {}


def test_the_share_is_taken_from_the_real_images_and_views_stay_as_many():
    for workers in (1, 2, 4):
        for share in (0.1, 0.25, 0.5):
            for fraction in (0.0, 0.5, 0.7, 1.0):
                overrides = {"training.batch_images": 64, "compute.workers_per_trial": workers}
                schedule = {"kind": "linear", "start": 0.0, "end": fraction} if fraction else 0.0
                config = tiny_config(overrides | {"curriculum.synthetic_fraction": schedule})
                turned = config.with_overrides({"terms.turn": {"kind": "rotation", "share": share}})
                plain, mix = config.mix_at(1.0), turned.mix_at(1.0)
                assert mix.images == plain.real == mix.real + mix.apart
                assert mix.groups == plain.groups
                assert 2 * mix.images + 4 * mix.latents == 128
                assert abs(mix.apart - share * plain.real) <= workers / 2
                assert mix.apart % workers == mix.real % workers == 0
                assert (mix.real > 0) == (plain.real > 0)
                assert turned.knobs_at(1.0).synthetic_fraction == config.knobs_at(1.0).synthetic_fraction


def test_turned_views_are_those_of_their_images_and_each_of_the_four_turns_comes_up():
    config = tiny_config(
        TURN | PLAIN | {"curriculum.synthetic_fraction": 0.0, "views.mix": {"kind": "mixup", "share": 1.0}}
    )
    lab = Lab(config, None, CPU)
    batch = batch_of(lab)
    apart = lab.apart(batch, config.knobs_at(0.5))
    images = random_images().pixels[8:16].float() / 255
    assert apart.rows.tolist() == [*range(16)]
    for row, pixels in enumerate(apart.pixels):
        torch.testing.assert_close(pixels, images[row % 8].rot90(row % 4, (1, 2)))  # and no mixer has touched it


def look(lab: Lab, batch) -> Seen:
    knobs = lab.config.knobs_at(0.5)
    views, _ = lab.images(batch, knobs)
    for name, view in lab.views.items():
        views = view(views, batch.draws[name], knobs.own(f"views.{name}"))
    return lab.look(views, batch, knobs)


def test_no_other_term_nor_statistic_sees_the_turned_views_though_batch_norm_does():
    config, found = tiny_config(TURN), []
    for change in (False, True):
        lab = Lab(config, untrained_gan(config), CPU)
        batch = batch_of(lab)
        if change:
            batch.apart = batch.apart._replace(real=1 - batch.apart.real)
        lab.encoder.eval()  # else the statistics of the batch would pass on what was changed
        seen = look(lab, batch)
        assert (len(seen.features), len(seen.of_apart)) == (24, 8)
        losses = {name: term(seen, {"weight": 1.0, "temperature": 0.2}) for name, term in lab.terms.items()}
        statistics = {name: value for name, value in lab.statistics(seen).items() if name != "rotation/accuracy"}
        lab.encoder.train()
        look(lab, batch)
        found.append((losses, statistics, dict(lab.encoder.named_buffers())))
    (losses, statistics, norms), (others, of_others, of_other_norms) = found
    assert torch.equal(losses["contrast"], others["contrast"])
    assert not torch.equal(losses["turn"], others["turn"])
    assert statistics.keys() == of_others.keys()
    assert all(torch.equal(statistics[name], of_others[name]) for name in statistics)
    means = [name for name in norms if name.endswith("running_mean")]
    assert means
    assert not any(torch.equal(norms[name], of_other_norms[name]) for name in means)


def test_its_gradient_reaches_the_encoder_through_features_and_no_head():
    config = tiny_config(TURN)
    lab = Lab(config, untrained_gan(config), CPU)
    lab.terms["turn"](look(lab, batch_of(lab)), NOW).backward()
    for learns in (lab.encoder, lab.terms["turn"]):
        assert any(parameter.grad.any() for parameter in learns.parameters() if parameter.grad is not None)
    assert all(parameter.grad is None for parameter in lab.heads["main"].parameters())


def test_images_are_shown_once_an_epoch_whether_turned_or_not():
    config = tiny_config(TURN | {"curriculum.synthetic_fraction": 0.0, "training.batch_images": 8})
    lab = Lab(config, None, CPU)
    plans = [*Images(random_images(), {}).plan(config, lab.sources, Shown(), range(5))]
    assert sorted(torch.cat([planned.real for planned in plans]).tolist()) == [*range(40)]


def test_twins_are_those_of_images_that_are_not_turned():
    paired = {"synthetic.gan": None, "synthetic.twins": {"kind": "folder", "path": "twins", "pairs": "names"}}
    config = tiny_config(TURN | paired)
    mix, trainer = config.mix_at(0.5), trainer_of(config)
    assert mix.apart == mix.real
    folder = random_folders(config)["twins"]
    for planned in Images(random_images(), {"twins": folder}).plan(config, trainer.lab.sources, Shown(), range(3)):
        of_row = planned.real[: mix.real][torch.arange(mix.groups["twins"]) * mix.real // mix.groups["twins"]]
        for file, position in zip(planned.files["twins"].tolist(), of_row.tolist(), strict=True):
            assert file < 0 or 2 * file % 40 == position
    assert all(math.isfinite(value) for value in trainer.advance(2)[-1].values())


def test_processes_share_the_turned_images_and_their_turns(monkeypatch):
    config = tiny_config(TURN | {"compute.workers_per_trial": 2})
    whole = Lab(config, untrained_gan(config), CPU)
    rows, of_whole = batch_of(whole).apart.rows, config.mix_at(0.5)
    plans = [next(Images(random_images(), {}).plan(config, whole.sources, Shown(), range(1))).real]
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    seen, images = [], []
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        seen += batch_of(whole).apart.rows.tolist()
        own = next(Images(random_images(), {}).plan(config, whole.sources, Shown(), range(1))).real
        images.append(own[: of_whole.images // 2])
    assert sorted(seen) == rows.tolist()
    first, second = (own.split([of_whole.real // 2, of_whole.apart // 2]) for own in images)
    assert torch.cat([first[0], second[0], first[1], second[1]]).tolist() == plans[0][: of_whole.images].tolist()


def test_it_learns_which_way_up_images_are():
    pixels = torch.zeros(40, 1, 16, 16, dtype=torch.uint8)
    pixels[:, :, :8] = 255  # light from above
    pixels[:, :, :, 12:] //= 2  # and a shade at the right, so that no turn looks like a mirrored one
    images = random_images()
    images.pixels.copy_(pixels)
    config = tiny_config(
        TURN | PLAIN | {"curriculum.synthetic_fraction": 0.0, "terms.turn.weight": 1.0, "training.kimg": 0.64}
    )
    history = Trainer(config, images, None, CPU).advance(40)
    assert history[0]["loss/turn"] == pytest.approx(math.log(4), abs=0.3)
    assert history[-1]["rotation/accuracy"] > 0.9
    assert history[-1]["loss/turn"] < 0.5


@pytest.mark.parametrize("kind", ["mixup", "cutmix", "resizemix"])
def test_it_stands_beside_mixers_folders_and_bandits(kind):
    more = {"views.mix": {"kind": kind, "share": 1.0}, "training.batch_images": 32, "curriculum.mix.kind": "exp3"}
    config = tiny_config(TURN | FOLDER | more | {"curriculum.mix.floor": 0.25, "training.kimg": 0.064})
    history = trainer_of(config).advance(2)
    assert all(math.isfinite(value) for point in history for value in point.values())
    assert 0 <= history[0]["rotation/accuracy"] <= 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"terms.more": {"kind": "rotation"}}, r"terms\.(more|turn) and terms\.(more|turn) of kind rotation both take"),
        (
            {"views.up": {"kind": "vertical_flip"}},
            r"views\.up of kind vertical_flip turns it, too, with probability 0\.5",
        ),
        ({"views.turn": {"kind": "rotation"}}, r"right_angle_probability 0\.75; set it to 0"),
        (
            {"views.turn": {"kind": "rotation", "right_angle_probability": 0.0, "degrees": 60}},
            r"degrees 60; set it to at most 45",
        ),
        ({"terms.turn.share": 0.05}, r"terms\.turn\.share 0\.05 of 8 real images a step on 1 workers rounds to none"),
        ({"curriculum.synthetic_fraction": 1.0}, r"of 0 real images a step"),
    ],
)
def test_what_does_not_go_together_is_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        tiny_config(TURN | overrides)


def test_small_angles_and_terms_of_weight_0_are_no_hindrance():
    leaning = {"views.turn": {"kind": "rotation", "right_angle_probability": 0.0, "degrees": 15}}
    assert tiny_config(TURN | leaning).mix_at(0.5).apart == 4
    off = {"terms.turn": {"kind": "rotation", "weight": 0.0}, "views.up": {"kind": "vertical_flip"}}
    assert tiny_config(off).mix_at(0.5).apart == 0


def test_a_run_that_trains_for_rotations_is_not_scored_by_them():
    with pytest.raises(UserError, match=r"evaluation\.label_free has 'rotation', which terms\.turn trains for"):
        require_panel(tiny_config(TURN | {"evaluation.label_free": ["rotation"]}))
    require_panel(tiny_config(TURN | {"evaluation.label_free": ["rankme"]}))
