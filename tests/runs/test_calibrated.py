"""A search without labels chooses by a score that has been calibrated, and by no other."""

import json

import pytest
import torch
from image_files import write_image
from small_trainer import CPU

from synthcl.config.presets import load_preset
from synthcl.core.errors import UserError
from synthcl.evaluation import panel, protocol
from synthcl.runs.preflight import open_data


@pytest.fixture
def searched(tmp_path):
    """A function that gives the configuration of a search of a folder without labels by a score."""
    for index in range(12):
        write_image(tmp_path / "photos" / f"{index}.png", index)
    verdicts = {"label_free/lidar": "", "label_free/contrast": "", "label_free/clid": "worse than a random arm"}
    (tmp_path / "cal.json").write_text(json.dumps({"hindrances": verdicts}))

    def by(score, **overrides):
        own = {
            "data.root": str(tmp_path / "photos"),
            "data.image_size": 16,
            "encoder": {"kind": "conv", "width": 4},
            "training.batch_images": 8,
            "evaluation.transfer": [],
            "search.objective": "label_free",
            "search.label_free": score,
            "search.calibration": str(tmp_path / "cal.json"),
        }
        return load_preset("folder").with_overrides(own | overrides)

    return by


def test_a_score_that_may_judge_is_searched_by(searched):
    assert open_data(searched("lidar")).own.train is None
    labelled = searched("lidar", **{"data.source": "digits", "evaluation.label_fractions": [100]})
    assert open_data(labelled).own.train  # where there are labels, too


@pytest.mark.parametrize(
    ("score", "said"),
    [
        ("clid", r"'clid' may not judge \(worse than a random arm; .*cal.json'\); choose lidar, contrast$"),
        ("rotation", r"'rotation' may not judge \(not measured; .*\); choose lidar, contrast$"),
    ],
)
def test_others_are_refused_in_a_line_with_those_that_may(searched, score, said):
    with pytest.raises(UserError, match=said) as error:
        open_data(searched(score))
    assert "\n" not in str(error.value)


def test_where_none_may_one_training_is_what_is_right(searched, tmp_path):
    (tmp_path / "cal.json").write_text(json.dumps({"hindrances": {"label_free/lidar": "2 of 3 seeds"}}))
    with pytest.raises(UserError, match=r"no score may, so train one encoder with `synthcl train`$"):
        open_data(searched("lidar"))
    open_data(searched("lidar"), chooses=False)  # one training chooses nothing


def test_the_search_compares_by_that_score_at_every_rung(searched, monkeypatch):
    assert protocol.is_scored(searched("lidar"))
    metrics = {"features/rank": 3.0, "label_free/lidar": 7.0, "label_free/contrast": 2.0}
    for judge in (protocol.objective, protocol.rung_score):
        assert judge(metrics, searched("lidar")) == 7.0
        lower = judge(metrics | {"label_free/contrast": 1.0}, searched("contrast"))
        assert lower > judge(metrics, searched("contrast")) > 0  # above what a failed run has
    monkeypatch.setattr(
        panel, "make_panel", lambda *given, **named: panel.Panel(torch.ones(4, 2, 3), torch.ones(4, 2, 3))
    )
    assert panel.measure(torch.nn.Identity(), torch.nn.Identity(), searched("lidar"), CPU) == {"label_free/lidar": 1.0}
