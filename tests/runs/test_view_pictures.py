"""The picture to choose views by."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from program import run
from small_trainer import tiny_config

from synthcl.runs.view_pictures import DRAWS, rows_of


def test_a_row_a_view_and_all_together_at_both_ends() -> None:
    config = tiny_config(
        {
            "views.up": {"kind": "vertical_flip", "probability": 1},
            "curriculum.view_strength": {"kind": "linear", "start": 0.0, "end": 1.0},
        }
    )
    size = config.data.image_size
    images = torch.rand(3, 1, size, size, generator=torch.Generator().manual_seed(0))
    rows = rows_of(config, images)
    assert list(rows) == ["as they are", "views.base", "views.up", "all, strength 0", "all, strength 1"]
    still = images.repeat(DRAWS, 1, 1, 1)
    torch.testing.assert_close(rows["as they are"], still)
    torch.testing.assert_close(rows["views.up"], still.flip(2))
    torch.testing.assert_close(rows["all, strength 0"], still)
    for changed in ("views.base", "all, strength 1"):
        assert not torch.allclose(rows[changed], still)
    assert all(torch.equal(again, rows[name]) for name, again in rows_of(config, images).items())


def test_a_dry_run_draws_them(tmp_path: Path) -> None:
    file = tmp_path / "new" / "views.png"
    for program in ("train", "search"):
        done = run(program, "--draw-views", str(file), "views.turn.kind=rotation", f"--storage={tmp_path / 'runs'}")
        assert done.returncode == 0, done.stderr
        assert str(file) in done.stdout
        with Image.open(file) as picture:
            assert picture.format == "PNG"
            assert picture.size[0] > picture.size[1] > 200
        assert [found.name for found in tmp_path.iterdir()] == ["new"]
        file.unlink()
