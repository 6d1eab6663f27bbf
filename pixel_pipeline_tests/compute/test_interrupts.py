"""Ctrl-C reaches the process that started the work, not its workers."""

import os
import signal
import time

from pixel_pipeline.compute.local import LocalExecutor


def sigint_blocked(number: int) -> tuple[int, bool]:
    time.sleep(0.05 if number % 2 else 0)
    return os.getpid(), signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_workers_block_the_interrupt_and_this_process_does_not() -> None:
    """The pool starts workers on demand, so both early and late submissions are covered."""
    with LocalExecutor(workers=3) as executor:
        results = [*executor.map(sigint_blocked, range(2)), *executor.map(sigint_blocked, range(30))]
    assert os.getpid() not in {pid for pid, _ in results}
    assert all(blocked for _, blocked in results)
    assert not sigint_blocked(0)[1]


def test_tasks_of_this_process_can_be_interrupted() -> None:
    with LocalExecutor(workers=1) as executor:
        assert [blocked for _, blocked in executor.map(sigint_blocked, range(2))] == [False, False]
