"""Notice to leave: time for a checkpoint where a kill would cost what was trained since the last one.

It comes as SIGTERM or Ctrl-C to the driver, as SIGTERM to a process that trains, or from Ray, when a node drains
because it is preempted or shut down.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from synthcl.cluster.ray_internals import draining_nodes, leave_note, note_is_left, remove_note

LEAVE_SECONDS = 60.0
"""how long a driver waits for the checkpoints before it leaves"""


class _Heard:
    """Whether this process was sent a signal."""

    yes = False


def catch_signals(*numbers: signal.Signals) -> None:
    """Take the first of these signals as notice; the next one does what it did before.

    Args:
        numbers: handlers belong to the main thread; from another one nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    before = {number: signal.getsignal(number) for number in numbers}

    def take(number: int, frame: Any) -> None:
        _Heard.yes = True
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in numbers:
        signal.signal(number, take)


@contextmanager
def catching_signals(*numbers: signal.Signals) -> Iterator[None]:
    """`catch_signals` for as long as a stage runs; what an earlier stage of this driver passed on is taken back."""
    if ray.is_initialized():
        remove_note(_key())
    before = {number: signal.getsignal(number) for number in numbers}
    catch_signals(*numbers)
    try:
        yield
    finally:
        _Heard.yes = False
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def signalled() -> bool:
    """Whether this process was sent a signal."""
    return _Heard.yes


def tell_job() -> None:
    """Tell every process of this driver's job."""
    leave_note(_key())
    print("leaving when the trials have their checkpoints; once more to leave at once", file=sys.stderr, flush=True)


def must_leave() -> bool:
    """Whether this process itself is going to be ended: it was sent a signal, or its node drains."""
    if _Heard.yes or not ray.is_initialized():
        return _Heard.yes
    return ray.get_runtime_context().get_node_id() in draining_nodes()


def checkpoint_requested() -> bool:
    """Whether a checkpoint is due because this process or the driver must go."""
    return must_leave() or (ray.is_initialized() and note_is_left(_key()))


def _key() -> bytes:
    return f"synthcl/leave/{ray.get_runtime_context().get_job_id()}".encode()
