"""Prompts that contain a dialogue so far: `…\\nClient: a\\nTherapist: b\\nClient: c\\nTherapist:`, answered under another key.

As one user turn, the therapist's earlier words would be attributed to the client.
"""

import re

from pixel_pipeline.conversations.formats.roles import role_of
from pixel_pipeline.conversations.formats.texts import transcript
from pixel_pipeline.conversations.formats.texts.inline_tags import parse_tagged, template_of
from pixel_pipeline.conversations.formats.texts.speakers import TAG
from pixel_pipeline.conversations.model.records import Message, RecordError

OPEN_ENDS = tuple(":：>]")
"""A prompt that ends in an open dialogue ends with one of these, apart from white space."""
_LABEL = re.compile(r"(?:\A|\n)[^\n:：]{1,20}[:：]\s*\Z")


def prompted_turns(asked: str, answer: str, *, has_history: bool = False) -> list[Message]:
    """Return the turns of a prompt and its answer: two, or all turns of a dialogue that the prompt leaves to the assistant.

    Text before such a dialogue becomes the system turn.

    Args:
        has_history: The earlier turns are given elsewhere, so the prompt is a single turn.
    """
    turns = None if has_history else _continued(asked, answer)
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
