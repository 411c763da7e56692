"""The search space: conditional dimensions, and every mistake in it found before the search."""

from pathlib import Path

import optuna
import pytest

from synthcl import UserError, load_preset
from synthcl.search.space import load_space

ROOT = Path(__file__).parents[1]
CONFIG = load_preset("fashion-mini")


def space_from(tmp_path, text):
    file = tmp_path / "space.yaml"
    file.write_text(text)
    return load_space(file, CONFIG)


@pytest.mark.parametrize("file", sorted((ROOT / "tune/spaces").glob("*.yaml")), ids=lambda file: file.stem)
def test_shipped_spaces_fit_the_default_preset(file):
    assert load_space(file, CONFIG).dimensions


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
        tmp_path, "training.batch_images: {low: 64, high: 64}\ntraining.temperature: {low: 0.1, high: 1}"
    )
    point = space.sample(optuna.create_study().ask())
    assert point["training.batch_images"] == 64
    assert isinstance(point["training.batch_images"], int)
    assert isinstance(point["training.temperature"], float)


def test_the_presets_own_point_leaves_out_what_lies_outside(tmp_path):
    space = space_from(
        tmp_path,
        """
        training.temperature: {low: 0.01, high: 1.0}
        curriculum.view_strength.start: {low: 0.1, high: 0.2}
        curriculum.hardness.kind: {choices: [constant, linear, cosine, step, exponential]}
        """,
    )
    assert space.point_of(CONFIG) == {
        "training.temperature": CONFIG.training.temperature,
        "curriculum.hardness.kind": CONFIG.curriculum.hardness.kind,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training.temperature: {choices: [1], low: 2, high: 3}", r"either"),
        ("training.temperature: {lower: 2}", r"lower: Extra inputs"),
        ("training.temperature: 0.5", r"valid dictionary"),
        ("data.image_fraction: {low: 0.1, high: 1}", r"data\.image_fraction decides where or how"),
        ("evaluation.knn_neighbours: {low: 1, high: 9}", r"remove it and search fields of views, encoder, gan, method"),
    ],
)
def test_a_bad_space_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        space_from(tmp_path, text)
    assert "\n" not in str(error.value)
