"""The pictures of pages in the documents, made anew from a finished search by a browser without a window.

python -m docs.screenshots runs/fashion-mini-smoke

They go to docs/images/. The search is that of `synthcl search --smoke-test`, whose numbers mean nothing, or any other
finished one; it is copied and stays as it is. Chromium and its driver have to be installed (`.ci/run` does it).
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import tempfile
from pathlib import Path

from PIL import Image

from synthcl import load_preset
from synthcl.search import run_page
from synthcl.search.now import Now
from tests.support.browser import Browser, started

IMAGES = Path(__file__).parent / "images"
WIDE, PHONE = (1100, 1500), (390, 844)
_COLORS = 64
"""of a picture: a page has few, and the file stays small"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a finished search")
    arguments = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, started() as window:
        for picture in pictures(arguments.folder, Path(temporary), window):
            print(f"{picture}: {picture.stat().st_size / 1000:.0f} kB")


def pictures(run: Path, temporary: Path, window: Browser) -> list[Path]:
    """Write all of them.

    Args:
        run: folder of a finished search.
        temporary: an empty folder.
        window: that shows the pages.
    """
    finished = _copy(run, temporary / "finished")
    running = _copy(run, temporary / "running")
    _take_back(running)
    config = load_preset(str(run / "config.json"))
    whole = run_page.write_anew(config, finished, trust_code=False)
    partial = run_page.write_anew(config, running, trust_code=False)
    return [
        _taken(window, whole, "report-light", WIDE),
        _taken(window, whole, "report-dark", WIDE, dark=True),
        _taken(window, whole, "report-phone", PHONE),
        _taken(window, partial, "report-running", (1100, 900)),
        _taken(window, whole, "report-samples", (1100, 700), at="samples"),
        _taken(window, whole, "report-neighbours", (1100, 700), at="neighbours"),
    ]


def _copy(run: Path, target: Path) -> Path:
    kept = shutil.ignore_patterns("search-*", "confirm-*", "tensorboard", "figures")
    return Path(shutil.copytree(run, target, ignore=kept))


def _take_back(folder: Path) -> None:
    """Make a finished search one whose first stage is under way."""
    shutil.rmtree(folder / "confirm")
    for file in folder.glob("encoder.*"):
        file.unlink()
    stages = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps([stage | {"done": False} for stage in stages]))
    now = Now.read(folder)
    now.works = {name: work for name, work in now.works.items() if work.stage.startswith("search")}
    now.stage, now.training = "search-1", [*now.works][-2:]
    now.kimg, now.total_kimg, now.left_seconds = 17.4, 23.8, 140.0
    now.write(folder)


def _taken(window: Browser, file: Path, name: str, size: tuple[int, int], *, dark: bool = False, at: str = "") -> Path:
    """A PNG of a page, or of what begins at one of its headings."""
    width, height = size
    window.open(file, width=width, height=height, dark=dark)
    if at:
        window.run("document.getElementById(arguments[0]).scrollIntoView()", at)
    target = IMAGES / f"{name}.png"
    shown = Image.open(io.BytesIO(window.screenshot())).convert("RGB").quantize(_COLORS, dither=Image.Dither.NONE)
    shown.save(target, optimize=True)
    return target


if __name__ == "__main__":
    main()
