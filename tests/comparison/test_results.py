"""The published evidence: its figures follow from its records, and its records are of the preset as it is."""

import json
import tarfile
from pathlib import Path

import pytest

from synthcl.comparison import plan, tuned_report
from synthcl.comparison.arms import apply_arm
from synthcl.comparison.families import Family
from synthcl.comparison.plan import Run, read_arms
from synthcl.comparison.records import Place, is_finished, read_all
from synthcl.comparison.table import summarise
from synthcl.comparison.tuned import FIRST_SEED, Asked, stages
from synthcl.config.presets import load_preset

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "benchmarks/recorded/cifar10-weak-views-evidence.json"
RECORDS = ROOT / "benchmarks/recorded/cifar10-weak-views-records.tar.xz"
TUNED = "tuned-cifar10-weak-views-100"
UNLABELLED_IMAGES = 45_000
"""of CIFAR-10's 50,000 for training, less the preset's validation split"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the published records have been unpacked, as RESULTS.md says."""
    folder = str(tmp_path_factory.mktemp("runs"))
    place = Place(load_preset("cifar10-weak-views").with_overrides({"compute.storage": folder}))
    place.records.mkdir(parents=True)
    with tarfile.open(RECORDS) as archive:
        archive.extractall(place.records, filter="data")
    return place


def rounded(text):
    return json.loads(text, parse_float=lambda digits: round(float(digits), 6))


def test_the_published_figures_follow_from_the_published_records(place):
    assert rounded(json.dumps(summarise(read_all(place.records, place.config)).as_json())) == rounded(
        PUBLISHED.read_text()
    )


def test_every_published_run_is_one_of_the_preset_as_it_is(place):
    preset = load_preset("cifar10-weak-views")
    hand_set = read_arms(f"hand-set={ROOT / 'benchmarks/arms/hand-set.yaml'}")
    for record in read_all(place.records, place.config):
        arm, images, seed = record.arm, record.images, record.seed
        base = preset.with_overrides(hand_set[arm]) if arm in hand_set else apply_arm(preset, arm)
        own = {"data.image_fraction": images / UNLABELLED_IMAGES, "data.split_seed": seed, "training.seed": seed}
        assert is_finished(Run(arm, images, seed, base.with_overrides(own)), place)


def test_records_that_an_earlier_version_wrote_give_the_same_figures(place, tmp_path):
    """Its probe on `max_label_images` labels was called @100, and the share in its configuration 1.0."""
    earlier = Place(place.config.with_overrides({"compute.storage": str(tmp_path)}))
    earlier.records.mkdir(parents=True)
    for file in place.records.glob("*.json"):
        record = json.loads(file.read_text())
        record["config"]["evaluation"]["label_fractions"] = [1.0, 0.1, 0.01]
        record["metrics"] = {name.replace("@10000-labels", "@100"): value for name, value in record["metrics"].items()}
        (earlier.records / file.name).write_text(json.dumps(record))
    assert (
        summarise(read_all(earlier.records, earlier.config)).as_json()
        == summarise(read_all(place.records, place.config)).as_json()
    )


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """Where the published runs of tuned families have been unpacked, as RESULTS.md says."""
    own = {"name": TUNED, "compute.storage": str(tmp_path_factory.mktemp("tuned")), "training.seed": FIRST_SEED}
    place = Place(load_preset("cifar10-weak-views").with_overrides(own))
    place.records.mkdir(parents=True)
    with tarfile.open(ROOT / f"benchmarks/recorded/{TUNED}-records.tar.xz") as archive:
        archive.extractall(place.records, filter="data")
    return place


def test_the_published_figures_of_tuned_families_follow_from_their_records(tuned):
    records = read_all(tuned.records, tuned.config)
    published = (ROOT / f"benchmarks/recorded/{TUNED}.json").read_text()
    assert rounded(json.dumps(tuned_report.as_json(tuned_report.read(tuned.config, records)))) == rounded(published)


def test_every_published_run_of_tuned_families_is_one_that_the_documented_command_asks_for(tuned, monkeypatch):
    monkeypatch.setattr(plan, "unlabelled_count", lambda data: UNLABELLED_IMAGES)  # the data set is not here
    monkeypatch.setattr(plan, "_require_labels", lambda config: None)
    families = [Family.read(name) for name in ("real-only", "real-only+imix", "joint", "joint+imix")]
    planned = [run for stage in stages(tuned.config, Asked(families, images=100, budget=9)) for run in stage.runs]
    assert all(is_finished(run, tuned) for run in planned)
    assert {run.label for run in planned} == {file.stem for file in tuned.records.glob("*.json")}
