"""Probes are independent: none hides, delays or breaks another."""

import threading
from typing import NoReturn

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.doctor.probing import Finding, Probe, examine, fail, ok, warn


def findings(*probes: Probe) -> dict[str, Finding]:
    return {probe.name: finding for probe, finding in examine(probes)}


def test_probes_that_need_a_failed_one_are_skipped_with_the_reason() -> None:
    asked: list[str] = []

    def ask(name: str, finding: Finding) -> Finding:
        asked.append(name)
        return finding

    found = findings(
        Probe("first", "g", lambda: ask("first", fail("broken", "mend it"))),
        Probe("second", "g", lambda: ask("second", ok("")), needs=("first",)),
        Probe("third", "g", lambda: ask("third", ok("")), needs=("second",)),
        Probe("other", "g", lambda: ask("other", warn("", ""))),
        Probe("after", "g", lambda: ask("after", ok("")), needs=("other",)),
    )
    assert [finding.verdict for finding in found.values()] == ["fail", "skip", "skip", "warn", "ok"]
    assert "first" in found["second"].found
    assert set(asked) == {"first", "other", "after"}


def test_a_hanging_probe_times_out_and_the_others_answer() -> None:
    release = threading.Event()

    def hang() -> Finding:
        release.wait()
        return ok("too late")

    found = findings(Probe("slow", "g", hang, seconds=0.05), Probe("quick", "g", lambda: ok("here")))
    release.set()
    assert found["slow"].verdict == "fail"
    assert "no answer within" in found["slow"].found
    assert found["quick"] == ok("here")


def test_errors_are_findings_and_messages_of_libraries_are_not_repeated() -> None:
    def expected() -> NoReturn:
        raise PixelError("It is off.", hint="Switch it on.")

    def unexpected() -> NoReturn:
        raise KeyError("plantedSecret")

    found = findings(Probe("expected", "g", expected), Probe("unexpected", "g", unexpected))
    assert found["expected"] == fail("It is off.", "Switch it on.")
    assert found["unexpected"].verdict == "fail"
    assert "KeyError" in found["unexpected"].found
    assert "plantedSecret" not in repr(found)
