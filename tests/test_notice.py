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


def test_a_driver_that_was_interrupted_may_run_again_without_leaving_at_once(monkeypatch):
    """As in a notebook, where the cell is run again in the same job of Ray."""
    told = set()
    monkeypatch.setattr(notice.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(notice, "must_go", lambda: False)
    monkeypatch.setattr(notice, "_key", lambda: b"leave")
    monkeypatch.setattr(notice, "_internal_kv_put", lambda key, value, overwrite: told.add(key))
    monkeypatch.setattr(notice, "_internal_kv_get", lambda key: b"" if key in told else None)
    monkeypatch.setattr(notice, "_internal_kv_del", told.discard)
    with notice.hearing(signal.SIGINT):
        notice.pass_on()
        assert notice.given()
    with notice.hearing(signal.SIGINT):
        assert not notice.given()
