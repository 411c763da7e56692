"""The whole path of every preset as a user types it, on a few images of its data set's own format and shape.

The networks, image sizes and views are the preset's own; the budget is a few steps in fp32. `folder` is in
test_folder_commands.py, on images as users have them, with an interruption. The programs run in this process, a driver
of one Ray each, because torchvision knows the published files by their checksums, which imitations cannot have.
"""

import json
import logging
import re

import imitation_data
import pytest
import torch
from imitation_data import accept_any_checksum, write_source
from optuna.trial import TrialState
from program import run
from short_budget import BATCH_IMAGES, STEPS, short_budget
from tiny_run import arguments

from synthcl import load_encoder
from synthcl.cluster import connect  # cluster sets what Ray reads when it is imported
from synthcl.config.presets import load_preset, preset_names
from synthcl.search.study import load_study

ray = connect.ray


@pytest.fixture
def command(ray_address, monkeypatch):
    """Runs a program as a driver of its own, whose Ray processes take imitations for the published data sets."""
    for module in ("cifar", "stl10"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", None)  # to be restored
    accept_any_checksum()

    def driver(*given):
        join = {"address": ray_address, "log_to_driver": False, "logging_level": logging.ERROR}
        ray.init(**join, runtime_env={"worker_process_setup_hook": accept_any_checksum})
        try:
            return run(*given, "--address", ray_address)
        finally:
            ray.shutdown()

    ray.cloudpickle.register_pickle_by_value(imitation_data)  # Ray's processes run the hook before they find tests/
    yield driver
    ray.cloudpickle.unregister_pickle_by_value(imitation_data)


@pytest.mark.parametrize("preset", sorted({*preset_names()} - {"folder"}))
def test_the_whole_path_of_a_preset(preset, command, tmp_path):
    config = load_preset(preset)
    for source in {config.data.source, *config.evaluation.transfer}:
        write_source(source, tmp_path / "data")
    search = ["search", "--preset", preset, *arguments(short_budget(tmp_path / "data", tmp_path / "runs"))]
    folder = tmp_path / "runs" / preset

    plan = run(*search, f"evaluation.transfer={list(config.evaluation.transfer)}", "--dry-run")
    assert plan.returncode == 0, plan.stderr
    assert re.search(rf"^a run +{STEPS} steps of {BATCH_IMAGES} images", plan.stdout, re.MULTILINE)
    assert re.search(r"^unlabelled +[\d,]+ images to pretrain on", plan.stdout, re.MULTILINE)
    assert not folder.exists()

    whole = command(*search)
    assert whole.returncode == 0, whole.stderr
    study = load_study(folder / "study.journal").trials
    assert [trial.user_attrs["label"] for trial in study] == ["trial-000", "trial-001"]
    assert all(trial.state is TrialState.COMPLETE for trial in study)
    assert all(trial.intermediate_values and "diverged" not in trial.user_attrs for trial in study)
    records = [json.loads(file.read_text()) for file in (folder / "confirm").glob("*.json")]
    confirmed = {"real-only", "frozen-gan", "joint", "trial-001"}
    assert {(record["arm"], record["seed"]) for record in records} == {(name, 1000) for name in confirmed}
    for record in records:
        assert (record["steps"], record["views_per_step"]) == (STEPS, 2 * BATCH_IMAGES)
        measured = {name.split("@")[0] for name in record["metrics"]}
        assert f"test/linear/{config.data.source}" in measured
    assert (folder / "report.md").stat().st_size > 0

    encoder = load_encoder(folder / "encoder.safetensors")
    with torch.inference_mode():
        features = encoder(torch.rand(2, config.data.channels, config.view_size, config.view_size) * 2 - 1)
    assert features.shape == (2, encoder.feature_dim)
    assert features.isfinite().all()

    again = run(*search)  # ends before it needs Ray
    assert again.returncode == 0, again.stderr
    assert f"{preset}: complete" in again.stdout
