"""Hard views: the chain visits draws in proportion to their loss, and nothing else of a step notices that it looked."""

import copy
import math

import pytest
import torch
from small_trainer import FOLDER, batch_of, tiny_config, trainer_of

from synthcl.core.device import normalise
from synthcl.core.rng import generator
from synthcl.method.scene import Views
from synthcl.method.views.hard_views import HardViewsConfig, visited
from synthcl.method.views.simclr import SimclrConfig
from synthcl.training.drawn import drawn, judged

HARD = {"views.hard": {"kind": "hard_views"}}


def test_fixed_views_of_losses_1_2_and_3_are_visited_1_2_and_3_times_in_6():
    chains, steps, source = 60_000, 12, generator("hard views")
    proposed = torch.randint(0, 3, (chains, 1 + steps), generator=source)
    at = visited(1.0 + proposed, torch.rand(chains, steps, generator=source))
    shares = proposed.gather(1, at[:, None]).flatten().bincount() / chains
    for share, expected in zip(shares.tolist(), (1 / 6, 2 / 6, 3 / 6), strict=True):
        assert share == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / chains))


def test_the_chain_is_metropolis_hastings_step_by_step():
    source = generator("chain")
    losses, chances = torch.rand(50, 5, generator=source), torch.rand(50, 4, generator=source)
    losses[7, :2] = 0.0
    for row, at in enumerate(visited(losses, chances).tolist()):
        stands = 0
        for step in range(4):
            held, offered = losses[row, stands].item(), losses[row, step + 1].item()
            if chances[row, step].item() < (min(1.0, offered / held) if held else float(offered > 0)):
                stands = step + 1
        assert at == stands


def look(**overrides):
    """A lab and a step of it, with the images and the knobs."""
    trainer = trainer_of(tiny_config(HARD | overrides))
    trainer.advance(1)  # so that statistics of BatchNorm are some
    lab, batch, knobs = trainer.lab, batch_of(trainer.lab), trainer.config.knobs_at(0.5)
    return lab, batch, knobs, lab.images(batch, knobs)[0]


def test_losses_are_those_of_each_view_among_the_first_draws_of_the_others():
    lab, batch, _, views = look()
    draws, n = [batch.draws["base"], *batch.proposed["hard"]], views.counts[0]
    found = judged(lab, views, n, 0.5, draws)
    for network in (lab.encoder, lab.heads["main"]):
        network.eval()
    seen = []
    for draw in draws:
        shown = lab.views["base"](views, draw, {}).parts[0]
        with torch.no_grad():
            made = lab.heads["main"](lab.encoder([normalise(shown)])).double()
        seen.append(made / made.norm(dim=1, keepdim=True))
    groups = views.members[:n, 0].tolist()
    for column, queries in enumerate(seen):
        for i in range(n):
            similar = {j: (queries[i] @ seen[0][j]).item() / 0.5 for j in range(n) if j != i}
            own = next(value for j, value in similar.items() if groups[j] == groups[i])
            loss = math.log(sum(math.exp(value) for value in similar.values())) - own
            assert found[i, column].item() == pytest.approx(loss, rel=1e-4)
    assert torch.equal(judged(lab, views, n // 2, 0.5, draws), found[: n // 2])


@pytest.mark.parametrize("sides", ["one", "both"])
def test_a_view_is_drawn_as_the_chain_says_and_others_as_before(sides):
    lab, batch, knobs, views = look(**{"views.hard.sides": sides, "views.hard.share": 0.75})
    first, proposed, chances = batch.draws["base"], batch.proposed["hard"], batch.draws["hard"]
    n = len(views.parts[0]) if sides == "one" else views.counts[0]
    assert len(proposed) == 2
    losses = judged(lab, views, n, 0.2, [first, *proposed])
    at = visited(losses, chances.accepts[:n])
    chosen = drawn(lab, views, batch, knobs)
    assert chosen["hard"] is chances
    moved = 0
    for row in range(len(first.top)):
        step = at[row].item() if row < n and chances.chosen[row] < 0.75 else 0
        for field, *values in zip(chosen["base"], first, *proposed, strict=True):
            assert field is None or field[row] == values[step][row]
        moved += step > 0
    assert 0 < moved < n < len(first.top)


def test_looking_leaves_no_trace_in_networks_and_their_modes():
    lab, batch, knobs, views = look()
    before = copy.deepcopy(lab.state_dict()["networks"])
    drawn(lab, views, batch, knobs)
    for name, state in lab.state_dict()["networks"].items():
        assert all(torch.equal(value, before[name][key]) for key, value in state.items())
    assert all(module.training for module in lab.encoder.modules())


@pytest.mark.parametrize(("sides", "steps", "passes"), [("one", 2, 2.0), ("one", 4, 3.0), ("both", 1, 2.0)])
def test_it_costs_one_forward_pass_of_real_views_and_one_of_its_sides_for_every_proposal(sides, steps, passes):
    settings = {"views.hard.sides": sides, "views.hard.steps": steps}
    lab, batch, knobs, views = look(**settings)
    encoded = []
    lab.encoder.register_forward_pre_hook(lambda module, given: encoded.append(sum(map(len, given[0]))))
    drawn(lab, views, batch, knobs)
    assert sum(encoded) == passes * views.counts[0]


def test_views_become_harder_by_the_mean_square_of_losses_over_the_square_of_their_mean():
    views, steps, base = 20_000, 8, SimclrConfig().build(8)
    hard = HardViewsConfig(steps=steps).build(8)
    draws = [base.draw(views, 1.0, generator("draws", step)) for step in range(1 + steps)]
    losses = torch.randint(1, 4, (views, 1 + steps), generator=generator("losses")).float()
    chances = hard.draw(views, 1.0, generator("chances"))
    chosen = hard.choose(draws, chances, lambda asked: losses, {"share": 1.0})
    at = visited(losses, chances.accepts)
    assert torch.equal(chosen.left, torch.stack([draw.left for draw in draws], dim=1).gather(1, at[:, None])[:, 0])
    assert hard.measures(None)["hard_views/loss_ratio"].item() == pytest.approx((14 / 3) / 2**2, rel=0.02)
    assert hard.measures(None) == {}  # of a step without a chain


def test_a_share_that_rises_begins_late():
    late = {"kind": "step", "start": 0.0, "end": 1.0, "ramp_begin": 0.5}
    history = trainer_of(tiny_config(HARD | {"views.hard.share": late, "training.kimg": 0.064})).advance(4)
    assert ["hard_views/loss_ratio" in point for point in history] == [False] * 2 + [True] * 2


def test_a_step_without_real_images_draws_as_it_would():
    fraction = {"curriculum.synthetic_fraction": {"kind": "step", "start": 0.5, "end": 1.0, "ramp_begin": 0.5}}
    short = fraction | {"training.kimg": 0.064}
    history, plain = (trainer_of(tiny_config(short | more)).advance(4) for more in (HARD, {}))
    assert ["hard_views/loss_ratio" in point for point in history] == [True] * 2 + [False] * 2
    assert all(math.isfinite(value) for point in history for value in point.values())
    assert history[0]["loss/contrast"] != plain[0]["loss/contrast"]


@pytest.mark.parametrize(
    "beside",
    [
        {"views.mix": {"kind": "mixup", "share": 1.0}, "training.batch_images": 32},
        {"views.make": {"kind": "viewmaker", "width": 4, "blocks": 1}},
        {"terms.turn": {"kind": "rotation", "hidden": 8}},
        FOLDER | {"synthetic.mine.pairs": "names", "synthetic.mine.view_strength_factor": 0.5},
        {"training.views_per_image": 4},
        {"views.again": {"kind": "hard_views"}},
    ],
)
def test_it_stands_beside_other_views_terms_and_sources(beside):
    history = trainer_of(tiny_config(HARD | beside | {"training.kimg": 0.064})).advance(2)
    assert all(math.isfinite(value) for point in history for value in point.values())
    assert history[0]["hard_views/loss_ratio"] > 0


def test_it_leaves_pixels_to_the_base_view():
    base, images = SimclrConfig().build(8), torch.rand(4, 1, 8, 8)
    views = base(
        Views((images,), (4,), {"real": slice(0, 4)}, torch.arange(4)[:, None]), base.draw(4, 1.0, generator(0)), {}
    )
    hard = HardViewsConfig().build(8)
    assert hard(views, hard.draw(4, 1.0, generator(1)), {"share": 1.0}) is views
