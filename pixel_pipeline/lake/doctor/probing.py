"""Probes of the outside world, run in parallel, each with a time limit. A failing one never hides another."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
import threading
from typing import Literal

from pixel_pipeline.errors import PixelError

Verdict = Literal["ok", "warn", "fail", "skip"]


@dataclass(frozen=True)
class Finding:
    """The result of a probe and, unless it is "ok", a fix. Neither contains a secret."""

    verdict: Verdict
    found: str
    fix: str | None = None


def ok(found: str) -> Finding:
    return Finding("ok", found)


def warn(found: str, fix: str) -> Finding:
    return Finding("warn", found, fix)


def fail(found: str, fix: str) -> Finding:
    return Finding("fail", found, fix)


def skip(found: str, fix: str | None = None) -> Finding:
    return Finding("skip", found, fix)


@dataclass(frozen=True)
class Probe:
    """One check of the doctor.

    Attributes:
        name: Unique name.
        group: Heading under which it is shown.
        ask: Returns the finding. A PixelError counts as "fail" with its message and hint.
        needs: Names of earlier probes that have to succeed first.
        seconds: Time limit.
    """

    name: str
    group: str
    ask: Callable[[], Finding]
    needs: tuple[str, ...] = ()
    seconds: float = 45.0


def examine(probes: Sequence[Probe]) -> Iterator[tuple[Probe, Finding]]:
    """Run all probes in parallel and yield their findings in the given order, each as soon as possible."""
    findings: dict[str, Future[Finding]] = {probe.name: Future() for probe in probes}
    for probe in probes:
        # Daemons, so that a probe that hangs does not keep the process alive.
        threading.Thread(target=_conduct, args=(probe, findings), daemon=True).start()
    for probe in probes:
        # With a timeout: an endless wait may not notice Ctrl-C if another thread receives the signal.
        while not wait([findings[probe.name]], timeout=0.1).done:
            pass
        yield probe, findings[probe.name].result()


def _conduct(probe: Probe, findings: dict[str, Future[Finding]]) -> None:
    finding = findings[probe.name]
    missing = [name for name in probe.needs if findings[name].result().verdict not in ("ok", "warn")]
    if missing:
        finding.set_result(skip(f"not checked: needs {' and '.join(missing)}"))
        return
    answer: Future[Finding] = Future()
    threading.Thread(target=lambda: answer.set_result(_answer(probe)), daemon=True).start()
    try:
        finding.set_result(answer.result(probe.seconds))
    except TimeoutError:
        fix = "Check the network and the load of both sides, and try again."
        finding.set_result(fail(f"no answer within {probe.seconds:.0f} s", fix))


def _answer(probe: Probe) -> Finding:
    try:
        return probe.ask()
    except PixelError as error:
        return fail(error.message, error.hint or "Correct it and run `pixel doctor` again.")
    except Exception as error:  # noqa: BLE001  a broken probe is a finding, and never hides another
        # Only the type: messages of libraries may quote secrets.
        fix = "Please report this as a bug in `pixel doctor`."
        return fail(f"the probe itself broke: {type(error).__name__}", fix)
