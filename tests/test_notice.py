"""Notice to leave: heard once, and the second time obeyed at once."""

import signal

import pytest

from synthcl import notice


@pytest.fixture(autouse=True)
def interrupts():
    """What Ctrl-C does in a program, whatever the process of these tests has made of it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send(number):
    signal.raise_signal(number)  # to this thread, which handles it at once


def test_the_first_signal_is_notice_and_the_second_does_what_it_did_before():
    with notice.hearing(signal.SIGINT, signal.SIGTERM):
        assert not notice.heard()
        send(signal.SIGTERM)
        assert notice.heard()
        assert notice.must_go()
        assert notice.given()
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert not notice.heard()


def test_afterwards_signals_do_what_they_did_before():
    with notice.hearing(signal.SIGINT):
        pass
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)
    assert not notice.heard()
