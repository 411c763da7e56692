"""The page of a search, running and finished, as a real browser shows it; and that writing it never ends a search."""

from __future__ import annotations

import io
import json
import re
import time
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import browser
import buckets
import numpy as np
import pandas as pd
import pytest
import torch
from image_files import write_classes
from PIL import Image
from program import run
from run_folder import CONFIRMED, RUNGS, make_run, run_config
from small_trainer import tiny_config

from synthcl.core import page
from synthcl.core.report import Report
from synthcl.data import ResidentImages
from synthcl.runs.export import save_encoder
from synthcl.runs.storage import Storage
from synthcl.search import lineage, live, page_pictures, report, run_page
from synthcl.search.live import Follow, LivePage
from synthcl.search.now import FILE, SILENT_SECONDS, WARM_UP, Now

s3, bucket = buckets.s3, buckets.bucket

SIZES = {"wide": (1200, 900), "phone": (360, 740)}
STAGES = [
    {"name": "search-1", "kind": "search", "budgets": 7, "begun": True, "done": False},
    {"name": "confirm-1", "kind": "confirm", "begun": False, "done": False},
]


@pytest.fixture(scope="module")
def window() -> Iterator[browser.Browser]:
    if browser.MISSING:
        pytest.skip(browser.MISSING)
    with browser.started() as window:
        yield window


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search that was made by hand: its folder, with its page."""
    folder = make_run(tmp_path_factory.mktemp("finished"), stopped=19)
    (folder / "state.json").write_text(json.dumps([stage | {"done": True} for stage in STAGES]))
    told = run("report", str(folder))
    assert (told.returncode, told.stdout) == (0, f"Page: {folder / 'report.html'}\n"), told.stderr
    return folder


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search in its first stage, some of whose trials have been stopped: its folder, with its page."""
    folder = make_run(tmp_path_factory.mktemp("running"), confirmed={}, stopped=3)
    (folder / "state.json").write_text(json.dumps(STAGES))
    under_way().write(folder)
    assert run("report", str(folder)).returncode == 0
    return folder


def under_way(**more: Any) -> Now:
    given = {"stage": "search-1", "kimg": 30, "total_kimg": 60, "left_seconds": 400, "training": ["trial-012"]}
    return Now(**given | more)


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of `synthcl neighbours`, one of whose images has a name as long as they get."""
    here = tmp_path_factory.mktemp("neighbours")
    config = tiny_config()
    save_encoder(here / "encoder.safetensors", config.encoder.build(1), config, {})
    write_classes(here / "photos", 5)
    (here / "photos" / "cat" / "0.png").rename(here / "photos" / "cat" / f"{'long' * 50}.png")
    assert run("neighbours", str(here), str(here / "photos"), "--out", str(here / "page.html")).returncode == 0
    return here / "page.html"


@pytest.fixture
def shown_page(request: pytest.FixtureRequest) -> Path:
    place = request.getfixturevalue(request.param)
    return place if place.suffix else place / "report.html"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shown_page", ["smoke", "finished", "running", "neighbours"], indirect=True)
def test_a_page_fits_its_window_asks_nobody_and_is_light_or_dark(
    window: browser.Browser, shown_page: Path, size: str
) -> None:
    width, height = SIZES[size]
    seen = {}
    for dark in (False, True):
        window.forget()
        window.open(shown_page, width=width, height=height, dark=dark)
        assert window.run("return document.documentElement.scrollWidth") <= width
        pixels = np.asarray(Image.open(io.BytesIO(window.screenshot())).convert("L"))
        assert pixels.shape == (height, width)
        assert pixels.std() > 10  # not one colour
        assert len(np.unique(pixels)) > 20
        seen[dark] = float(np.median(pixels))
        assert window.complaints() == []
        assert window.requested() == [shown_page.absolute().as_uri()]
    assert seen[True] < 60 < 200 < seen[False]
    text = shown_page.read_text()
    assert not re.search(r"https?://|src=.//|<link|url\(|@import| style=| on\w+=", text)
    assert window.run("return [...document.images].every((image) => image.complete && image.naturalWidth && image.alt)")
    levels = window.run("return [...document.querySelectorAll('h1,h2,h3')].map((e) => Number(e.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    tables = window.run("return document.querySelectorAll('table').length")
    assert tables == window.run("return document.querySelectorAll('thead th[scope=col]:first-child').length")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("shown_page", ["smoke", "running"], indirect=True)
def test_words_stand_out_from_what_is_behind_them(window: browser.Browser, shown_page: Path, dark: bool) -> None:
    """By the contrast that WCAG 2.2 asks of text, 4.5 to 1."""
    window.open(shown_page, dark=dark)
    colors = window.run(
        "const at = (e, what) => getComputedStyle(e)[what];"
        "const behind = (e) => { while (e && at(e, 'backgroundColor') === 'rgba(0, 0, 0, 0)') e = e.parentElement;"
        "  return at(e, 'backgroundColor'); };"
        "return [...document.querySelectorAll('p, a, th, td, h1, h2, li, figcaption, summary, svg text')]"
        "  .map((e) => [at(e, e instanceof SVGElement ? 'fill' : 'color'), behind(e)].join('/'))"
        "  .filter((pair, place, all) => all.indexOf(pair) === place);"
    )
    assert len(colors) > 2
    for pair in colors:
        ink, paper = ([int(value) for value in re.findall(r"\d+", color)[:3]] for color in pair.split("/"))
        lighter, darker = sorted((luminance(ink), luminance(paper)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, pair


def luminance(color: list[int]) -> float:
    """Relative luminance of sRGB, as WCAG defines it."""
    parts = [value / 255 for value in color]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_what_is_under_the_pointer_is_said(window: browser.Browser, finished: Path) -> None:
    window.open(finished / "report.html")
    curves = "#search ~ .charts figure:last-child .series:last-of-type g[data-tip] .mark"
    # of the winner, 71 at the first rung, 76 at the second, and 77 by the same measure at the last
    for rung, score in enumerate(("71.00", "76.00", "77.00")):
        assert window.hover(curves, rung) == f"trial-002 (complete)\n{RUNGS[rung]:,} images\n{score} %"
    row = "#scores ~ .charts figure:nth-child({}) svg > g:nth-of-type({}) g[data-tip]"
    # 79, 80 and 81: mean 80, and Student's t of two degrees of freedom 4.3027 times 1 over the root of 3
    assert window.hover(f"{row.format(1, 1)}:last-child .mark") == "real-only\n80.00 [77.52, 82.48] %, 3 seeds"
    assert window.hover(f"{row.format(1, 1)} .open") == "real-only, seed 1000\n79.00 %"
    assert window.hover(f"{row.format(2, 1)}:last-child .mark") == "trial-002\n+0.83 [+0.12, +1.55] points, 3 seeds"
    assert window.hover("h1") == ""


def words(window: browser.Browser) -> str:
    return str(window.run("return document.body.innerText"))


def texts(window: browser.Browser, selector: str) -> list[str]:
    return list(window.run("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector))


def test_a_finished_page_has_the_verdict_first_and_the_opponent_above_the_others(
    window: browser.Browser, finished: Path
) -> None:
    window.open(finished / "report.html")
    name, verdict = words(window).split("\n\n")[:2]
    assert name == "finished"
    assert verdict.startswith(
        "trial-002 beats the best real-only found (real-only) by 0.83 [0.12, 1.55] points on test"
    )
    rows = texts(window, "#scores ~ .charts figure:first-child .name")
    assert rows[0] == "real-only (best real-only)"
    assert {*rows[1:]} == CONFIRMED.keys() - {"real-only"}
    assert "They rest on 24 trials, by their score at the first rung" in words(window)
    assert "The search is complete." in words(window)
    assert not window.run("return document.querySelectorAll('progress, noscript').length")


def test_the_page_of_a_real_search_leaves_out_only_what_so_few_trials_cannot_tell(
    window: browser.Browser, smoke: Path
) -> None:
    window.open(smoke / "report.html")
    assert texts(window, ".left-out") == [
        f"Left out: importances need at least 24 trials with a score, and there are {scored(smoke)}."
    ]
    assert window.run("return document.querySelectorAll('.neighbours').length") == 10
    alts = window.run("return [...document.querySelectorAll('.neighbours img')].map((image) => image.alt)")
    assert alts[0] == "query: 1"
    assert re.fullmatch(r"similarity [01]\.\d{3}", alts[1])
    samples = window.run("return [...document.querySelectorAll('.samples img')].map((image) => image.alt)")
    assert samples[0].startswith("Real images")
    assert [alt.partition(" after ")[2].partition(" thousand")[0] for alt in samples[1:]] == ["0.5", "1.0", "2.0"]
    assert re.search(r"Realism gap \d\.\d\d: .* Diversity \d\.\d\d: .* is right in \d+ % of the cases", words(window))
    assert {"hardness", "learning rate"} < {*texts(window, "#schedules ~ .charts figcaption")}
    works = Now.read(smoke).works
    confirm = {file.stem for file in (smoke / "confirm").glob("*.json")}
    assert {name for name, work in works.items() if work.stage == "confirm-1"} == confirm
    assert {name for name in works if name.startswith("trial-") and "-seed" not in name} == {
        folder.name for folder in (smoke / "samples").glob("trial-???")
    }
    assert all(work.seconds > 0 and work.host and work.device for work in works.values())
    table = window.run("return [...document.querySelectorAll('#work ~ .scroll tbody tr')].map((row) => row.innerText)")
    assert [row.split("\t")[0] for row in table] == ["search-1", "confirm-1"]
    assert re.search(r"\d(\.\d+)? [GT]$", table[1])  # FLOP
    assert not Now.read(smoke).is_under_way


def scored(folder: Path) -> int:
    text = (folder / "report.md").read_text()
    return int(re.findall(r"and there are (\d+)\.", text)[0])


def test_a_running_page_says_what_goes_on_and_how_far(window: browser.Browser, running: Path) -> None:
    window.open(running / "report.html")
    said = words(window)
    assert "No verdict yet." in said
    assert (
        "Under way: search-1, 30.0 of 60.0 thousand images (50 %); about 7 min left until the end of the search."
        in said
    )
    assert "10 trials begun, 3 complete; the best so far is trial-002 with 84.50 % on validation." in said
    assert "Training now: trial-012." in said
    assert "UTC, just now; the page loads itself again every 20 s." in said
    assert window.run("return document.querySelector('progress').position") == pytest.approx(0.5)
    assert "Left out: no confirm run has ended yet" in said


def test_a_running_page_shows_what_was_written_since_and_then_stands_still(
    window: browser.Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "RELOAD_SECONDS", 0.2)
    file = tmp_path / "page.html"
    file.write_text(page.document("page", "<h1>first</h1>", live=True))
    window.open(file)
    file.write_text(page.document("page", "<h1>second</h1><details open></details>", live=True))
    assert awaited(lambda: words(window), "second")
    file.write_text(page.document("page", "<h1>third</h1>"))
    time.sleep(0.5)
    assert words(window) == "second"  # while somebody reads a list
    window.run("document.querySelector('details').open = false")
    assert awaited(lambda: words(window), "third")
    file.write_text(page.document("page", "<h1>fourth</h1>"))
    time.sleep(0.5)
    assert words(window) == "third"


def awaited(value: Callable[[], str], wanted: str) -> bool:
    deadline = time.monotonic() + 10
    while value() != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return value() == wanted


def test_markup_in_a_page_does_nothing(window: browser.Browser, tmp_path: Path) -> None:
    evil = "<script>document.title = 'taken'</script><p id=p style='font-size: 99px' onclick='document.title = 0'>p</p>"
    (tmp_path / "page.html").write_text(page.document("page", f"<h1>{evil}</h1><img src='file:///etc/passwd' alt=''>"))
    window.open(tmp_path / "page.html")
    window.run("document.querySelector('#p').click()")
    assert window.driver.title == "page"
    assert window.run("return getComputedStyle(document.querySelector('#p')).fontSize") != "99px"
    assert sum("Content Security Policy" in said for said in window.complaints()) >= 4


def test_names_are_words_wherever_they_stand(running: Path) -> None:
    found = run_page.Findings.read(run_config(running.parent), running, run_page.load_study(running / "study.journal"))
    evil = '"><script>alert(1)</script>'
    found.trials.loc[0, ["label", "reason"]] = evil, evil
    text = run_page.render(found, under_way(stage=evil, training=[evil]), {})
    assert "<script>alert" not in text
    assert text.count("&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;") > 3


def state_of(folder: Path, now: Now) -> str:
    found = run_page.Findings.read(run_config(folder.parent), folder, run_page.load_study(folder / "study.journal"))
    return run_page.render(found, now, {})


def test_a_search_that_is_not_heard_of_is_not_said_to_run(running: Path) -> None:
    silent = state_of(running, under_way(written=time.time() - SILENT_SECONDS - 1))
    assert "The search is not complete. It was last heard of on 20" in silent
    stopped = state_of(running, Now(written=time.time()))
    assert "The search is not complete. The same command goes on where it stopped." in stopped
    warming = state_of(running, Now(written=time.time() - SILENT_SECONDS - 1, stage=WARM_UP))
    assert "Under way: the warm-up of the GAN" in warming
    assert ["location.reload" in page for page in (silent, stopped, warming)] == [False, False, True]


def test_a_search_without_a_trial_has_a_page(tmp_path: Path) -> None:
    config = run_config(tmp_path)
    (tmp_path / config.name).mkdir()
    page = LivePage(config, Storage(str(tmp_path), config.name))
    page.enter(WARM_UP)
    text = (tmp_path / config.name / "report.html").read_text()
    assert "Left out: no trial has begun yet." in text
    assert text.count("Left out: ") >= 7
    assert not (tmp_path / config.name / "study.journal").exists()


class Progress(SimpleNamespace):
    done, total, left_seconds = 2.0, 8.0, 60.0


def following(folder: Path) -> tuple[LivePage, Follow]:
    page = LivePage(run_config(folder.parent), Storage(str(folder.parent), folder.name))
    log: Any = SimpleNamespace(progress=Progress())
    return page, Follow(page, "search-1", log)


def trial(name: str) -> Any:
    return SimpleNamespace(config={"label": name, "overrides": {}})


def test_what_runs_tell_is_kept_and_written_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(tmp_path, confirmed={})
    page, follow = following(folder)
    clock, pages = [0.0], []
    monkeypatch.setattr(live.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(run_page, "write", lambda found, now, slow: pages.append(clock[0]))
    page.enter("search-1")
    for seconds in range(100):
        clock[0] = float(seconds)
        follow.on_trial_start(seconds, [], trial(f"trial-{seconds:03d}"))
        told = Report(images=640, seconds=3.0, scoring_seconds=1.0, device="a GPU", history=[{"gan/accuracy": 0.75}])
        follow.on_trial_result(seconds, [], trial(f"trial-{seconds:03d}"), told.as_dict() | {"hostname": "node-1"})
        follow.on_trial_complete(seconds, [], trial(f"trial-{seconds:03d}"))
        follow.on_step_end(seconds, [])
    assert pages == [0, 20, 40, 60, 80]
    for seconds in range(100, 200):  # nothing has changed since the page at 100
        clock[0] = float(seconds)
        follow.on_step_end(seconds, [])
    assert pages[5:] == [100]
    now = Now.read(folder)
    assert (now.stage, now.kimg, now.total_kimg, now.left_seconds, now.training) == ("search-1", 2, 8, 60, [])
    work = now.works["trial-007"]
    assert (work.images, work.seconds, work.host, work.device) == (640, 3.0, "node-1", "a GPU")
    assert work.statistics == {"gan/accuracy": 0.75}
    assert LivePage(run_config(tmp_path), Storage(str(tmp_path), folder.name)).now.works.keys() == now.works.keys()


def test_real_images_are_drawn_as_they_are(tmp_path: Path) -> None:
    pixels = torch.arange(16 * 28 * 28).remainder(251).byte().view(16, 1, 28, 28)
    page_pictures.draw_real(tmp_path, run_config(tmp_path), ResidentImages(pixels, "cpu"))
    drawn = np.asarray(Image.open(tmp_path / "samples" / "real.png"))[..., 0]  # a line of a pixel around each
    assert drawn.shape == (2 * 29 + 1, 8 * 29 + 1)
    assert (drawn[1:29, 1:29] == pixels[0, 0].numpy()).all()
    assert (drawn[30:58, -29:-1] == pixels[-1, 0].numpy()).all()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyError("a mistake in drawing")])
def test_a_page_that_cannot_be_written_is_told_once_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fails(*given: Any) -> None:
        raise error

    folder = make_run(tmp_path)
    monkeypatch.setattr(run_page, "write", fails)
    page, follow = following(folder)
    with page:
        page.enter("search-1")
        follow.on_trial_start(0, [], trial("trial-000"))
        page.write()
    out = capsys.readouterr().out
    assert out.count("report.html is not kept up to date: ") == 1
    monkeypatch.setattr(report, "_draw", lambda found: [])
    report.write(run_config(tmp_path), Storage(str(tmp_path), folder.name))
    assert "report.html is not up to date: " in capsys.readouterr().out
    assert (folder / "report.md").is_file()


def test_a_full_disk_keeps_the_page_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path, confirmed={})
    page, _ = following(folder)
    page.write()
    before = (folder / "report.html").read_bytes()
    monkeypatch.setattr("os.fsync", lambda file: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    page.write()
    assert (folder / "report.html").read_bytes() == before
    assert {file.name for file in folder.glob(".*")} == set()
    assert "No space left on device" in capsys.readouterr().out


def test_one_command_writes_the_page_and_opens_it(running: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: bool(opened.append(address)))
    (running / "report.html").unlink()
    told = run("report", str(running), "--open")
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[1] == "No browser was found; open the file in one of yours."
    assert opened == [(running / "report.html").as_uri()]
    assert (running / "report.html").is_file()


def test_a_damaged_small_file_is_no_reason_to_fail(tmp_path: Path) -> None:
    for damaged in ("", "{", '{"works": 3}', "\0"):
        (tmp_path / FILE).write_text(damaged)
        assert Now.read(tmp_path) == Now()


def test_an_encoder_with_code_of_ones_own_is_looked_at_only_when_that_is_trusted(finished: Path) -> None:
    config = tiny_config().with_overrides(
        {"encoder": {"kind": "custom", "code": "nowhere_at_all:make", "feature_dim": 8}}
    )
    file = finished / "encoder.safetensors"
    save_encoder(file, torch.nn.Linear(1, 1), config, {"run": "trial-002-seed1002"})
    try:
        assert run("report", str(finished)).returncode == 0
        text = (finished / "report.html").read_text()
        assert re.search(r"Left out: [^<]*nowhere_at_all:make[^<]*trust", text), re.findall("Left out[^<]*", text)
    finally:
        file.unlink()
        file.with_suffix(".json").unlink()


def test_a_run_in_a_bucket_is_brought_here(tmp_path: Path, bucket: buckets.Bucket) -> None:
    made = make_run(tmp_path / "made", confirmed={})
    for name in ("config.json", "study.journal"):
        bucket.write(f"birds/{name}", (made / name).read_text())
    bucket.write("birds/state.json", json.dumps(STAGES))
    root, _, query = bucket.uri.partition("?")
    told = run("report", f"{root}/birds?{query}")
    assert told.returncode == 0, told.stderr
    text = Path(told.stdout.removeprefix("Page: ").strip()).read_text()
    assert "the best so far is" not in text  # it is not under way
    assert "The search is not complete." in text
    assert bucket.names() == ["birds/config.json", "birds/state.json", "birds/study.journal"]


def test_a_population_has_its_lineage_and_two_objectives_their_front(running: Path) -> None:
    study = run_page.load_study(running / "study.journal")
    found = run_page.Findings.read(run_config(running.parent), running, study)
    members = pd.DataFrame(
        [
            ("trial-002", "", "", 0.0, 81.0, 0.2),
            ("trial-003", "", "", 0.0, 70.0, 0.3),
            ("trial-006", "trial-002", "trial-003", 0.5, 82.0, 0.24),
        ],
        columns=["member", "copied", "replaced", "progress", lineage.OWN_SCORE, "curriculum.hardness.start"],
    )
    config = run_config(running.parent).with_overrides({"search.objective": "pareto"})
    text = run_page.render(replace(found, lineages=members, config=config), Now(), {})
    assert "trial-006\ncopies trial-002 at progress 0.50, in place of trial-003" in text
    assert page.prose(lineage.EXPLAINED) in text
    # from the line of trial-002 down to its own, and on to the end; that of trial-003 ends there
    paths = re.findall(r'class="path" d="(M[^"]*)"', text[text.index('<h2 id="lineages">') :])
    assert [len(re.findall("L", path)) for path in paths[:3]] == [1, 1, 2]
    assert paths[2].split("L")[1].split(" ")[0] == paths[1].split("L")[1].split(" ")[0]
    assert "The search ranks by both." in text
    assert "trial-004\nlinear 82.50 %, transfer 64.50 %" in text
