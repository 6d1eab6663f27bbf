"""Subtitles, WebVTT and SubRip: cues joined to turns.

A speaker is named by a voice tag (`<v Sarah>`) or as in a transcript; a cue without a speaker continues the previous turn. Without
any speaker, the record is refused.
"""

import html
from itertools import zip_longest
import re
from typing import Any

from pixel_pipeline.conversations.formats.texts import transcript
from pixel_pipeline.conversations.formats.texts.speakers import TAG, named_lines
from pixel_pipeline.conversations.model.records import Parsed, RecordError

NAME = "subtitles"
_TIMING = r"(?:\d{1,3}:)?\d{1,2}:\d{2}[.,]\d{1,3}"
_CUE = re.compile(rf"(?m)^[ \t]*{_TIMING}[ \t]+-->[ \t]+{_TIMING}[^\n]*$")
_VOICE = re.compile(r"<v(?:\.[\w.]+)?[ \t]+([^>\n]{1,64})>")
_MARKUP = re.compile(r"</?(?:[cbiuv]|ruby|rt|lang|font)\b[^>\n]{0,80}>|<\d[\d:.]{3,14}>|\{\\an?\d\}")
_NUMBER = re.compile(r"\n[ \t]*\d{1,6}[ \t]*\n*\Z")
_HEAD = 4_000


def matches(record: Any) -> bool:
    if not isinstance(record, str):
        return False
    head = record[:_HEAD].lstrip("\ufeff \t\r\n")
    if "-->" not in head:
        return head.startswith("WEBVTT")
    return (head.startswith("WEBVTT") or head[:1].isdigit()) and _CUE.search(
        head.replace("\r", "")
    ) is not None


def convert(record: Any) -> Parsed:
    text = record.replace("\r\n", "\n").replace("\r", "\n")
    turns: list[str] = []
    cues = _cues(text)
    speaker = ""
    for cue in cues:
        for line in _lines(cue):
            tag = TAG.match(line)
            if not turns or (tag is not None and tag[1] != speaker):
                turns.append(line)
            else:
                # The same speaker continues, named again or not.
                turns[-1] += f" {line[tag.end() :] if tag is not None else line}"
            speaker = tag[1] if tag is not None else speaker
    if not any(TAG.match(turn) for turn in turns):
        raise RecordError("no_speakers", f"none of {len(cues)} cues names a speaker")
    return transcript.parse("\n".join(turns), {"cues": len(cues)})


def _cues(text: str) -> list[str]:
    """Return the text of each cue: from its timing to a blank line or the next cue."""
    cues: list[str] = []
    timings = list(_CUE.finditer(text))
    for timing, following in zip_longest(timings, timings[1:]):
        limit = len(text) if following is None else following.start()
        end = text.find("\n\n", timing.end(), limit)
        # Without a blank line, the number of the next cue is the last line.
        cues.append(text[timing.end() : end] if end >= 0 else _NUMBER.sub("", text[timing.end() : limit]))
    return cues


def _lines(cue: str) -> list[str]:
    voiced = _VOICE.sub(lambda voice: f"\n{voice[1].strip()}: ", cue)
    bare = html.unescape(_MARKUP.sub("", voiced))
    lines, _ = named_lines([line.strip() for line in bare.split("\n")])
    return [line for line in lines if line]
