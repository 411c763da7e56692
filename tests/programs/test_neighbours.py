"""`synthcl neighbours`, as typed: one page that holds everything it shows."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from image_files import write_classes, write_image
from PIL import Image
from program import run
from small_trainer import tiny_config

import synthcl
from synthcl.core.errors import UserError
from synthcl.runs.export import save_encoder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, but for an encoder of grey images and photos, of which some are copies."""
    config = tiny_config()
    save_encoder(tmp_path / "encoder.safetensors", config.encoder.build(1), config, {})
    write_classes(tmp_path / "photos", 5)
    for image in range(5):
        write_image(tmp_path / "photos" / "copies" / f"{image}.png", image, 20 + image)  # as cat/
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Page(HTMLParser):
    """Sections of a page as lists of (name, caption), its images, and whatever could be fetched or run."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: list[list[tuple[str, str]]] = []
        self.images: list[Image.Image] = []
        self.elements: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.add(tag)
        given = dict(attributes)
        if tag == "section":
            self.sections.append([])
        elif tag == "figure":
            self.sections[-1].append((given["title"], ""))
        elif tag == "img":
            kind, content = given["src"].split(",", 1)
            assert kind == "data:image/jpeg;base64"
            self.images.append(Image.open(io.BytesIO(base64.b64decode(content))))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if "figcaption" in self.open:
            name, said = self.sections[-1][-1]
            self.sections[-1][-1] = (name, said + text)


def test_a_page_shows_every_query_beside_its_copy(here):
    done = run("neighbours", ".", "photos", "--out", "page.html", "--query", "cat/3.png", "--query", "copies/0.png")
    assert (done.returncode, done.stdout) == (0, "page.html: 2 of 15 images beside their nearest\n"), done.stderr
    page = Page(here / "page.html")
    assert page.open == []
    first, second = page.sections
    assert [name for name, _ in first[:2]] == ["cat/3.png", "copies/3.png"]
    assert [name for name, _ in second[:2]] == ["copies/0.png", "cat/0.png"]
    assert [said.split()[0] for _, said in first[:2]] == ["query", "1.000"]
    similarities = [float(said.split()[0]) for _, said in first[1:]]
    assert similarities == sorted(similarities, reverse=True)
    assert len(first) == len(second) == 1 + 8
    assert len(page.images) == 18
    assert {image.size for image in page.images} == {(112, 112)}
    text = (here / "page.html").read_text()
    assert not re.search(r"https?:|src=.//|<script|<link|url\(|@import", text, re.IGNORECASE)
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_queries_are_spread_evenly_and_the_same_every_time(here):
    given = ("neighbours", ".", "photos", "--out", "page.html", "--queries", "3", "--neighbours", "2")
    assert run(*given).returncode == 0
    first = (here / "page.html").read_bytes()
    assert [section[0][0] for section in Page(here / "page.html").sections] == [
        "cat/0.png",
        "copies/2.png",
        "dog/4.png",
    ]
    assert run(*given).returncode == 0
    assert (here / "page.html").read_bytes() == first


def test_names_cannot_become_markup_and_broken_images_are_named(here):
    evil = '"><script>alert(1)</script>&amp;.png'
    for name in (evil, "'onload='x.png"):
        write_image(here / "photos" / name.replace("/", "\u2215"), 7)
    (here / "photos" / "broken.png").write_bytes(b"none")
    done = run("neighbours", ".", "photos", "--out", "page.html", "--queries", "99")
    assert done.returncode == 0
    assert "left out: image 'photos/broken.png' cannot be read" in done.stderr
    assert "17 of 17 images beside their nearest, 1 left out" in done.stdout
    page = Page(here / "page.html")
    assert not page.elements & {"script", "link", "iframe", "object"}
    assert evil.replace("/", "\u2215") in {section[0][0] for section in page.sections}


def test_python_gives_the_same(here):
    found = synthcl.neighbours(synthcl.load_encoder("encoder.safetensors"), "photos", ["cat/2.png"], k=3)
    assert found.paths[found.indices[0, 0]] == "copies/2.png"
    assert found.indices.shape == found.similarities.shape == (1, 3)
    torch.testing.assert_close(found.similarities[0, 0], torch.tensor(1.0))
    (here / "photos" / "cat" / "2.png").write_bytes(b"none")
    with pytest.raises(UserError, match=r"query 'cat/2.png' cannot be read"):
        synthcl.neighbours("encoder.safetensors", "photos", ["cat/2.png"])
