"""The frame of a page: what is put in stays words, and what it may load and run is named by its hash."""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re

import pytest

from synthcl.core import page


def policy(text: str) -> dict[str, str]:
    content = html.unescape(re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[0])
    return dict(part.strip().split(" ", 1) for part in content.split(";"))


@pytest.mark.parametrize(("live", "hover"), [(False, False), (True, False), (False, True), (True, True)])
def test_what_a_page_may_run_is_what_it_holds(live: bool, hover: bool) -> None:
    text = page.document("title", "<p>body</p>", live=live, hover=hover)
    allowed = policy(text)
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        inside = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in inside]
        assert allowed.get(directive, "") == " ".join(f"'sha256-{value}'" for value in hashes)
    assert len(re.findall("<script>", text)) == live + hover
    assert (allowed["default-src"], allowed["img-src"]) == ("'none'", "data:")
    assert ('http-equiv="refresh"' in text) == live


def test_whatever_is_said_stays_words() -> None:
    evil = "<b>\"'&" + os.fsdecode(b"\xff")
    assert page.text(evil) == "&lt;b&gt;&quot;&#x27;&amp;\ufffd"
    shown = page.table([["<i>", "n"], [evil, evil]], evil)
    assert not re.search("<[bi]>", shown)
    shown.encode()
    assert page.picture(b"", "png", evil, width=1, height=1).count("<") == 1


def test_numbers_stand_to_the_right_and_words_to_the_left() -> None:
    shown = page.table([["run", "state", "score"], ["a", "complete", "81.00"]], "Runs", words=(1,))
    assert '<th scope="row">a</th><td>complete</td><td class="number">81.00</td>' in shown
    assert '<th scope="col" class="number">score</th>' in shown
