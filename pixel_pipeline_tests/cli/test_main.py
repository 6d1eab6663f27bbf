"""The frame of the command line: help, version, completion, errors, exit codes, and output in pipes."""

from importlib.metadata import version
import os
from pathlib import Path
import subprocess
import sys

import pytest
import typer

from pixel_pipeline import cli
from pixel_pipeline.cli.exit_codes import MEANINGS, ExitCode
from pixel_pipeline.errors import PixelError
from pixel_pipeline.training.errors import TrainingInterruptedError
from pixel_pipeline_tests.activated import shell
from pixel_pipeline_tests.cli.command import pixel


def commands(app: typer.Typer = cli.app, *path: str) -> list[tuple[str, ...]]:
    """Every command and group, as typed."""
    found = [(*path, str(command.name)) for command in app.registered_commands]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        found += [(*path, str(group.name)), *commands(group.typer_instance, *path, str(group.name))]
    return found


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    short, long = (pixel(*command, option) for option in ("-h", "--help"))
    assert short == long
    assert short.code == ExitCode.OK
    lines = [line.strip() for line in short.stdout.splitlines() if line.strip()]
    assert lines[0].startswith(f"Usage: pixel {' '.join(command)}")
    # One sentence that fits a line.
    assert lines[1].endswith(".")
    assert "\x1b" not in short.stdout


def test_help_shows_every_panel_and_exit_code() -> None:
    text = pixel("-h").stdout
    for panel in cli.PANELS:
        assert f"─ {panel} ─" in text
    for code, meaning in MEANINGS.items():
        assert f"{code.value:>3}  {meaning}" in text
    assert {*MEANINGS} == {*ExitCode}


def test_version() -> None:
    result = pixel("--version")
    assert (result.code, result.stdout) == (ExitCode.OK, f"pixel {version('pixel-pipeline')}\n")


def test_completion_lists_verbs() -> None:
    environment = {
        **os.environ,
        "_PIXEL_COMPLETE": "complete_bash",
        "COMP_WORDS": "pixel qua",
        "COMP_CWORD": "1",
    }
    program = Path(sys.prefix) / "bin" / "pixel"
    done = subprocess.run([program], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["quarantine"]


@pytest.mark.parametrize(
    ("arguments", "message", "verb"),
    [
        (("statsu",), "No such command 'statsu'", "pixel"),
        (("status", "--foo"), "No such option: --foo", "pixel status"),
        (("runs", "compare", "one"), "name at least two runs", "pixel runs compare"),
    ],
)
def test_usage_errors(arguments: tuple[str, ...], message: str, verb: str) -> None:
    result = pixel(*arguments)
    assert (result.code, result.stdout) == (ExitCode.ERROR, "")
    error, hint = result.stderr.splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert hint == f"hint: `{verb} --help` lists the arguments and options."


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("pixel_pipeline.cli.lake.status._status", fail)


def test_expected_errors_are_two_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(PixelError("There is no [bucket] x.", hint="Create it."), monkeypatch)
    result = pixel("status")
    assert (result.code, result.stdout) == (ExitCode.ERROR, "")
    assert result.stderr == "error: There is no [bucket] x.\nhint: Create it.\n"


def test_unexpected_errors_show_data_only_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(KeyError("secret words"), monkeypatch)
    result = pixel("status")
    assert result.code == ExitCode.UNEXPECTED
    assert result.stderr.startswith("error: unexpected KeyError in ")
    assert "pixel --traceback" in result.stderr
    assert "secret words" not in result.stderr
    traced = pixel("--traceback", "status")
    assert traced.code == ExitCode.UNEXPECTED
    assert "Traceback (most recent call last)" in traced.stderr
    assert "secret words" in traced.stderr


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TrainingInterruptedError("interrupted at step 3")])
def test_interruptions_have_their_own_code(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(error, monkeypatch)
    result = pixel("status")
    assert result.code == ExitCode.INTERRUPTED
    assert "interrupted" in result.stderr


def test_status_in_a_pipe_has_no_control_characters(tmp_path: Path) -> None:
    result = shell("pixel s3 status", home=tmp_path)
    assert result.code == ExitCode.NOT_RUNNING
    assert "\x1b" not in result.text
