"""Probes: small questions to the world outside, asked side by side, each bounded in time and none hiding another."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
import threading
from typing import Literal

from pixel_pipeline.errors import PixelError

Verdict = Literal["ok", "warn", "fail", "skip"]


@dataclass(frozen=True)
class Finding:
    """What a probe found, and for all but "ok" what to do about it. Neither holds a secret."""

    verdict: Verdict
    found: str
    fix: str | None = None


def ok(found: str) -> Finding:
    """All is well."""
    return Finding("ok", found)


def warn(found: str, fix: str) -> Finding:
    """It can work, and something should be seen to."""
    return Finding("warn", found, fix)


def fail(found: str, fix: str) -> Finding:
    """It cannot work."""
    return Finding("fail", found, fix)


def skip(found: str, fix: str | None = None) -> Finding:
    """Not asked, and why not."""
    return Finding("skip", found, fix)


@dataclass(frozen=True)
class Probe:
    """One question.

    Attributes:
        name: What is looked at; unique.
        group: Where it is shown.
        ask: Returns the finding, or raises: a PixelError counts as "fail" with its message and hint.
        needs: Names of earlier probes without whose success this one has nothing to ask.
        seconds: Longest time it may take.
    """

    name: str
    group: str
    ask: Callable[[], Finding]
    needs: tuple[str, ...] = ()
    seconds: float = 45.0


def examine(probes: Sequence[Probe]) -> Iterator[tuple[Probe, Finding]]:
    """Ask all probes side by side and yield their findings in the given order, each as soon as it is known."""
    findings: dict[str, Future[Finding]] = {probe.name: Future() for probe in probes}
    for probe in probes:
        # Daemons: a probe that hangs must not keep the process from ending.
        threading.Thread(target=_conduct, args=(probe, findings), daemon=True).start()
    for probe in probes:
        # In turns: a wait without an end does not notice Ctrl-C where the system hands the signal to another thread.
        while not wait([findings[probe.name]], timeout=0.1).done:
            pass
        yield probe, findings[probe.name].result()


def _conduct(probe: Probe, findings: dict[str, Future[Finding]]) -> None:
    missing = [name for name in probe.needs if findings[name].result().verdict not in ("ok", "warn")]
    if missing:
        findings[probe.name].set_result(skip(f"not asked: needs {' and '.join(missing)}"))
        return
    answer: Future[Finding] = Future()
    thread = threading.Thread(target=_ask, args=(probe, answer), daemon=True)
    thread.start()
    thread.join(probe.seconds)
    if not answer.done():
        findings[probe.name].set_result(
            fail(
                f"no answer within {probe.seconds:.0f} s",
                "Check the network and the load of both sides, and try again.",
            )
        )
        return
    findings[probe.name].set_result(answer.result())


def _ask(probe: Probe, answer: "Future[Finding]") -> None:
    try:
        answer.set_result(probe.ask())
    except PixelError as error:
        answer.set_result(fail(error.message, error.hint or "Correct it and run `pixel doctor` again."))
    except Exception as error:  # noqa: BLE001  a probe that breaks is a finding, and never hides another
        # The type alone: messages of libraries may quote secrets.
        answer.set_result(
            fail(
                f"the probe itself broke: {type(error).__name__}",
                "Please report it as a fault of `pixel doctor`.",
            )
        )
