"""Notice to leave: heard once, and the second time obeyed at once."""

import signal

import pytest

from synthcl import notice


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
