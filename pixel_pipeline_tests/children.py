"""Child processes for tests that kill: forks of a process that has imported what is heavy and has started no thread."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
import multiprocessing
import multiprocessing.connection
import os
from threading import Lock
from typing import Any

from pixel_pipeline.errors import PixelError

_context = multiprocessing.get_context("forkserver")
_preloaded: list[str] = []
_senders: list[multiprocessing.connection.Connection] = []
_sending = Lock()


def preload(module: str) -> None:
    """Import a module before the forks: call it where the functions of children are defined, with `__name__`."""
    _preloaded.append(module)
    _context.set_forkserver_preload(_preloaded)


class Child:
    """A function in a process of its own.

    Clients that hold the interpreter's lock while they wait, as delta-rs does, need one where this process answers them.
    """

    def __init__(self, function: Callable[..., Any], *args: Any, environment: Mapping[str, str]) -> None:
        self._receiver, sender = _context.Pipe(duplex=False)
        self.process = _context.Process(target=_run, args=(sender, dict(environment), function, args))
        self.process.start()
        sender.close()

    def result(self) -> Any:
        """Return what the function returned, or raise its PixelError; None if the process was killed."""
        result = next(self.lines(), None)
        self.process.join()
        if isinstance(result, Exception):
            raise result
        return result

    def lines(self) -> Iterator[Any]:
        """What the process has sent and sends, until it ends. Functions send more than their result by `send`."""
        with suppress(EOFError):
            while True:
                yield self._receiver.recv()


def send(line: str) -> None:
    """In a child, from any thread: pass a line to the parent."""
    with _sending:
        _senders[-1].send(line)


def _run(
    sender: multiprocessing.connection.Connection,
    environment: dict[str, str],
    function: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    os.environ.update(environment)
    _senders.append(sender)
    try:
        sender.send(function(*args))
    except PixelError as error:
        sender.send(PixelError(f"{type(error).__name__}: {error}"))
