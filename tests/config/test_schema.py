"""A configuration is complete and frozen, and what is wrong with one is said in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from synthcl.config.cli import parse_overrides
from synthcl.config.compatibility import first_difference
from synthcl.config.presets import load_preset
from synthcl.config.schema import Config
from synthcl.config.sections import TrainingConfig
from synthcl.core.errors import UserError
from synthcl.method.curriculum.ramps import Constant, Cosine, Linear, Step
from synthcl.method.curriculum.schedule import Schedule
from synthcl.method.encoders.resnet import ResnetConfig

BAD_OVERRIDES = [
    # (argument, what the line must say)
    ("training.kimg=0", r"training\.kimg = 0: .*greater than 0"),
    ("training.kimg=-3", r"training\.kimg = -3: .*greater than 0"),
    ("training.kimg=.nan", r"training\.kimg = nan: .*finite"),
    ("training.kimg=.inf", r"training\.kimg = inf: .*finite"),
    ("training.kimg=long", r"training\.kimg = 'long': .*number"),
    ("training.kimg=", r"training\.kimg = None: .*number"),
    ("training.learning_rate=-1e-3", r"training\.learning_rate = '-1e-3': .*greater than 0"),
    ("training.batch_images=2.5", r"training\.batch_images = 2\.5: .*integer"),
    ("training.batch_images=2", r"training\.batch_images = 2: .*greater than or equal to 4"),
    ("terms.contrast.temperature=0", r"terms\.contrast\.temperature: its value is 0; it must be greater than 0"),
    ("terms.contrast.temperature.start=11", r"temperature: its value is 11; it must be .* less than or equal to 10"),
    ("terms.contrast.temperature=hot", r"temperature = 'hot': give a number, or a schedule such as"),
    ("terms.contrast.temperature=.nan", r"terms\.contrast\.temperature = nan: .*finite"),
    ("terms.contrast.temperature=true", r"temperature = True: give a number"),
    ("terms.contrast.temperature=", r"temperature = None: give a number"),
    ("terms.contrast.temperature.end=0.3", r"no field '.*end'; terms\.contrast\.temperature has: kind, start"),
    (
        "synthetic.gan.generator_learning_rate={kind: linear, start: 1e-3, end: 0}",
        r"gan\.generator_learning_rate: it goes from 0 to 0\.001; all values must be greater than 0",
    ),
    (
        "synthetic.gan.discriminator_learning_rate={kind: table, points: [[0, 0.1], [0.5, -0.1]]}",
        r"gan\.discriminator_learning_rate: it goes from -0\.1 to 0\.1; all values must be greater than 0",
    ),
    ("training.optimizer=adam", r"training\.optimizer = 'adam': .*'adamw' or 'sgd'"),
    ("training.seed=-1", r"training\.seed = -1: .*greater than or equal to 0"),
    ("training.epochs=3", r"no field 'training\.epochs'; training has: .*\bkimg\b"),
    ("trainig.kimg=3", r"no field 'trainig\.kimg'"),
    ("kimg=3", r"no field 'kimg'; the config has: .*\btraining\b"),
    ("training.kimg.value=3", r"no field 'training\.kimg\.value'"),
    ("training=3", r"training = 3: .*TrainingConfig"),
    ("name=../elsewhere", r"name = '\.\./elsewhere': .*match"),
    ("data.channels=2", r"data\.channels = 2: .*1 or 3"),
    ("data.image_size=8", r"data\.image_size = 8: .*16"),
    ("data.validation_fraction=1", r"data\.validation_fraction = 1: .*less than 1"),
    ("data.image_fraction=0", r"data\.image_fraction = 0: .*greater than 0"),
    ("views.base.hue=0.6", r"views\.base\.hue = 0\.6: .*0\.5"),
    ("views.base.flip_probability=1.1", r"views\.base\.flip_probability = 1\.1: .*less than or equal to 1"),
    ("encoder.kind=vit", r"encoder\.kind = 'vit': choose 'conv', 'resnet18', 'resnet50', 'timm', 'custom'"),
    ("synthetic.gan.beta1=1", r"synthetic\.gan\.beta1 = 1: .*less than 1"),
    ("synthetic.gan.loss=wasserstein", r"synthetic\.gan\.loss = 'wasserstein': .*'hinge' or 'relativistic'"),
    ("training.views_per_image=5", r"training\.views_per_image = 5: .*2, 3, 4, 6 or 8"),
    ("curriculum.hardness.start=-0.5", r"hardness goes from -0\.5 to -0\.5; it must stay in \[0, inf\]"),
    ("curriculum.synthetic_fraction.start=1.5", r"synthetic_fraction goes from 1\.5 to 1\.5; it must stay in \[0, 1\]"),
    ("curriculum.view_strength={kind: linear, start: 1, end: 3}", r"view_strength goes from 1 to 3; .*\[0, 2\]"),
    ("curriculum.pair_half_life_kimg={start: 0}", r"pair_half_life_kimg goes from 0 to 0"),
    (
        "curriculum.hardness={kind: linear, start: 0, end: 1, ramp_begin: 0.8, ramp_end: 0.2}",
        r"0\.8 is after ramp_end 0\.2",
    ),
    ("curriculum.hardness={kind: exponential, start: 0, end: 1}", r"exponential ramp needs start and end above 0"),
    ("curriculum.hardness={kind: linear, end: 1}", r"curriculum\.hardness\.start: .*required"),
    ("curriculum.hardness={start: 1, stop: 2}", r"curriculum\.hardness\.stop = 2: .*not permitted"),
    ("curriculum.hardness=[0.5]", r"curriculum\.hardness = \[0\.5\]: give a number, or a schedule"),
    ("curriculum.hardness.kind=sawtooth", r"curriculum\.hardness\.kind = 'sawtooth': choose 'constant', 'linear'"),
    ("curriculum.synthetic_fraction.kind=linear", r"curriculum\.synthetic_fraction\.end: .*required"),
    ("curriculum.hardness.end=1", r"no field 'curriculum\.hardness\.end'; curriculum\.hardness has: kind, start"),
    ("terms.spread.weight=0.5", r"terms\.spread\.weight"),
    (
        "terms.spread.kind=spread",
        r"terms\.spread\.kind = 'spread': choose 'ppcl', 'decoupled', 'vicreg', 'barlow'",
    ),
    ("terms.contrast.weight=-1", r"terms\.contrast: weight goes down to -1; it must be 0 or more"),
    ("terms.contrast.weight=0", r"terms has no entry whose weight stays above 0"),
    ("terms.contrast.head=aside", r"terms\.contrast\.head 'aside' is no entry of heads, which has \['main'\]"),
    ("terms.contrast=null", r"terms has no entry whose weight stays above 0"),
    ("heads.main=null", r"heads has \[\]; it needs an entry named main"),
    ("views.base.kind=custom", r"views\.base\.code: .*required"),
    ("views.more={kind: simclr}", r"views has \['base', 'more'\] of kind simclr; it needs one, named base"),
    ("synthetic.other={kind: gan}", r"synthetic\.other is of kind gan; there is one GAN, named gan"),
    ("synthetic.gan={kind: folder, path: made}", r"synthetic\.gan is of kind folder; gan is the name of the GAN"),
    ("synthetic.mine={kind: folder}", r"synthetic\.mine\.path.*required"),
    ("synthetic.mine={kind: folder, path: made, pairs: stems}", r"pairs = 'stems': must be none, names, or a file"),
    ("evaluation.rungs=[]", r"rungs \[\] must rise, start above 0 and end at 1"),
    ("evaluation.rungs=[0.5]", r"rungs \[0\.5\] must rise, start above 0 and end at 1"),
    ("evaluation.rungs=[0, 1]", r"rungs \[0\.0, 1\.0\] must rise"),
    ("evaluation.rungs=[0.5, 0.25, 1]", r"rungs \[0\.5, 0\.25, 1\.0\] must rise"),
    ("evaluation.rungs=[0.5, 0.5, 1]", r"rungs \[0\.5, 0\.5, 1\.0\] must rise"),
    ("evaluation.label_fractions=[]", r"label_fractions \[\] must lie in \(0, 1\]"),
    ("evaluation.label_fractions=[1, 0]", r"label_fractions \[1\.0, 0\.0\] must lie in \(0, 1\]"),
    ("evaluation.label_fractions=[1.5, 1]", r"label_fractions \[1\.5, 1\.0\] must lie in \(0, 1\]"),
    (
        "evaluation={label_fractions: [500, 0.1], max_label_images: 400}",
        r"max_label_images 400 is below the 500 labels of label_fractions \[500\.0, 0\.1\]; write 500 or more, or none",
    ),
    ("evaluation.max_label_images=0", r"max_label_images = 0: .*greater than or equal to 1"),
    ("evaluation.transfer=digits", r"evaluation\.transfer = 'digits': .*tuple"),
    ("search.trials=0", r"search\.trials = 0: .*greater than or equal to 1"),
    ("search.keep_one_in=1", r"search\.keep_one_in = 1: .*greater than 1"),
    ("search.algorithm=asha", r"search\.algorithm = 'asha': .*'stopping', 'random' or 'population'"),
    ("search.opponent_share=1", r"search\.opponent_share = 1: .*less than 1"),
    ("search.objective=accuracy", r"search\.objective = 'accuracy': .*'weighted', 'pareto' or 'label_free'"),
    ("compute.workers_per_trial=0", r"compute\.workers_per_trial = 0: .*greater than or equal to 1"),
    (
        "compute={workers_per_trial: 2, gpus_per_worker: 0.25}",
        r"gpus_per_worker 0\.25 is a fraction.* use 1, or",
    ),
    ("compute={workers_per_trial: 4, gpus_per_worker: 1.5}", r"gpus_per_worker 1\.5 is a fraction, and NCCL refuses"),
    ("compute.gpus_per_worker=-1", r"compute\.gpus_per_worker = -1: .*greater than or equal to 0"),
]


def refusal(*arguments: str) -> str:
    with pytest.raises(UserError) as refused:
        Config(name="test").with_overrides(parse_overrides(list(arguments)))
    return str(refused.value)


@pytest.mark.parametrize(("argument", "line"), BAD_OVERRIDES, ids=[argument for argument, _ in BAD_OVERRIDES])
def test_a_bad_override_is_refused_in_one_line_with_field_value_and_remedy(argument: str, line: str) -> None:
    message = refusal(argument)
    assert re.search(line, message)
    assert message.startswith("override")
    assert "\n" not in message


@pytest.mark.parametrize("argument", ["training.kimg", "--kimg", "=5", ""])
def test_an_argument_without_field_and_equals_sign_is_refused(argument: str) -> None:
    assert refusal(argument) == f"argument {argument!r} is not of the form field=value, such as training.kimg=50"


def test_a_value_that_is_not_yaml_is_refused() -> None:
    assert refusal("evaluation.rungs=[0.5") == "argument 'evaluation.rungs=[0.5': '[0.5' is not a YAML value"


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("training.kimg=50", 50.0),
        ("training.learning_rate=3e-4", 3e-4),  # YAML 1.1 reads this as text
        ("training.compile=true", True),
        ("views.base.size=null", None),
        ("compute.storage=s3://bucket/a=b", "s3://bucket/a=b"),
        ("evaluation.rungs=[0.5, 1]", (0.5, 1.0)),
        ("curriculum.hardness.start=2", 2.0),
        ("curriculum.hardness={kind: cosine, start: 0, end: 1}", Cosine(start=0, end=1)),
    ],
)
def test_an_override_becomes_the_fields_type(argument: str, expected: Any) -> None:
    config: Any = Config(name="test").with_overrides(parse_overrides([argument]))
    for part in argument.partition("=")[0].split("."):
        config = config[part] if isinstance(config, dict) else getattr(config, part)
    assert config == expected


def test_overrides_are_judged_together() -> None:
    arguments = ["curriculum.hardness.ramp_begin=0.9", "curriculum.hardness.ramp_end=0.95"]
    arguments += ["curriculum.hardness.end=2", "curriculum.hardness.kind=linear"]  # which has these fields
    ramp = Config(name="test").with_overrides(parse_overrides(arguments)).curriculum.hardness
    assert (ramp.ramp_begin, ramp.ramp_end) == (0.9, 0.95)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[1, 2]", "must be a mapping of sections, not list"),
        ("", "must be a mapping of sections, not NoneType"),
        ("name: [", "is not YAML"),
        ("training: {kimg: 5}", r"name: .*required"),
        ("{name: a, trainig: {kimg: 5}}", r"trainig: .*not permitted"),
        ("{name: a, training: {kmig: 5}}", r"training\.kmig = 5: .*not permitted"),
        ("{name: a, training: {kimg: .nan}}", r"training\.kimg = nan: .*finite"),
        ("name: !!python/object/apply:os.getcwd []", "is not YAML"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_it(text: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=line) as refused:
        load_preset(str(path))
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_unknown_preset_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"preset 'cifar' is unknown; choose .*cifar10.*folder.*, or a \.yaml file"):
        load_preset("cifar")


@pytest.mark.parametrize("name", ["absent.yaml", "."])
def test_a_file_that_cannot_be_read_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        load_preset(str(tmp_path / name))


def test_a_file_gives_its_values_and_the_defaults_for_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"name": "mine", "training": {"kimg": 3}}))
    assert load_preset(str(path)) == Config(name="mine", training=TrainingConfig(kimg=3))


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValidationError):
        Config(name="test").training.kimg = 3  # type: ignore[misc]


@pytest.mark.parametrize(("kimg", "batch_images", "steps"), [(100, 256, 391), (0.001, 256, 1), (512, 512, 1000)])
def test_steps_are_the_budget_over_the_batch(kimg: float, batch_images: int, steps: int) -> None:
    assert TrainingConfig(kimg=kimg, batch_images=batch_images).steps == steps


@pytest.mark.parametrize(
    ("schedule", "bounds"),
    [
        (Constant(start=0.3), (0.3, 0.3)),
        (Linear(start=0.9, end=0.3), (0.3, 0.9)),
        (Step(start=0.0, end=2.0), (0.0, 2.0)),
    ],
)
def test_bounds_are_the_smallest_and_largest_value(schedule: Schedule, bounds: tuple[float, float]) -> None:
    assert schedule.bounds == bounds


def test_sizes_fall_back_to_the_images_size() -> None:
    config = Config(name="test").with_overrides({"data.image_size": 96})
    assert (config.view_size, config.gan_image_size) == (96, 96)
    config = config.with_overrides({"views.base.size": 64, "synthetic.gan.image_size": 48})
    assert (config.view_size, config.gan_image_size) == (64, 48)


def test_a_digest_depends_on_the_named_sections_alone() -> None:
    base = Config(name="test")
    other = base.with_overrides({"training.seed": 1})
    assert base.digest() != other.digest()
    assert base.digest("synthetic", "data") == other.digest("synthetic", "data")
    assert base.digest("synthetic", "data") != base.digest("data")
    assert re.fullmatch(r"[0-9a-f]{12}", base.digest())


def test_every_default_is_within_its_bounds() -> None:
    defaults = Config(name="test")  # pydantic does not check defaults by itself
    assert Config.model_validate(defaults.model_dump(mode="json")) == defaults


def test_a_config_may_not_lack_a_field():
    config = load_preset("fashion-mini")
    written = config.model_dump(mode="json")
    assert first_difference(written, config, ()) is None
    del written["synthetic"]["gan"]["hardness_unit"]
    assert first_difference(written, config, ()) == ("synthetic.gan.hardness_unit", None, "gradient_ratio")
    assert first_difference(written, config, ("synthetic",)) is None


def test_a_member_of_a_family_is_added_changed_and_removed() -> None:
    config = Config(name="test").with_overrides({"terms.second.kind": "ppcl", "terms.second.weight": 0.5})
    assert [*config.terms] == ["contrast", "second"]
    assert config.terms["second"].weight == Constant(start=0.5)
    assert config.with_overrides({"terms.second": None}) == Config(name="test")
    other = config.with_overrides({"encoder.kind": "resnet50", "encoder.stem": "imagenet"})
    assert other.encoder == ResnetConfig(kind="resnet50", stem="imagenet")
    narrow = Config(name="test").with_overrides({"curriculum.hardness": {"kind": "linear", "start": 0.25, "end": 1.0}})
    step = narrow.with_overrides({"curriculum.hardness.kind": "step"}).curriculum.hardness
    assert step == Step(start=0.25, end=1.0)  # what both kinds have stays


@pytest.mark.parametrize(
    ("written", "asked", "same"),
    [
        (([1.0, 0.1], 10_000), ([10_000, 0.1], 10_000), True),
        (([1.0, 0.1], 50_000), ([1.0, 0.1], None), True),  # the earlier default, which cut nothing
        (([1.0, 0.1], 10_000), ([1.0, 0.1], None), False),
        (([1.0, 0.1], 10_000), ([20_000, 0.1], 20_000), False),
        (([1.0, 0.1], 10_000), ([10_000, 0.01], 10_000), False),
    ],
)
def test_a_run_that_an_earlier_version_began_continues_where_its_probes_have_the_same_labels(written, asked, same):
    def config_of(fractions, cap):
        return {"evaluation.label_fractions": fractions, "evaluation.max_label_images": cap}

    config = load_preset("cifar10").with_overrides(config_of(*asked))
    earlier = config.model_dump(mode="json")
    earlier["evaluation"] |= {"label_fractions": written[0], "max_label_images": written[1]}
    assert (first_difference(earlier, config, ()) is None) == same
    assert Config.model_validate(earlier)  # its checkpoints and encoders are read as before


def test_the_headline_is_the_entry_with_the_most_labels():
    def headline(*entries):
        return load_preset("cifar10").with_overrides({"evaluation.label_fractions": entries}).evaluation.headline

    assert headline(0.1, 10_000, 0.01) == 10_000
    assert headline(1000, 1.0, 0.1) == 1.0  # all of them, whatever the numbers beside it
    assert headline(0.01, 0.1) == 0.1
