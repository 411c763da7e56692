"""Progress: a bar on a terminal, plain lines in a log."""

import io
import sys

import pytest

from synthcl.core import progress
from synthcl.core.progress import Progress, duration


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when told to."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


def test_a_log_gets_a_plain_line_a_minute_and_one_at_the_end(clock, capsys):
    with Progress("search", 14, "run") as bar:
        for finished in range(1, 15):
            clock(20)
            if finished >= 5:
                bar.describe(note="best 84.55 (trial-003)")
            bar.advance()
    err = capsys.readouterr().err
    assert err.splitlines() == [
        "search 3/14, about 4 min left",
        "search 6/14, best 84.55 (trial-003), about 3 min left",
        "search 9/14, best 84.55 (trial-003), about 2 min left",
        "search 12/14, best 84.55 (trial-003), about 40 s left",
        "search 14/14, best 84.55 (trial-003), took 5 min",
    ]


def test_the_time_left_is_that_of_what_follows_too_once_it_is_known(clock, capsys):
    following = [0.0]
    with Progress("search", 14, "run", following=lambda: following[0]) as bar:
        for finished in range(1, 8):
            clock(30)
            following[0] = 0.0 if finished < 3 else 600.0
            bar.advance()
    assert capsys.readouterr().err.splitlines()[:3] == [
        "search 2/14, about 6 min left",
        "search 4/14, about 15 min left (search 5 min)",
        "search 6/14, about 14 min left (search 4 min)",
    ]


def test_a_bar_shows_the_time_of_the_whole_beside_its_note(clock, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    bar = Progress("search", 10, "run", following=lambda: 600.0)
    bar.describe(note="best 84.55 (trial-003)")
    clock(60)
    bar.advance(5)
    assert bar._bar.postfix == "best 84.55 (trial-003), about 11 min left (search 60 s)"
    bar.close()


def test_a_line_is_due_while_nothing_ends_and_estimates_only_what_was_done_here(clock, capsys):
    bar = Progress("GAN warm-up", 1000, "img", percent=True, done=500)
    bar.look()
    clock(61)
    bar.look()
    bar.advance(250)
    clock(60)
    bar.look()
    bar.close()
    assert capsys.readouterr().err.splitlines() == [
        "GAN warm-up 50%",
        "GAN warm-up 75%, about 2 min left",
        "GAN warm-up 75%, took 2 min",
    ]


def test_what_is_soon_done_or_not_shown_or_interrupted_leaves_no_line(clock, capsys):
    with Progress("images", 3, "file", delay_seconds=5, leave=False) as bar:
        bar.advance(3)
    with Progress("images", 3, "file", shown=False) as bar:
        clock(100)
        bar.advance(3)
    with pytest.raises(KeyboardInterrupt), Progress("images", 3, "file") as bar:
        raise KeyboardInterrupt
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_with_the_note_behind_it(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", shown := Terminal())
    with Progress("search", 2, "run") as bar:
        bar.describe(note="best 84.55 (trial-003)")
        bar.advance(2)
    assert "\r" in shown.getvalue()
    assert "search: 100%" in shown.getvalue()
    assert "best 84.55 (trial-003)" in shown.getvalue()


def test_durations_are_said_as_people_say_them():
    assert [duration(seconds) for seconds in (0.4, 21.4, 150, 5400)] == ["0 s", "21 s", "2 min", "1.5 h"]
