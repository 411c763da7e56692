"""Notice to leave: heard once, and the second time obeyed at once."""

import signal

import pytest

from synthcl.cluster import preemption


@pytest.fixture(autouse=True)
def interrupts():
    """What Ctrl-C does in a program, whatever the process of these tests has made of it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send(number):
    signal.raise_signal(number)  # to this thread, which handles it at once


def test_the_first_signal_is_notice_and_the_second_does_what_it_did_before():
    with preemption.catching_signals(signal.SIGINT, signal.SIGTERM):
        assert not preemption.signalled()
        send(signal.SIGTERM)
        assert preemption.signalled()
        assert preemption.must_leave()
        assert preemption.checkpoint_requested()
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert not preemption.signalled()


def test_afterwards_signals_do_what_they_did_before():
    with preemption.catching_signals(signal.SIGINT):
        pass
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)
    assert not preemption.signalled()


def test_a_driver_that_was_interrupted_may_run_again_without_leaving_at_once(monkeypatch):
    """As in a notebook, where the cell is run again in the same job of Ray."""
    told = set()
    monkeypatch.setattr(preemption.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(preemption, "must_leave", lambda: False)
    monkeypatch.setattr(preemption, "_key", lambda: b"leave")
    monkeypatch.setattr(preemption, "leave_note", told.add)
    monkeypatch.setattr(preemption, "note_is_left", told.__contains__)
    monkeypatch.setattr(preemption, "remove_note", told.discard)
    with preemption.catching_signals(signal.SIGINT):
        preemption.tell_job()
        assert preemption.checkpoint_requested()
    with preemption.catching_signals(signal.SIGINT):
        assert not preemption.checkpoint_requested()
