"""Which hyperparameters TensorBoard compares runs by."""

from synthcl.config.schema import Config
from synthcl.runs.scalar_names import meaning
from synthcl.runs.tensorboard import compared_scores, hyperparameters

BASE = Config(name="birds")


def test_what_is_searched_is_shown_in_any_case_and_else_what_differs():
    own = BASE.with_overrides({"training.seed": 7, "curriculum.hardness.start": 0.9})
    searched = ["curriculum.hardness.start", "training.learning_rate", "curriculum.hardness.knots"]
    assert hyperparameters(own, BASE, searched) == {
        "curriculum.hardness.start": 0.9,
        "training.learning_rate": 0.001,
        "training.seed": 7,
    }
    assert hyperparameters(BASE, BASE) == {}


def test_a_schedule_that_is_searched_by_its_number_has_one_column():
    own = BASE.with_overrides({"terms.contrast.temperature": 0.4})
    assert hyperparameters(own, BASE, ["terms.contrast.temperature"]) == {"terms.contrast.temperature": 0.4}


def test_where_and_how_long_a_run_computes_is_no_hyperparameter():
    own = BASE.with_overrides({"compute.storage": "elsewhere", "data.root": "there"})
    assert hyperparameters(own, BASE) == {}


def test_scores_are_those_of_the_probes_that_decide():
    assert compared_scores(BASE) == [
        "score",
        "val/linear/fashion-mini@100",
        "val/transfer/mean",
        "test/linear/fashion-mini@100",
        "test/transfer/mean",
    ]


def test_a_meaning_names_the_split_and_what_is_unknown_has_none():
    assert meaning("val/linear/fashion-mini@10").startswith("Accuracy on validation of a logistic probe")
    assert meaning("test/transfer/mean").startswith("Accuracy on test")
    assert meaning("gan/unheard_of") == ""
