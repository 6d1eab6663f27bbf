"""Tables in pipes and in terminals of any width."""

import pytest
from rich.console import Console
from rich.text import Text

from pixel_pipeline.cli import tables
from pixel_pipeline.cli.tables import Column, fit, fold, print_table

COLUMNS = [Column("family", footer="all"), Column("validation loss", numeric=True, footer="1,234,567")]


def test_a_table_in_a_pipe_is_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    name = "family_" * 30
    print_table(COLUMNS, [(f"{name}\x1b[2J", "1")])
    lines = capsys.readouterr().out.splitlines()
    assert f"{name}\\x1b[2J" in lines[2]
    assert [line.rstrip() for line in lines] == lines


@pytest.mark.parametrize(("width", "widest"), [(80, 80), (30, 30), (10, 25)])
def test_a_terminal_never_cuts_a_number(
    width: int, widest: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "out", Console(width=width, force_terminal=True, color_system=None))
    monkeypatch.setenv("TERM", "xterm")
    print_table(COLUMNS, [("long_running_therapy", "987,654,321")])
    text = Text.from_ansi(capsys.readouterr().out).plain
    assert "987,654,321" in text
    assert "1,234,567" in text
    assert (
        "".join(piece for piece in ("long_", "running_", "therapy") if piece in text)
        == "long_running_therapy"
    )
    assert max(map(len, text.splitlines())) <= widest


def test_names_break_after_their_punctuation() -> None:
    assert fold("professional_therapeutic", 14) == ["professional_", "therapeutic"]
    assert fold("best of the run", 7) == ["best of", "the run"]
    assert fold("unbroken", 3) == ["unbroken"]
    assert fit([30, 9], least=[5, 9], available=20) == [11, 9]
    assert fit([30, 9], least=[25, 9], available=20) == [25, 9]
