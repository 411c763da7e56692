"""What every member of a family owes: one suite over all registered kinds, which a new file inherits."""

from __future__ import annotations

import copy
from functools import reduce
from operator import getitem
from typing import Any

import pytest
import torch
from optuna.samplers import RandomSampler
from optuna.study import create_study
from small_trainer import CPU, continued, tiny_config, trainer_of, unit, untrained_gan
from torch import Tensor, nn

from synthcl.config.schema import Config
from synthcl.core import distributed
from synthcl.core.plugin import Section, members
from synthcl.method.curriculum import AnyMix, AnySchedule
from synthcl.method.curriculum.schedule import Schedule
from synthcl.method.encoders import AnyEncoder, AnyHead, AnyStyle
from synthcl.method.objectives import AnyTerm
from synthcl.method.scene import Apart, Asked, Seen, SlowCopy, Source, Term, View, Views
from synthcl.method.synthetic import AnySource
from synthcl.method.views import AnyView
from synthcl.method.views.mixer import MixerConfig
from synthcl.method.views.partial import PartialConfig
from synthcl.search.space import Dimension
from synthcl.training.lab import Lab

ENCODERS, HEADS, TERMS, SOURCES, VIEWS, SCHEDULES, MIXES, STYLES = map(
    members, (AnyEncoder, AnyHead, AnyTerm, AnySource, AnyView, AnySchedule, AnyMix, AnyStyle)
)

# What a kind cannot do without, where its fields have no default; the custom ones name code below.
HERE = "test_families"
NEEDED: dict[str, dict[str, Any]] = {
    "encoder timm": {"backbone": "test_efficientnet"},
    "encoder custom": {"code": f"{HERE}:make_encoder", "feature_dim": 6},
    "term custom": {"code": f"{HERE}:spread"},
    "view custom": {"code": f"{HERE}:dim", "numbers": 2},
    "source folder": {"path": "mine"},
    "head fixed": {"dim": 4},
    "term moco": {"queue": 24},
    "term nnclr": {"bank": 24, "hidden": 8},
    "term halp": {"bank": 24, "prototypes": 4, "levels": 2},
    "term mochi": {"hardest": 4, "between": 3, "towards": 3, "beyond": 2},
    "term adaptive": {"hidden": 8},
    "term implicit": {"strength": 1.0},
    "term dann": {"hidden": 8, "reversal": 0.5},
    "term rotation": {"hidden": 8},
    "term distil": {"hidden": 8, "teacher": "teacher.safetensors"},
    "term byol": {"hidden": 8},
    "term simsiam": {"hidden": 8},
    "view hard_views": {"sides": "both"},
    "view viewmaker": {"width": 4, "blocks": 1},
    "mix exp3": {"floor": 0.25},
    "mix ucb1": {"floor": 0.25},
    "mix table": {"points": [[0.0, {"real": 0.5, "gan": 0.5}], [0.5, {"real": 0.75, "gan": 0.25}]]},
    "schedule constant": {"start": 0.5},
    "schedule piecewise": {"start": 0.25, "third": 0.5, "two_thirds": 0.75, "end": 0.5},
    "schedule follow": {"measured": "loss/contrast", "target": 3.0, "start": 0.5, "low": 0.25, "high": 1.0},
    "schedule dual": {"measured": "loss/contrast", "bound": 3.0, "start": 0.5, "form": "strength"},
    "schedule table": {"points": [[0.0, 0.25], [0.5, 0.75]]},
} | {f"schedule {kind}": {"start": 0.25, "end": 0.75} for kind in ("linear", "cosine", "step", "exponential", "tanh")}

BESIDE: dict[str, dict[str, Any]] = {
    "term decoupled": {"views.mix": {"kind": "mixup", "share": 1.0}},
    "source folder": {"synthetic.gan": None, "synthetic.twins": {"kind": "folder", "path": "more", "pairs": "names"}},
}
"""What a configuration with a kind also needs."""
MIXERS = [kind for kind, section in VIEWS.items() if issubclass(section, MixerConfig)]
PARTIAL = [kind for kind, section in VIEWS.items() if issubclass(section, PartialConfig)]
"""views that may leave all views of an image but the first as they are"""


STAND_STILL = {"simsiam", "nnclr", "halp", "mochi"}
"""terms whose targets are the run's own embeddings without gradient; a slope is that of the targets, too"""
NEVER_PLAYS = {"dann", "rotation", "distil"}
"""terms that generators may not ascend"""
PRETEXTS = {"rotation"}
"""terms with views of their own"""
TAUGHT = {"distil"}
"""terms with a target for each image"""
NOW = {"weight": 1.0, "temperature": 0.2, "strength": 0.5, "reversal": 0.5}
"""what a term is told of a step"""


def make_encoder(channels: int) -> nn.Module:
    """A user's encoder."""
    return nn.Sequential(nn.Conv2d(channels, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def spread(vectors: Tensor, groups: Tensor) -> Tensor:
    """A user's loss: views of a group close together, in units of the whole cloud."""
    same = (groups[:, None] == groups).float()
    return (torch.cdist(vectors, vectors).square() * same).mean() / vectors.var(dim=0).mean()


def dim(views: Tensor, numbers: Tensor, strength: float) -> Tensor:
    """A user's view: some light is taken away, and some contrast."""
    factor = 1 - 0.5 * min(1.0, strength) * numbers[:, :, None, None]
    return views * factor[:, :1] * factor[:, 1:]


def fields(family: str, kind: str) -> dict[str, Any]:
    return {"kind": kind, **NEEDED.get(f"{family} {kind}", {})}


def place_of(family: str, kind: str) -> str:
    """Where a small configuration has this kind."""
    if family == "view":
        return "views.base" if VIEWS[kind] is VIEWS["simclr"] else "views.more"
    places = {"encoder": "encoder", "head": "heads.main", "term": "terms.contrast", "source": f"synthetic.{kind}"}
    places |= {"mix": "curriculum.mix", "style": "encoder.style"}
    steered = "view_strength" if kind in ("follow", "dual") else "synthetic_fraction"  # the mix is planned ahead
    return places.get(family, f"curriculum.{steered}")


def with_member(family: str, kind: str) -> Config:
    """A small configuration in which this kind is on."""
    config = tiny_config({"training.kimg": 0.064})
    if kind == "gan":
        return config  # which has a small one
    return config.with_overrides(beside(family, kind) | {place_of(family, kind): fields(family, kind)})


def beside(family: str, kind: str) -> dict[str, Any]:
    return BESIDE.get(f"{family} {kind}", {})


ALL = [
    (family, kind)
    for family, kinds in {
        "encoder": ENCODERS,
        "head": HEADS,
        "term": TERMS,
        "source": SOURCES,
        "view": VIEWS,
        "schedule": SCHEDULES,
        "mix": MIXES,
        "style": STYLES,
    }.items()
    for kind in kinds
]
each_member = pytest.mark.parametrize(("family", "kind"), ALL, ids=[" ".join(pair) for pair in ALL])
each_term = pytest.mark.parametrize("kind", TERMS)
each_view = pytest.mark.parametrize("kind", VIEWS)


def section_of(family: str, kind: str) -> type[Section]:
    kinds = {"encoder": ENCODERS, "head": HEADS, "term": TERMS, "source": SOURCES, "view": VIEWS, "schedule": SCHEDULES}
    return (kinds | {"mix": MIXES, "style": STYLES})[family][kind]


def lab_of(config: Config) -> Lab:
    return Lab(config, untrained_gan(config) if config.needs_gan else None, CPU)


def term_of(kind: str, dim: int) -> Term:
    """The term, with targets of twelve images where it has a teacher."""
    section = TERMS[kind](**fields("term", kind))
    return section.build(dim, unit(12, 3, "targets")) if kind in TAUGHT else section.build(dim)


def tensors(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    nodes = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return [tensor for node in nodes for tensor in tensors(node)]


@pytest.mark.parametrize("base", [View, Term, Source])
def test_a_plug_in_that_lacks_a_part_is_not_made(base: type) -> None:
    with pytest.raises(TypeError, match="abstract"):
        type("Unfinished", (base,), {})()


@each_member
def test_every_field_is_described(family: str, kind: str) -> None:
    section = section_of(family, kind)
    assert section.__doc__
    for name, field in section.model_fields.items():
        assert field.description or name == "kind", f"{section.__name__}.{name}"


@each_member
def test_a_configuration_with_it_survives_json_and_refuses_a_field_it_lacks(family: str, kind: str) -> None:
    config = with_member(family, kind)
    assert Config.model_validate_json(config.model_dump_json()) == config
    tree = config.model_dump(mode="json")
    reduce(getitem, place_of(family, kind).split("."), tree)["nonsense"] = 1
    with pytest.raises(ValueError, match="nonsense"):
        Config.model_validate(tree)


@each_member
def test_a_run_learns_and_goes_on_from_its_state_bit_for_bit(family: str, kind: str) -> None:
    config = with_member(family, kind)
    whole, first = trainer_of(config), trainer_of(config)
    before = copy.deepcopy(first.lab.encoder.state_dict())
    history = whole.advance(4)
    first.advance(2)
    second = continued(first)
    assert second.advance(4) == history[2:]
    for one, other in zip(tensors(whole.state_dict()), tensors(second.state_dict()), strict=True):
        assert torch.equal(one, other)
    assert any(not torch.equal(value, before[name]) for name, value in whole.lab.encoder.state_dict().items())
    assert all(torch.tensor(value).isfinite() for point in history for value in point.values())


@each_member
def test_its_search_space_holds_valid_values(family: str, kind: str) -> None:
    config = with_member(family, kind)
    space: dict[str, dict[str, Any]] = {}
    for place, plugin in lab_of(config).plugins.items():
        space |= {f"{place}.{field}": entry for field, entry in plugin.SPACE.items()}
    study = create_study(sampler=RandomSampler(seed=0))
    for _ in range(64):
        trial = study.ask()
        drawn = {path: Dimension.model_validate(entry).suggest(trial, path) for path, entry in space.items()}
        assert config.with_overrides(drawn)
    for bound in ("low", "high"):
        assert config.with_overrides({path: entry[bound] for path, entry in space.items() if bound in entry})


@pytest.mark.parametrize("kind", SCHEDULES)
def test_a_schedule_is_a_pure_function_that_stays_within_its_bounds(kind: str) -> None:
    schedule = SCHEDULES[kind](**fields("schedule", kind))
    values = [schedule.value_at(step / 64) for step in range(65)]
    assert values == [schedule.value_at(step / 64) for step in range(65)]
    low, high = schedule.bounds
    assert all(low - 1e-12 <= value <= high + 1e-12 for value in values)
    twice = SCHEDULES[kind](**schedule.scaled(2.0))
    assert [twice.value_at(step / 64) for step in range(65)] == pytest.approx([2 * value for value in values])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_takes_parts_and_states_its_features(kind: str, channels: int) -> None:
    encoder = ENCODERS[kind](**fields("encoder", kind)).build(channels).eval()
    images = torch.rand(4, channels, 32, 32)
    parts = [images[:3], images[3:].clone().requires_grad_()]
    features = encoder(parts)
    assert features.shape == (4, encoder.feature_dim)
    torch.testing.assert_close(features, encoder(images))
    features.square().sum().backward()
    assert parts[0].grad is None
    assert parts[1].grad.norm() > 0


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_maps_features_to_vectors_and_passes_their_gradient(kind: str) -> None:
    head = HEADS[kind](**fields("head", kind)).build(12)
    features = torch.randn(5, 12, requires_grad=True)
    vectors = head(features)
    assert vectors.shape[0] == 5
    vectors.square().sum().backward()
    assert features.grad.norm() > 0


def told(section: Section, share: float) -> dict[str, float]:
    """What a view is told of a step: its schedules' first values, and this share."""
    own = {name: value.value_at(0.0) for name, value in section if isinstance(value, Schedule)}
    return own | {"view_strength": 1.0, "share": share}


def views_of(count: int, size: int = 16) -> Views:
    images = torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    return Views((images,), (count,), {"real": slice(0, count)}, torch.arange(count)[:, None] // 2)


class Constant(nn.Module):
    """An encoder that sees the same features in everything."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.register_buffer("features", features)

    def forward(self, parts: list[Tensor]) -> Tensor:
        return self.features


def see(
    vectors: Tensor,
    groups: Tensor,
    slow: SlowCopy | None = None,
    apart: tuple[Tensor, Tensor] | None = None,
    images: Tensor | None = None,
) -> Seen:
    """Views whose features are these vectors, seen through a head that leaves them alone; apart, vectors and rows.

    With `images`, positions in the data set, they are views of real ones.
    """
    spans = {} if images is None else {"real": slice(0, len(vectors))}
    shown = None if images is None else images[:, None]
    views = Views((torch.zeros(len(vectors), 1, 1, 1),), (len(vectors),), spans, groups[:, None], images=shown)
    if apart is None:
        return Seen(views, lambda parts: vectors, {"main": nn.Identity()}, slow)
    taken = Apart(torch.zeros(len(apart[0]), 1, 1, 1), apart[1])
    return Seen(views, lambda parts: torch.cat([vectors, apart[0]]), {"main": nn.Identity()}, slow, taken)


@each_view
def test_a_draw_is_pure_and_its_rows_stand_alone(kind: str) -> None:
    section = VIEWS[kind](**fields("view", kind))
    view = section.build(16)
    states = torch.get_rng_state()
    whole, again = (view.draw(8, 1.0, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(states, torch.get_rng_state())
    if whole is None:
        return
    own = told(section, share=0.7)
    shown = view(views_of(8), whole, own).parts[0]
    assert torch.equal(shown, view(views_of(8), again, own).parts[0])
    alone = torch.arange(3), torch.tensor([6, 1, 4])
    for rows in (torch.arange(4), torch.tensor([6, 7, 2, 3])) if kind in PARTIAL else alone:  # those know pairs of rows
        images = views_of(8).parts[0][rows]
        some = view(Views((images,), (len(rows),), {}, rows[:, None] // 2), whole.rows(rows), own).parts[0]
        torch.testing.assert_close(some, shown[rows])


@each_view
def test_a_view_stays_in_range_and_is_differentiable(kind: str) -> None:
    section = VIEWS[kind](**fields("view", kind))
    view = section.build(16)
    views, own = views_of(4), told(section, share=1.0)
    draw = view.draw(4, 1.0, torch.Generator().manual_seed(2))
    after = view(views, draw, own)
    assert after.counts == views.counts
    assert after.parts[0].shape == (4, 1, 16, 16)
    assert after.parts[0].min() >= 0
    assert after.parts[0].max() <= 1
    weights = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(3)).double()
    (gradient,) = torch.autograd.grad((after.parts[0] * weights).sum(), views.parts[0])
    if view.straight_through:  # which is no slope
        assert gradient.isfinite().all()
        assert gradient.norm() > 0
        return
    direction = torch.randn_like(gradient) * 1e-6
    moved = views._replace(parts=(views.parts[0].detach() + direction,))
    with torch.no_grad():
        change = ((view(moved, draw, own).parts[0] - after.parts[0]) * weights).sum()
    torch.testing.assert_close(change, (gradient * direction).sum(), rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("kind", [kind for kind in PARTIAL if kind not in MIXERS])  # those have more to show
def test_a_view_of_share_0_is_absent_and_one_that_rises_changes_nothing_before(kind: str) -> None:
    config = tiny_config({"training.kimg": 0.064})
    alone = trainer_of(config).advance(4)
    assert trainer_of(config.with_overrides({"views.more": {"kind": kind, "share": 0.0}})).advance(4) == alone
    rising = {"kind": "step", "start": 0.0, "end": 1.0, "ramp_begin": 0.5}
    history = trainer_of(config.with_overrides({"views.more": {"kind": kind, "share": rising}})).advance(4)
    assert [point.pop("knob/views.more.share") for point in history] == [0.0, 0.0, 1.0, 1.0]
    assert history[:2] == alone[:2]
    assert history[2]["loss/contrast"] != alone[2]["loss/contrast"]


@each_term
def test_a_term_is_a_mean_over_views_whatever_their_order(kind: str) -> None:
    term = term_of(kind, 5)
    vectors, groups = torch.randn(12, 5, generator=torch.Generator().manual_seed(4)), torch.arange(6).repeat(2)
    numbers, taken = torch.arange(12), kind in PRETEXTS
    images = groups if kind in TAUGHT else None
    loss = term(see(vectors.requires_grad_(), groups, apart=(vectors, numbers) if taken else None, images=images), NOW)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    order = torch.randperm(12, generator=torch.Generator().manual_seed(5))
    for rows, names in ((order, groups[order]), (numbers, 10 + 3 * groups)):  # ids are names
        shown = None if images is None else images[rows]
        again = see(vectors[rows], names, apart=(vectors[rows], rows) if taken else None, images=shown)
        torch.testing.assert_close(term(again, NOW), loss)


@each_term
def test_a_term_looks_at_no_views_apart_but_its_own(kind: str) -> None:
    term = term_of(kind, 5)
    images = torch.arange(8) if kind in TAUGHT else None
    vectors, others = torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(4))
    groups, rows = torch.arange(4).repeat(2), torch.arange(8)
    slow = SlowCopy(Constant(vectors), {"main": nn.Identity()}, 0.5)
    shared, apart = vectors.clone().requires_grad_(), others.clone().requires_grad_()
    loss = term(see(shared, groups, slow, apart=(apart, rows), images=images), NOW)
    loss.backward()
    of_shared, of_apart = (0.0 if one.grad is None else one.grad.norm().item() for one in (shared, apart))
    if kind in PRETEXTS:
        assert of_apart > 0 == of_shared
    else:
        assert of_apart == 0
        assert torch.equal(term(see(shared, groups, slow, images=images), NOW), loss)


@each_term
def test_a_terms_gradient_is_its_slope(kind: str) -> None:
    if kind in STAND_STILL:
        return
    torch.manual_seed(0)
    term = term_of(kind, 4)
    for name, layer in term.named_modules():
        if isinstance(layer, nn.ReLU):
            term.set_submodule(name, nn.Softplus())  # a slope between two points knows no kinks
    vectors = torch.randn(8, 4, generator=torch.Generator().manual_seed(6)).requires_grad_()
    groups = torch.arange(4).repeat(2)
    slow = SlowCopy(Constant(vectors.detach().flip(1)), {"main": nn.Identity()}, 0.5)
    rows = torch.arange(8)
    taken = (vectors, rows) if kind in PRETEXTS else None
    images = rows if kind in TAUGHT else None
    (gradient,) = torch.autograd.grad(term(see(vectors, groups, slow, taken, images), NOW), vectors)
    direction = torch.randn(8, 4, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        sides = (vectors + sign * 1e-2 * direction for sign in (1, -1))
        up, down = (term(see(side, groups, slow, taken and (side, rows), images), NOW) for side in sides)
    torch.testing.assert_close((up - down) / 2e-2, (gradient * direction).sum(), rtol=2e-2, atol=1e-4)


@each_term
@pytest.mark.parametrize("plays", [True, False])
def test_players_ascend_a_term_that_plays_and_never_feel_another(kind: str, plays: bool) -> None:
    if plays and kind in NEVER_PLAYS:
        with pytest.raises(ValueError, match="plays"):
            TERMS[kind](**fields("term", kind) | {"plays": True})
        return
    overrides = {"synthetic.gan.hardness_unit": "weight", "curriculum.hardness": 0.5}
    base = tiny_config(overrides | beside("term", kind))
    config = base.with_overrides({"terms.contrast": fields("term", kind) | {"plays": plays}})
    calm = base.with_overrides({"terms.contrast": fields("term", kind), "curriculum.hardness": 0.0})
    found = {}
    for name, each in (("on", config), ("off", calm)):
        trainer = trainer_of(each)
        trainer.advance(1)
        found[name] = [parameter.grad for parameter in trainer.networks.generator.parameters()]
        own = [parameter.grad for parameter in trainer.networks.encoder.parameters()]
        assert sum(gradient.norm() for gradient in own) > 0
    same = all(torch.equal(one, other) for one, other in zip(found["on"], found["off"], strict=True))
    assert same != plays


@each_term
def test_a_term_of_weight_0_is_absent_and_the_order_of_members_is_nobodys_business(kind: str) -> None:
    alone, member = tiny_config(beside("term", kind)), fields("term", kind)
    off = alone.with_overrides({"terms.aside": member | {"weight": 0.0}})
    history = trainer_of(alone).advance(3)
    assert trainer_of(off).advance(3) == history
    on = alone.with_overrides({"terms.aside": member | {"weight": 0.5}})
    swapped = on.model_copy(update={"terms": dict(reversed(on.terms.items()))})
    assert trainer_of(on).advance(3) == trainer_of(swapped).advance(3) != history


@each_term
def test_a_weight_that_moves_is_logged_and_one_that_begins_at_0_counts_from_where_it_rises(kind: str) -> None:
    ramp = {"kind": "step", "start": 0.0, "end": 0.5, "ramp_begin": 0.5}
    member = {"terms.aside": fields("term", kind) | {"weight": ramp}}
    config = tiny_config({"training.kimg": 0.064} | beside("term", kind) | member)
    history = trainer_of(config).advance(4)
    assert [point["knob/terms.aside.weight"] for point in history] == [0.0, 0.0, 0.5, 0.5]
    assert ["loss/aside" in point for point in history] == [False, False, True, True]


@pytest.mark.parametrize("kind", SOURCES)
def test_a_sources_draws_are_pure_and_shared_out_by_rows(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = lab_of(with_member("source", kind)).sources[kind]
    whole = tensors([source.draw(8, 0, 3)])
    assert all(torch.equal(a, b) for a, b in zip(whole, tensors([source.draw(8, 0, 3)]), strict=True))
    assert not whole or not all(map(torch.equal, whole, tensors([source.draw(8, 0, 4)])))
    real = torch.rand(8, 1, 16, 16)
    own = {
        "hardness": 0.5,
        "pair_decay": 0.5,
        "view_strength": 1.0,
        "synthetic_fraction": 0.5,
        "walk": 0.5,
        "teacher": 0.0,
    }
    images = source.make(Asked(source.draw(8, 0, 3), real, shown=real), own).parts
    assert sum(source.views_per_part for _ in images) == source.views_per_group
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        rows = distributed.rows(8)
        draw = source.draw(8, 0, 3)
        part = Asked(draw and draw.rows(torch.arange(8)[rows]), real[rows], shown=real[rows])
        for mine, all_ in zip(source.make(part, own).parts, images, strict=True):
            torch.testing.assert_close(mine, all_[rows])
    assert all(image.min() >= 0 and image.max() <= 1 for image in images)


SHARED = [pair for pair in ALL if pair[0] in ("term", "view", "source", "head", "mix", "style")] + [("encoder", "timm")]
"""what looks at more than one row, or draws"""


def shared(family: str, kind: str) -> Config:
    """A configuration with it, in which Adam makes no whole steps of rounding errors of tiny gradients."""
    slow = {f"synthetic.gan.{network}_learning_rate": 1e-5 for network in ("generator", "discriminator")}
    config = with_member(family, kind)
    slow = slow if config.needs_gan else {}
    return config.with_overrides(slow | ({"encoder.style.learning_rate": 1e-3} if kind == "advstyle" else {}))


def work(rank: int, folder: str) -> None:
    """One of two processes: every member's history and encoder, for a process alone to be compared with."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    found = {}
    for family, kind in SHARED:
        trainer = trainer_of(shared(family, kind).with_overrides({"compute.workers_per_trial": 2}))
        found[f"{family} {kind}"] = trainer.advance(2), trainer.lab.encoder.state_dict()
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("two")
    torch.multiprocessing.spawn(work, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize(("family", "kind"), SHARED, ids=[" ".join(pair) for pair in SHARED])
def test_two_processes_are_one(family: str, kind: str, two_processes: list[dict[str, Any]]) -> None:
    (first, weights), (second, _) = (found[f"{family} {kind}"] for found in two_processes)
    assert first == second
    alone = trainer_of(shared(family, kind))
    for one, two in zip(alone.advance(2), first, strict=True):
        assert one == pytest.approx(two, rel=1e-3, abs=1e-4)
    for name, value in alone.lab.encoder.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-4)
