"""Subtitles, WebVTT and SubRip: cues joined to turns. A speaker is named by a voice tag (`<v Sarah>`) or as in a transcript;
a cue that names nobody goes on with the turn before it. Where nobody is named at all, nobody can tell the turns apart."""

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
_LOOKED_AT = 4_000


def matches(record: Any) -> bool:
    if not isinstance(record, str):
        return False
    head = record[:_LOOKED_AT].lstrip("\ufeff \t\r\n")
    if "-->" not in head:
        return head.startswith("WEBVTT")
    return (head.startswith("WEBVTT") or head[:1].isdigit()) and _CUE.search(
        head.replace("\r", "")
    ) is not None


def convert(record: Any) -> Parsed:
    text = record.replace("\r\n", "\n").replace("\r", "\n")
    said: list[str] = []
    cues = _cues(text)
    speaker = ""
    for cue in cues:
        for line in _lines(cue):
            tag = TAG.match(line)
            if not said or (tag is not None and tag[1] != speaker):
                said.append(line)
            else:
                # The same speaker goes on, named again or not.
                said[-1] += f" {line[tag.end() :] if tag is not None else line}"
            speaker = tag[1] if tag is not None else speaker
    if not any(TAG.match(line) for line in said):
        raise RecordError("no_speakers", f"none of {len(cues)} cues names who speaks")
    return transcript.parse("\n".join(said), {"cues": len(cues)})


def _cues(text: str) -> list[str]:
    """Returns the text of each cue: what stands between its timing and a blank line, or the next cue."""
    cues: list[str] = []
    timings = list(_CUE.finditer(text))
    for timing, following in zip_longest(timings, timings[1:]):
        limit = len(text) if following is None else following.start()
        end = text.find("\n\n", timing.end(), limit)
        # Without a blank line, the number of the next cue stands right below.
        cues.append(text[timing.end() : end] if end >= 0 else _NUMBER.sub("", text[timing.end() : limit]))
    return cues


def _lines(cue: str) -> list[str]:
    voiced = _VOICE.sub(lambda voice: f"\n{voice[1].strip()}: ", cue)
    bare = html.unescape(_MARKUP.sub("", voiced))
    lines, _ = named_lines([line.strip() for line in bare.split("\n")])
    return [line for line in lines if line]
