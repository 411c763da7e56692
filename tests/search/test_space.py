"""The search space: conditional dimensions, and every mistake in it found before the search."""

from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from program import run

from synthcl import UserError, load_preset
from synthcl.comparison.arms import apply_arm
from synthcl.config.presets import preset_names
from synthcl.search.budget import describe
from synthcl.search.lineage import knobs_of
from synthcl.search.optuna_search import StudySearch
from synthcl.search.sides import Spaces, contests, load_spaces
from synthcl.search.space import Dimension, load_space

ROOT = Path(__file__).parents[2]
CONFIG = load_preset("fashion-mini")


def space_from(tmp_path, text):
    file = tmp_path / "space.yaml"
    file.write_text(text)
    return load_space(file, CONFIG)


@pytest.mark.parametrize(
    "file",
    sorted(
        file for file in (ROOT / "synthcl/search/spaces").glob("*.yaml") if file.stem not in ("knots", "population")
    ),
    ids=lambda file: file.stem,
)
@pytest.mark.parametrize("preset", preset_names())
def test_the_first_trial_of_every_preset_in_every_shipped_space_is_the_preset(preset, file, tmp_path):
    config = load_preset(preset)
    space = load_space(file, config)
    spaces = Spaces(space, load_space(ROOT / "synthcl/search/spaces/real-only.yaml", apply_arm(config, "real-only")))
    searcher = StudySearch(contests(config, spaces, config.search.budgets), tmp_path / "study.journal")
    own, opponent = searcher.suggest("a"), searcher.suggest("b")
    assert (own["label"], opponent["label"]) == ("trial-000", "real-only-000")
    assert own["overrides"].keys() <= space.dimensions.keys()
    assert config.with_overrides(own["overrides"]) == config
    assert config.with_overrides(opponent["overrides"]) == apply_arm(config, "real-only")
    assert "outside" not in describe(config, spaces)


LAB = {
    "views.mix.kind": "cutmix",
    "terms.spread.kind": "vicreg",
    "views.gone": {"kind": "mixup", "share": 0.0},
    "curriculum.synthetic_fraction": {"kind": "tanh", "start": 0.2, "end": 0.5},
}


def test_an_automatic_space_has_the_ranges_of_all_that_is_on_and_of_nothing_else(tmp_path):
    config = CONFIG.with_overrides(LAB | {"search.space": "auto", "search.opponent_space": "auto"})
    spaces = load_spaces(config)
    curriculum = {"curriculum.pair_half_life_kimg.start", "curriculum.view_strength.start"}
    mine = {"views.mix.share.start", "views.mix.alpha", "terms.spread.weight.start", "terms.spread.covariance"}
    shared = {"curriculum.view_strength.start", "terms.contrast.temperature.start"} | mine
    game = {f"synthetic.gan.{network}_learning_rate.start" for network in ("generator", "discriminator")}
    ramps = {"curriculum.hardness.start", "curriculum.synthetic_fraction.start", "curriculum.synthetic_fraction.time"}
    assert spaces.method.dimensions.keys() == shared | curriculum | game | ramps
    assert spaces.opponent.dimensions.keys() == shared
    searcher = StudySearch(contests(config, spaces, config.search.budgets), tmp_path / "study.journal")
    first, _, third = searcher.suggest("a"), searcher.suggest("b"), searcher.suggest("c")
    assert config.with_overrides(first["overrides"]) == config
    assert config.with_overrides(third["overrides"]) != config
    (tmp_path / "written.yaml").write_text(spaces.method.text)  # what a run keeps is a file that can be named
    assert load_space(tmp_path / "written.yaml", config).dimensions == spaces.method.dimensions


def test_an_automatic_space_of_too_many_dimensions_names_them():
    many = LAB | {"views.box.kind": "resizemix", "search.space": "auto"}
    with pytest.raises(UserError, match=r"'auto' has 15 dimensions, more than 12: curriculum\.hardness\.start, .*file"):
        load_spaces(CONFIG.with_overrides(many))


@pytest.mark.parametrize("preset", preset_names())
def test_a_population_of_every_preset_has_all_its_fields_as_knobs(preset):
    config = load_preset(preset)
    space = load_space(ROOT / "synthcl/search/spaces/population.yaml", config)
    assert set(knobs_of(space, config)) == {path for path in space.dimensions if not path.endswith(".kind")}


def test_every_first_trial_of_the_space_of_knots_is_a_curve_and_the_plan_says_what_is_outside(tmp_path):
    space = load_space(ROOT / "synthcl/search/spaces/knots.yaml", CONFIG)
    assert "curriculum.hardness.kind=linear (space: piecewise)" in describe(CONFIG, Spaces(space, space))
    searcher = StudySearch(contests(CONFIG, Spaces(space, space), 8), tmp_path / "study.journal")
    first = CONFIG.with_overrides(searcher.suggest("a")["overrides"])
    assert first.curriculum.hardness.kind == "piecewise"


def test_a_conditional_dimension_exists_only_where_its_condition_holds(tmp_path):
    space = space_from(
        tmp_path,
        """
        curriculum.hardness.kind: {choices: [constant, linear]}
        curriculum.hardness.start: {low: 0.1, high: 1.0, log: true}
        curriculum.hardness.end: {low: 0.1, high: 1.0, when: {curriculum.hardness.kind: [linear]}}
        """,
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    points = [space.sample(study.ask()) for _ in range(40)]
    assert {point["curriculum.hardness.kind"] for point in points} == {"constant", "linear"}
    for point in points:
        assert ("curriculum.hardness.end" in point) == (point["curriculum.hardness.kind"] == "linear")
        assert CONFIG.with_overrides(point).curriculum.hardness.start == point["curriculum.hardness.start"]


def test_whole_bounds_make_an_integer_and_others_a_float(tmp_path):
    space = space_from(
        tmp_path, "training.batch_images: {low: 64, high: 64}\nterms.contrast.temperature: {low: 0.1, high: 1}"
    )
    point = space.sample(optuna.create_study().ask())
    assert point["training.batch_images"] == 64
    assert isinstance(point["training.batch_images"], int)
    assert isinstance(point["terms.contrast.temperature"], float)


@pytest.mark.parametrize("tpe", [False, True])
def test_a_dimension_is_drawn_as_its_distribution_is(tmp_path, tpe):
    """Asked by `suggest_*`, a seeded study draws what it draws when it is asked for the distributions themselves."""
    text = """
        terms.contrast.temperature: {low: 0.07, high: 0.5, log: true}
        views.flip_probability: {low: 0, high: 0.5}
        heads.main.dim: {low: 8, high: 512, log: true}
        heads.main.hidden: {low: 8, high: 64}
        method.pair: {choices: [true, false]}
    """
    space = space_from(tmp_path, text)
    distributions = {
        "terms.contrast.temperature": FloatDistribution(0.07, 0.5, log=True),
        "views.base.flip_probability": FloatDistribution(0, 0.5),
        "heads.main.dim": IntDistribution(8, 512, log=True),
        "heads.main.hidden": IntDistribution(8, 64),
        "synthetic.gan.pair": CategoricalDistribution([True, False]),
    }

    def draws(ask):
        kind = optuna.samplers.TPESampler if tpe else optuna.samplers.RandomSampler
        study = optuna.create_study(direction="maximize", sampler=kind(seed=3))
        drawn = []
        for _ in range(15):
            trial, overrides = ask(study)
            drawn.append(overrides)
            assert trial.distributions == distributions
            study.tell(trial, trial.params["terms.contrast.temperature"])
        return drawn

    def sampled(study):
        return (trial := study.ask()), space.sample(trial)

    def asked(study):
        return (trial := study.ask(fixed_distributions=distributions)), trial.params

    assert draws(sampled) == draws(asked)


OUTSIDE = """
terms.contrast.temperature: {low: 0.3, high: 1.0}
curriculum.hardness.start: {low: 0.3, high: 2.0, log: true}
curriculum.hardness.kind: {choices: [constant, cosine]}
curriculum.hardness.end: {low: 0.1, high: 2.0, when: {curriculum.hardness.kind: [cosine]}}
heads.main.hidden: {low: 16, high: 4096}
views.size: {low: 14, high: 28}
"""


@pytest.mark.parametrize("hardness", [0.0, 0.2])
def test_values_outside_the_space_are_named_in_the_plan_and_drawn_in_the_first_trial(tmp_path, hardness):
    config = CONFIG.with_overrides({"curriculum.hardness.start": hardness})
    space = space_from(tmp_path, OUTSIDE)
    point = space.point_of(config)
    assert point == {"heads.main.hidden": CONFIG.heads["main"].hidden}
    assert space.outside(config) == {
        "terms.contrast.temperature": 0.2,
        "curriculum.hardness.start": hardness,
        "curriculum.hardness.kind": "linear",
        "views.base.size": None,
    }
    (line,) = (line for line in describe(config, Spaces(space, space)).splitlines() if line.startswith("outside "))
    assert f"curriculum.hardness.start={hardness} (space: 0.3 to 2.0); " in line
    assert "curriculum.hardness.kind=linear (space: constant, cosine); " in line
    assert "at random" in line
    assert "projector_hidden" not in line

    config = config.with_overrides({"search.opponent_share": 0})
    searcher = StudySearch(contests(config, Spaces(space, space), 8), tmp_path / "study.journal")
    first = searcher.suggest("a")["overrides"]
    assert point.items() <= first.items()
    assert 0.3 <= first["curriculum.hardness.start"] <= 2.0
    config.with_overrides(first)


def test_a_dry_run_names_what_lies_outside(tmp_path):
    (tmp_path / "space.yaml").write_text(OUTSIDE)
    told = run("search", "--preset", "fashion-mini", "--dry-run", f"search.space={tmp_path / 'space.yaml'}")
    assert told.returncode == 0, told.stderr
    (line,) = (line for line in told.stdout.splitlines() if line.startswith("outside "))
    assert "curriculum.hardness.start=0.2 (space: 0.3 to 2.0)" in line


@pytest.mark.parametrize(
    ("dimension", "inside", "outside"),
    [
        ({"low": 0.02, "high": 1.0, "log": True}, [0.02, 1.0, 1, 0.5], [0.0, -1.0, 0, 1.01, None, "0.5", [0.5]]),
        ({"low": 1, "high": 8}, [1, 8, 4.0], [0, 9, 4.5, None, "4"]),
        ({"low": 1, "high": 8, "log": True}, [1, 8], [0, -3]),
        ({"choices": ["linear", "cosine"]}, ["linear"], ["step", None, 1, ["linear"], {"kind": "linear"}]),
    ],
)
def test_a_value_is_in_a_dimension_or_outside_and_never_an_error(dimension, inside, outside):
    dimension = Dimension.model_validate(dimension)
    assert all(map(dimension.holds, inside))
    assert not any(map(dimension.holds, outside))


RAMP = """
terms.contrast.temperature.kind: {choices: [constant, linear]}
terms.contrast.temperature.start: {low: 0.07, high: 0.5, log: true}
terms.contrast.temperature.end: {low: 0.07, high: 0.5, log: true, when: {terms.contrast.temperature.kind: [linear]}}
synthetic.gan.generator_learning_rate.start: {low: 0.5, high: 2.0, relative: true}
synthetic.gan.discriminator_learning_rate: {low: 0.5, high: 2.0, relative: true}
"""


def test_temperature_and_rates_are_searched_as_schedules_and_as_the_numbers_of_constants(tmp_path):
    space = space_from(tmp_path, RAMP)
    rates = {
        f"synthetic.gan.{name}": 0.001 for name in ("generator_learning_rate.start", "discriminator_learning_rate")
    }
    own = {"terms.contrast.temperature.kind": "constant", "terms.contrast.temperature.start": 0.2} | rates
    assert space.point_of(CONFIG) == own
    assert CONFIG.with_overrides(own) == CONFIG
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [(point := space.sample(study.ask()), CONFIG.with_overrides(point)) for _ in range(40)]
    kinds = set()
    for point, config in drawn:
        temperature = config.schedules_of_plugins["terms.contrast.temperature"]
        kinds.add(temperature.kind)
        end = point.get("terms.contrast.temperature.end", point["terms.contrast.temperature.start"])
        assert (temperature.value_at(0.0), temperature.value_at(1.0)) == (temperature.start, end)
        for name in rates:
            path = name.removesuffix(".start")
            assert config.schedules_of_plugins[path].bounds == (point[name], point[name])
            assert 0.0005 <= point[name] <= 0.002
    assert kinds == {"constant", "linear"}


def test_a_ramp_lies_outside_a_dimension_that_draws_constants(tmp_path):
    ramp = CONFIG.with_overrides({"terms.contrast.temperature": {"kind": "linear", "start": 0.2, "end": 0.4}})
    space = space_from(tmp_path, "terms.contrast.temperature: {low: 0.07, high: 0.5}")
    assert space.point_of(ramp) == {}
    assert space.outside(ramp) == {"terms.contrast.temperature": "linear"}
    assert space.outside(CONFIG) == {}


def test_the_presets_own_point_leaves_out_what_lies_outside(tmp_path):
    space = space_from(
        tmp_path,
        """
        terms.contrast.temperature: {low: 0.01, high: 1.0}
        curriculum.view_strength.start: {low: 0.1, high: 0.2}
        curriculum.hardness.kind: {choices: [constant, linear, cosine, step, exponential]}
        """,
    )
    assert space.point_of(CONFIG) == {
        "terms.contrast.temperature": 0.2,
        "curriculum.hardness.kind": CONFIG.curriculum.hardness.kind,
    }


NAME, OTHER = "curriculum.hardness.kind", "curriculum.synthetic_fraction.kind"
KIND, END = f"{NAME}: {{choices: [constant, linear]}}", "curriculum.hardness.end: {low: 0.1, high: 1.0"
TWICE = f"{KIND}\ntraining.optimizer: {{choices: [adamw, sgd], when: {{{NAME}: [constant]}}}}\n{END}"
RARE = f"{NAME}: {{choices: [{'constant, ' * 200} linear]}}"  # 64 draws hardly ever find it


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("terms.contrast.temperature: {choices: [1], low: 2, high: 3}", r"either"),
        ("terms.contrast.temperature: {lower: 2}", r"lower: Extra inputs"),
        ("terms.contrast.temperature: 0.5", r"valid dictionary"),
        ("data.image_fraction: {low: 0.1, high: 1}", r"data\.image_fraction decides where or how"),
        ("terms.contrast.temperature: {low: 0.0, high: 1.0, log: true}", r"log needs low above 0, got low=0\.0"),
        ("training.nothing: {low: 0.1, high: 1.0}", r"there is no field 'training\.nothing'"),
        (
            f"{KIND}\nviews.base.nothing: {{low: 0.1, high: 1.0, when: {{{NAME}: [linear]}}}}",
            r"no field 'views\.base\.n",
        ),
        (f"{KIND}\n{END}, when: {{{NAME}: [liner]}}}}", r"end: when names curriculum\.hardness\.kind=liner, .*: const"),
        (f"{KIND}\n{END}, when: {{{OTHER}: [linear]}}}}", r"end: when names 'curriculum\.synthetic_fraction\.kind'"),
        (
            f"{TWICE}, when: {{{NAME}: [linear], training.optimizer: [sgd]}}}}",
            r"end: what when asks for never",
        ),
        (f"{RARE}\n{END}, when: {{{NAME}: [linear]}}}}".replace("0.1", "-0.1"), r"invalid configurations.*hardness"),
        (
            "evaluation.knn_neighbours: {low: 1, high: 9}",
            r"search fields of views, encoder, heads, synthetic, terms",
        ),
    ],
)
def test_a_bad_space_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        space_from(tmp_path, text)
    assert "\n" not in str(error.value)
