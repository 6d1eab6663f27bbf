"""Ctrl-C reaches the process that started the work, never its workers."""

import os
import signal
import time

from pixel_pipeline.compute.local import LocalExecutor


def blocked_here(number: int) -> tuple[int, bool]:
    time.sleep(0.05 if number % 2 else 0)
    return os.getpid(), signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_workers_do_not_hear_the_interrupt_and_this_process_does() -> None:
    """Workers of the first submissions and of later ones, which start them as they are needed."""
    with LocalExecutor(workers=3) as executor:
        heard = [*executor.map(blocked_here, range(2)), *executor.map(blocked_here, range(30))]
    assert os.getpid() not in {pid for pid, _ in heard}
    assert all(blocked for _, blocked in heard)
    assert not blocked_here(0)[1]


def test_tasks_of_this_process_can_be_interrupted() -> None:
    with LocalExecutor(workers=1) as executor:
        assert [blocked for _, blocked in executor.map(blocked_here, range(2))] == [False, False]
