"""The documentation as a site: whole, without broken links, and nothing from another host."""

import logging
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from program import ROOT, run
from small_trainer import tiny_config

import synthcl
from synthcl.programs.command import PROGRAMS
from synthcl.runs.export import save_encoder

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
"""what a browser fetches by itself -> from where"""


class Page(HTMLParser):
    """What a page links to, what it loads, and the anchors that it has."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links, self.loads, self.anchors = [], [], set()
        self.feed(file.read_text())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors.add(given.get("id"))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if LOADED.get(tag) in given:
            self.loads.append(given[LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Builds it; a broken link or a page without a place in the navigation is an error, for the build is strict."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("NO_MKDOCS_2_WARNING", "1")
        config = load_config(str(ROOT / "docs/site/mkdocs.yml"), site_dir=str(folder), strict=True)
        build(config)
    logging.getLogger("mkdocs").handlers.clear()
    return {file.relative_to(folder).as_posix(): Page(file) for file in folder.rglob("*.html")}, folder


def test_every_link_leads_to_a_place_that_is_there(site):
    pages, folder = site
    for name, page in pages.items():
        for target in page.links + page.loads:
            parts = urlsplit(target)
            if parts.scheme or name == "404.html":  # whose links begin at the root of a server
                continue
            there = (folder / name).parent / unquote(parts.path) if parts.path else folder / name
            assert there.exists(), f"{name} links to {target}"
            if parts.fragment and there.suffix == ".html":
                anchors = pages[there.resolve().relative_to(folder.resolve()).as_posix()].anchors
                assert unquote(parts.fragment) in anchors or parts.fragment.startswith("__"), f"{name}: {target}"


def test_nothing_comes_from_another_host(site):
    pages, folder = site
    for name, page in pages.items():
        assert not [target for target in page.loads if urlsplit(target).netloc], name
    for style in folder.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", style.read_text()), style


def test_references_have_what_the_code_has(site):
    pages, folder = site
    assert set(PROGRAMS) <= pages["commands.html"].anchors
    fields = (folder / "fields.html").read_text()
    for section in ("training", "curriculum", "search", "compute"):
        for name in synthcl.Config.model_fields[section].annotation.model_fields:
            assert f"<code>{name}</code>" in fields, f"{section}.{name}"
    documented = re.findall(r'<h2 id="[\w.]*\.(\w+)" class="doc ', (folder / "api.html").read_text())
    assert documented == sorted(synthcl.__all__)


def test_search_finds_words_of_every_page_that_a_reader_looks_for(site):
    index = (site[1] / "search/search_index.json").read_text()
    for place in ("cluster.html", "faq.html", "fields.html", "results.html", "mechanisms.html", "api.html"):
        assert f'"location":"{place}"' in index
    assert "source/synthcl" not in index


def test_the_tutorial_ends_with_a_classifier(tmp_path, monkeypatch, capsys):
    """Its Python, as it stands, on features of images whose brightness is their class."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    classes = {f"{number}.png": ("dark", "light")[number % 2] for number in range(40)}
    for name, label in classes.items():
        pixels = random.normal({"dark": 60, "light": 190}[label], 20, (8, 8, 3)).clip(0, 255).astype(np.uint8)
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    config = tiny_config({"data.channels": 3, "data.image_size": 16, "views.base.size": 16})
    torch.manual_seed(0)
    save_encoder(tmp_path / "encoder.safetensors", config.encoder.build(3), config, {})
    assert run("embed", "encoder.safetensors", "photos", "--out", "features.parquet").returncode == 0
    pd.DataFrame(list(classes.items())[:20], columns=["path", "label"]).to_csv("labels.csv", index=False)
    (block,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/folder-to-classifier.md").read_text(), re.M | re.S)
    exec(block, {})
    accuracy = float(re.match(r"([\d.]+)%, from", capsys.readouterr().out)[1])
    predicted = dict(pd.read_csv("predicted.csv").values)
    right = sum(predicted[name] == label for name, label in classes.items())
    assert accuracy >= 90
    assert right >= 36
    assert len(predicted) == len(classes) == 40
