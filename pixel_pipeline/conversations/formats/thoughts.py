"""Thoughts within answers: `<think>…</think>` before the answer, or a field of the turn.

The thought of the last answer becomes the conversation's `reasoning`; thoughts of earlier answers go to the metadata
`earlier_reasoning`, by the number of the turn.
"""

import re
from typing import Any

from pixel_pipeline.conversations.model.records import Message, Parsed

_OPENED = re.compile(r"<(think|thinking|thought|reasoning)>", re.IGNORECASE)
_CLOSED = {
    name: re.compile(rf"</{name}>", re.IGNORECASE) for name in ("think", "thinking", "thought", "reasoning")
}
_ANSWERED = re.compile(r"<(answer|response)>", re.IGNORECASE)
_CLOSINGS = ("</think", "</reasoning>", "</thought>")
_FIELDS = ("reasoning_content", "thinking", "reasoning", "thought")


def separate_thoughts(parsed: Parsed) -> Parsed:
    """Return a conversation without thoughts in its answers."""
    if "turn_extras" not in parsed.metadata and not any(
        "</" in content and role == "assistant" and any(closing in content for closing in _CLOSINGS)
        for role, content in parsed.messages
    ):
        return parsed
    messages: list[Message] = []
    thoughts: dict[int, str] = {}
    extras = parsed.metadata.get("turn_extras") or []
    extras = list(extras) if len(extras) == len(parsed.messages) else [None] * len(parsed.messages)
    for index, (role, content) in enumerate(parsed.messages):
        split = _split(content) if role == "assistant" and "</" in content else None
        field = _thought_field(extras[index]) if role == "assistant" else None
        if split is not None:
            thoughts[index], content = split
        elif field is not None:
            thoughts[index] = extras[index][field]
            extras[index] = {key: value for key, value in extras[index].items() if key != field} or None
        messages.append((role, content))
    if not thoughts:
        return parsed
    metadata = dict(parsed.metadata)
    if "turn_extras" in metadata:
        metadata["turn_extras"] = extras
        if not any(extras):
            del metadata["turn_extras"]
    last = max(index for index, (role, _) in enumerate(messages) if role == "assistant")
    reasoning = parsed.reasoning or thoughts.pop(last, "") or None
    if thoughts:
        metadata["earlier_reasoning"] = {str(index): thought for index, thought in thoughts.items()}
    return parsed._replace(messages=messages, metadata=metadata, reasoning=reasoning)


def with_thought(reasoning: str, answer: str) -> str:
    """Return an answer with the thought before it, as reasoning models write it."""
    return f"<think>\n{reasoning.strip()}\n</think>\n\n{answer}"


def _split(content: str) -> tuple[str, str] | None:
    """Return a thought and the answer behind it; None if there is no thought or no answer."""
    text = content.strip()
    opened = _OPENED.match(text)
    closed = _CLOSED[opened[1].lower() if opened else "think"].search(text)
    if closed is None:
        return None
    thought, answer = text[opened.end() if opened else 0 : closed.start()], text[closed.end() :].strip()
    tag = _ANSWERED.match(answer)
    if tag is not None and answer.lower().endswith(end := f"</{tag[1].lower()}>"):
        answer = answer[tag.end() : -len(end)].strip()
    return (thought.strip(), answer) if answer else None


def _thought_field(extra: Any) -> str | None:
    if isinstance(extra, dict):
        for key in _FIELDS:
            value = extra.get(key)
            if isinstance(value, str) and value.strip():
                return key
    return None
