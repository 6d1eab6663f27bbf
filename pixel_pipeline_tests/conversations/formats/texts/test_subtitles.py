"""subtitles: cues become turns, if they name speakers."""

from collections.abc import Callable
from typing import Any

import pytest

from pixel_pipeline.conversations.model.records import Parsed, RecordError
from pixel_pipeline_tests.conversations.converted import convert

Parse = Callable[[Any], Parsed]
Refuse = Callable[[Any], RecordError]
TALK = [("assistant", "How was the week? Tell me."), ("user", "Long & grey."), ("assistant", "I see.")]

VOICES = """WEBVTT - Session

NOTE made by a machine

00:00:01.000 --> 00:00:04.000
<v Therapist>How was the week?</v>

00:04.000 --> 00:05.500 align:start
<v Therapist><i>Tell me.</i></v>

2
00:00:06.000 --> 00:00:07.000
<v.loud Client>Long &amp; grey.
<v Therapist>I see.
"""
NAMES = """1
00:00:01,000 --> 00:00:04,000
Therapist: How was the week?

2
00:00:04,000 --> 00:00:05,500
Tell me.

3
00:00:06,000 --> 00:00:07,000
Client: Long &amp;
grey.

4
00:00:08,000 --> 00:00:09,000
Therapist: I see.
"""


@pytest.mark.parametrize("text", [VOICES, NAMES])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_cues_of_one_speaker_are_one_turn(parse: Parse, text: str, end: str) -> None:
    got = parse(text.replace("\n", end))
    assert got.messages == TALK
    assert got.metadata["cues"] in (3, 4)


def test_cues_without_a_blank_line_between_them(parse: Parse) -> None:
    got = parse(NAMES.replace("\n\n", "\n"))
    assert got.messages == TALK


def test_subtitles_without_speakers_are_refused(refuse: Refuse) -> None:
    assert (
        refuse("WEBVTT\n\n00:01.000 --> 00:02.000\nHello\n\n00:03.000 --> 00:04.000\nHi").error_class
        == "no_speakers"
    )


def test_a_file_of_subtitles() -> None:
    got = convert(NAMES.encode("utf-8-sig"), "gdrive/raw/F/session.srt")
    assert (got.messages, got.ledger.formats) == ([TALK], {"subtitles": 1})
