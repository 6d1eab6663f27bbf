"""Prompts that are a dialogue so far: `…\\nClient: a\\nTherapist: b\\nClient: c\\nTherapist:`, with the next answer under a key of its own.

As one user turn, the therapist's earlier words would be the client's.
"""

import re

from pixel_pipeline.conversations.formats.roles import role_of
from pixel_pipeline.conversations.formats.texts import transcript
from pixel_pipeline.conversations.formats.texts.inline_tags import parse_tagged, template_of
from pixel_pipeline.conversations.formats.texts.speakers import TAG
from pixel_pipeline.conversations.model.records import Message, RecordError

OPEN_ENDS = tuple(":：>]")
"""A prompt that leaves a dialogue open ends with one of these, but for white space."""
_LABEL = re.compile(r"(?:\A|\n)[^\n:：]{1,20}[:：]\s*\Z")


def prompted_turns(asked: str, answer: str, *, history: bool = False) -> list[Message]:
    """Returns the turns that a prompt and its answer are: the two of them, or all of a dialogue that the prompt leaves open
    for the assistant. What stands before such a dialogue is the system's.

    Args:
        history: The earlier turns stand elsewhere.
    """
    turns = None if history else _continued(asked, answer)
    return turns or [("user", asked), ("assistant", answer)]


def _continued(asked: str, answer: str) -> list[Message] | None:
    asked = asked.rstrip()
    if not asked.endswith(OPEN_ENDS):
        return None
    if (template := template_of(asked)) is not None:
        if not template.mark.fullmatch(asked, [mark.start() for mark in template.mark.finditer(asked)][-1]):
            return None
        turns, header = parse_tagged(asked)
    else:
        tag = TAG.fullmatch(asked.rpartition("\n")[2])
        if tag is None or role_of(tag[1]) != "assistant":
            return None
        try:
            parsed = transcript.parse(asked, {})
        except RecordError:
            return None
        turns, header = parsed.messages, "\n".join(parsed.metadata.get("header", ()))
        # The answer may name its speaker again.
        answer = re.sub(rf"(?m)^[ \t]*{re.escape(tag[1])}[ \t]*[:：][ \t]*", "", answer)
    if not turns or turns[-1][0] != "user":
        return None
    header = _LABEL.sub("", header).strip()
    opening: list[Message] = [("system", header)] if header else []
    return [*opening, *turns, ("assistant", answer)]
