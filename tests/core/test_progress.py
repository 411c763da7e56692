"""Progress: a bar on a terminal, plain lines in a log."""

import io
import re
import sys
import time

import pytest

from synthcl.core import progress, screen
from synthcl.core.progress import Progress, duration, say


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


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Called in a test, it makes standard error a terminal; what it gives then tells what was drawn, line by line."""

    def begin(columns=100):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(screen, "PER_SECOND", 1000)
        monkeypatch.setattr(sys, "stderr", shown := Terminal())

        def drawn():
            plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue())
            return [line.rstrip() for line in re.split(r"[\r\n]+", plain) if line.strip()]

        return drawn

    return begin


def pause():
    """Longer than a picture takes."""
    time.sleep(0.1)


def test_a_bar_shows_the_time_of_the_whole_beside_its_note(clock, terminal):
    drawn = terminal()
    bar = Progress("search", 10, "run", following=lambda: 600.0)
    bar.describe(note="best 84.55 (trial-003)")
    clock(60)
    bar.advance(5)
    pause()
    bar.close()
    (half,) = {line for line in drawn() if " 50%" in line}
    assert half.startswith("search ━")
    assert half.endswith(" 50% 5/10 run, best 84.55 (trial-003), about 11 min left (search 60 s)")


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


def test_a_terminal_gets_a_bar_and_in_the_end_the_line_of_a_log(terminal):
    drawn = terminal()
    with Progress("search", 2, "run", beneath=lambda: "trial-003 trains") as bar:
        bar.describe(note="best 84.55 (trial-003)")
        bar.advance(2)
        pause()
    assert any(line.startswith("search ━") and "100% 2/2 run, best 84.55 (trial-003)" in line for line in drawn())
    assert "trial-003 trains" in drawn()
    assert drawn()[-1] == "search 2/2, best 84.55 (trial-003), took 0 s"


def test_a_bar_fits_a_narrow_terminal(terminal):
    drawn = terminal(columns=50)
    with Progress("search", 10, "run", leave=False) as bar:
        bar.describe(note="best 84.55 of all complete runs (trial-003)")
        bar.advance(5)
        pause()
    assert max(map(len, drawn())) <= 50
    assert drawn()[-1].endswith("…")


def test_bars_of_two_works_stand_below_each_other_and_lines_above(terminal, monkeypatch):
    drawn = terminal()
    monkeypatch.setattr(sys, "stdout", sys.stderr)
    with Progress("search", 2, "run", leave=False), Progress("images", 3, "file", leave=False):
        pause()
        say("trial-000      1.0 kimg  [76.5, 78.0]")
        pause()
    shown = drawn()
    assert shown.count("trial-000      1.0 kimg  [76.5, 78.0]") == 1
    at = [number for number, line in enumerate(shown) if line.startswith("images ━")]
    assert all(shown[number - 1].startswith("search ━") for number in at)
    assert at


def test_what_a_terminal_would_show_too_soon_is_never_drawn(terminal):
    drawn = terminal()
    with Progress("images", 3, "file", delay_seconds=5) as bar:
        bar.advance(3)
        pause()
    assert drawn() == []


def test_durations_are_said_as_people_say_them():
    assert [duration(seconds) for seconds in (0.4, 21.4, 150, 5400)] == ["0 s", "21 s", "2 min", "1.5 h"]
