"""The published evidence: its figures follow from its records, and its records are of the preset as it is."""

import json
import re
import tarfile
from pathlib import Path
from statistics import fmean, stdev

import pytest

from synthcl.comparison import plan, tuned_report
from synthcl.comparison.arms import apply_arm
from synthcl.comparison.families import Family
from synthcl.comparison.intervals import paired_difference
from synthcl.comparison.plan import Run, read_arms
from synthcl.comparison.records import Place, is_finished, read_all
from synthcl.comparison.table import summarise
from synthcl.comparison.tuned import FIRST_SEED, Asked, stages
from synthcl.config.presets import load_preset
from synthcl.search import leaderboard, results

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "benchmarks/recorded"
COMPARISONS = {"cifar10-weak-views": "hand-set=hand-set", "lazy": "lazy4=lazy-4,lazy16=lazy-16"}
"""of preset cifar10-weak-views, by name: their arms of files in benchmarks/arms"""
UNLABELLED_IMAGES = 45_000
"""of CIFAR-10's 50,000 for training, less the preset's validation split"""
TUNED = {
    "tuned-cifar10-weak-views-100": ("cifar10-weak-views", UNLABELLED_IMAGES),
    "tuned-spoken-digits-100": (str(ROOT / "benchmarks/data/spoken-digits.yaml"), 1_600),
}
"""comparisons of tuned families with 100 images: their presets, and how many unlabelled images there are"""


def unpacked(name, folder, preset="cifar10-weak-views", **own):
    """The published records of this name where RESULTS.md unpacks them."""
    own = {"name": name, "compute.storage": str(folder)} | own
    place = Place(load_preset(preset).with_overrides(own))
    place.records.mkdir(parents=True)
    with tarfile.open(RECORDED / f"{name}-records.tar.xz") as archive:
        archive.extractall(place.records, filter="data")
    return place


@pytest.fixture(scope="module", params=COMPARISONS)
def place(request, tmp_path_factory):
    return unpacked(request.param, tmp_path_factory.mktemp("runs"))


def test_the_verdicts_of_the_default_searches_follow_from_their_confirm_records(tmp_path):
    with tarfile.open(RECORDED / "default-searches-records.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    text, differences = (ROOT / "RESULTS.md").read_text(), []
    for seed in (0, 100, 200, 300, 400):
        config = load_preset("fashion-mini").with_overrides({"training.seed": seed})
        records = results.confirm_records(tmp_path / f"default-{seed}", config)
        board = leaderboard.compare(records, config, [], results.confirm_seeds(config))
        said = leaderboard.verdict(board)[0].removesuffix(" points on test (linear, 3 seeds).")
        assert re.search(rf"\| {seed} \| {re.escape(said)} \| \**{board.winner.name}\** \|", text)
        differences.append(board.contender.difference[board.headline].value)
    mean = paired_difference(differences, [0.0] * len(differences))
    assert f"| mean of the five | **{mean}** |" in text


def test_the_figures_of_few_embedded_images_follow_from_their_records(tmp_path):
    place = unpacked("few", tmp_path, "fashion-mini", **{"training.batch_images": 64})
    text, scores = (ROOT / "RESULTS.md").read_text(), {}
    for record in read_all(place.records, place.config):
        key = record.arm, record.images, record.seed
        scores[key] = record.metrics["test/linear/fashion-mini@100"]

    def of(arm, images):
        return [scores[arm, images, seed] for seed in (2000, 2001, 2002)]

    for images in (100, 8000):
        assert f"{fmean(of('real-only', images)):.2f}±{stdev(of('real-only', images)):.2f}" in text
    for images in (100, 300):
        assert str(paired_difference(of("joint", images), of("real-only", images))) in " ".join(text.split())


def test_what_is_said_of_the_unfinished_factorial_of_mechanisms_follows_from_its_records(tmp_path):
    place = unpacked("mechanisms", tmp_path)
    page, scores = (ROOT / "docs/mechanisms.md").read_text(), {}
    for record in read_all(place.records, place.config):
        part = "val" if record.seed >= 4500 else "test"
        scores.setdefault((part, record.arm), {})[record.seed] = record.metrics[f"{part}/linear/cifar10@10000-labels"]
    seeds = range(4000, 4005)
    for strength in ("0.3", "1"):
        real, joint = ([scores["test", f"{arm}@{strength}"][seed] for seed in seeds] for arm in ("real-only", "joint"))
        cells = (f"{fmean(real):.2f}±{stdev(real):.2f}", f"{fmean(joint):.2f}±{stdev(joint):.2f}")
        assert f"| view strength {strength} | {' | '.join(cells)} | {paired_difference(joint, real)} |" in page
    tried = {arm: each for (part, arm), each in scores.items() if part == "val"}
    assert len(tried) == 21
    for arm, each in tried.items():
        mechanism, _, strength = arm.removeprefix("real-only+").removesuffix("@0.3").rpartition("=")
        row = next(line for line in page.splitlines() if line.startswith(f"| `{mechanism}`, "))
        assert f" {strength}: {fmean(each.values()):.2f}" in row
        assert len(each) == 2


def rounded(text):
    return json.loads(text, parse_float=lambda digits: round(float(digits), 6))


def test_the_published_figures_follow_from_the_published_records(place):
    published = (RECORDED / f"{place.config.name}-evidence.json").read_text()
    assert rounded(json.dumps(summarise(read_all(place.records, place.config)).as_json())) == rounded(published)


def test_every_published_run_is_one_of_the_preset_as_it_is(place):
    preset = load_preset("cifar10-weak-views")
    of_files = dict(arm.split("=") for arm in COMPARISONS[place.config.name].split(","))
    own_arms = read_arms(",".join(f"{arm}={ROOT}/benchmarks/arms/{file}.yaml" for arm, file in of_files.items()))
    for record in read_all(place.records, place.config):
        arm, images, seed = record.arm, record.images, record.seed
        base = preset.with_overrides(own_arms[arm]) if arm in own_arms else apply_arm(preset, arm)
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


@pytest.fixture(scope="module", params=TUNED)
def tuned(request, tmp_path_factory):
    preset, _ = TUNED[request.param]
    return unpacked(request.param, tmp_path_factory.mktemp("tuned"), preset, **{"training.seed": FIRST_SEED})


def test_the_published_figures_of_tuned_families_follow_from_their_records(tuned):
    records = read_all(tuned.records, tuned.config)
    published = (RECORDED / f"{tuned.config.name}.json").read_text()
    assert rounded(json.dumps(tuned_report.as_json(tuned_report.read(tuned.config, records)))) == rounded(published)


def test_every_published_run_of_tuned_families_is_one_that_the_documented_command_asks_for(tuned, monkeypatch):
    _, count = TUNED[tuned.config.name]
    monkeypatch.setattr(plan, "unlabelled_count", lambda data: count)  # the data sets are not here
    monkeypatch.setattr(plan, "_require_labels", lambda config: None)
    families = [Family.read(name) for name in ("real-only", "real-only+imix", "joint", "joint+imix")]
    planned = [run for stage in stages(tuned.config, Asked(families, images=100, budget=9)) for run in stage.runs]
    assert all(is_finished(run, tuned) for run in planned)
    assert {run.label for run in planned} == {file.stem for file in tuned.records.glob("*.json")}
