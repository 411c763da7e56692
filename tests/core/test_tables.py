"""Tables: plain text in a log, and within the window of a terminal."""

import re

import pytest

from synthcl.core import tables
from synthcl.core.tables import aligned

TABLE = [["", "Δ linear", "n"], ["trial-002", "+0.83 [+0.12, +1.55]", "3"], ["real-only", "reference", "3"]]
WORDS = [["field", "type", ""], ["kimg", "float", "budget: thousand images; one image is two encoded views"]]


@pytest.fixture
def on_terminal(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_intervals_are_no_markup_and_a_log_has_neither_colours_nor_blanks_at_the_end():
    assert aligned(TABLE).splitlines() == [
        "                      Δ linear n",
        "trial-002 +0.83 [+0.12, +1.55] 3",
        "real-only            reference 3",
    ]


def test_words_wrap_on_a_terminal_alone(on_terminal, monkeypatch):
    drawn = aligned(WORDS, numbers=False, indent=2)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", drawn).splitlines()
    assert "\x1b[1m" in drawn  # the heading is bold
    assert len(plain) > 3
    assert max(map(len, plain)) <= 40
    assert all(line.startswith("  ") for line in plain)
    assert " ".join(" ".join(plain[1:]).split()) == "kimg float " + WORDS[1][2]
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    assert len(aligned(WORDS, numbers=False).splitlines()) == 2


def test_numbers_are_never_broken_in_a_narrow_window(on_terminal):
    parts = tables.fitted(TABLE, 20).split("\n\n")
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", part).splitlines() for part in parts]
    assert [part[1].split(maxsplit=1)[1] for part in plain] == ["+0.83 [+0.12, +1.55]", "3"]
