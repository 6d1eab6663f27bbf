"""Flat lists of messages: one record a message, each naming its conversation or the message it answers.

`join_messages` makes each conversation one record, wherever its messages are in the object.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pixel_pipeline.conversations.formats.fields import first_key, key_names, without
from pixel_pipeline.conversations.formats.known import find_format
from pixel_pipeline.conversations.model.records import Block, Fault, Item, Record, peek
from pixel_pipeline.conversations.threads.sessions import THREAD, link_keys

SAMPLED_RECORDS = 20
MAX_PENDING = 64 << 20
"""Characters of messages held in memory. Beyond that, the conversations that were updated longest ago count as complete."""
_CONVERSATIONS = (
    "message_tree_id", "conversation_id", "dialogue_id", "dialog_id", "conv_id", "conversationid", "dialogueid", "dialogid",
    "convid", "session_id", "thread_id", "chat_id", "call_id", "transcript_id", "conversation", "dialogue", "session",
)  # fmt: skip
_TEXTS = ("utterance", "text", "content", "message", "line", "body", "value", "sentence")
_SPEAKERS = (
    "role", "speaker", "speaker_idx", "speaker_id", "from", "sender", "author", "character", "participant", "interlocutor",
)  # fmt: skip
_ORDERS = (
    "turn", "turn_id", "turn_index", "turn_idx", "utterance_idx", "utterance_id", "message_index", "position", "order", "index",
)  # fmt: skip


@dataclass(slots=True)
class _Thread:
    """The messages of one conversation so far, and their size in characters."""

    messages: list[Record] = field(default_factory=list)
    size: int = 0

    def record(self, *, linked: bool) -> Record:
        """Return the conversation as one record, at the place of its first message."""
        first = self.messages[0]
        rows = [message.value for message in self.messages]
        raws = [message.raw for message in self.messages if message.raw is not None]
        value = {THREAD: rows} if linked else _conversation(rows)
        return Record(first.position, value, b"\n".join(raws) if raws else None, first.context)


def join_messages(records: Iterator[Item], *, repaired: Counter[str]) -> tuple[bool, Iterator[Item]]:
    """Join the messages of each conversation into one record.

    Args:
        repaired: Counts the repairs of records.

    Returns:
        Whether the records are messages, judged by the first of them; and the records. If they are not messages, all pass
        unchanged. A message of a conversation that was already yielded becomes a Fault, `scattered_conversation`.
    """
    first, rest = peek(records, SAMPLED_RECORDS)
    sample = list(islice(_single_records(first, Counter()), SAMPLED_RECORDS))
    messages = sum(isinstance(record, Record) and _is_message(record.value) for record in sample)
    if not messages or 2 * messages < len(sample):
        return False, rest
    return True, _joined(_single_records(rest, repaired))


def _single_records(items: Iterable[Item], repaired: dict[str, int]) -> Iterator[Record | Fault]:
    for item in items:
        if isinstance(item, Block):
            yield from item.records(repaired)
        else:
            yield item


def _joined(records: Iterator[Record | Fault]) -> Iterator[Record | Fault]:
    threads: dict[str, _Thread] = {}
    thread_of: dict[str, str] = {}
    done: set[str] = set()
    pending = 0
    linked = False
    for record in records:
        if isinstance(record, Fault) or not _is_message(record.value):
            yield record
            continue
        links = link_keys(record.value)
        key = first_key(key_names(record.value), _CONVERSATIONS)
        linked = linked or links is not None
        if key is not None and record.value[key] is not None:
            name = f"c{record.value[key]}"
        else:
            own, parent = (record.value[link] for link in links) if links else (None, None)
            if own is None:
                own = f"#{record.position}"
            above = None if parent is None else thread_of.get(f"{parent}")
            name = above or f"m{own}"
            thread_of.setdefault(f"{own}", name)
        if name in done:
            reason = "a message of a conversation that ended more than 64 MiB before it"
            yield Fault(record.position, record.raw, len(record.raw or b""), "scattered_conversation", reason)
            continue
        # Inserting the thread again keeps the dictionary in the order of the last messages.
        threads[name] = thread = threads.pop(name, None) or _Thread()
        thread.messages.append(record)
        size = _size(record)
        thread.size += size
        pending += size
        while pending > MAX_PENDING and len(threads) > 1:
            oldest = next(iter(threads))
            pending -= threads[oldest].size
            done.add(oldest)
            yield threads.pop(oldest).record(linked=linked)
    for thread in sorted(threads.values(), key=lambda thread: thread.messages[0].position):
        yield thread.record(linked=linked)


def _is_message(value: Any) -> bool:
    """Whether a record is a single message: it has a text, and names its conversation or the message it answers."""
    if not isinstance(value, dict):
        return False
    names = key_names(value)
    text = first_key(names, _TEXTS)
    if text is None or not isinstance(value[text], str) or find_format(value) is not None:
        return False
    key = first_key(names, _CONVERSATIONS)
    if key is not None and key != text and isinstance(value[key], str | int):
        return first_key(names, (*_SPEAKERS, *_ORDERS)) is not None
    return link_keys(value) is not None and first_key(names, _SPEAKERS) is not None and "replies" not in names


def _conversation(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return `{"messages": …}` of a conversation's rows, in their order, and the values that all rows share."""
    names = key_names(rows[0])
    text, speaker, order = (
        first_key(names, _TEXTS) or "",
        first_key(names, _SPEAKERS),
        first_key(names, _ORDERS),
    )
    if order is not None and all(_number(row.get(order)) is not None for row in rows):
        rows = sorted(rows, key=lambda row: _number(row[order]) or 0.0)
    own = {text, speaker}
    shared = {
        key: value
        for key, value in rows[0].items()
        if key not in own and all(row.get(key) == value for row in rows)
    }
    turns = []
    for row in rows:
        turn = {"text": row.get(text)}
        if speaker is not None:
            turn["speaker"] = row.get(speaker)
        rest = without(row, (*shared, *own, order))
        turns.append(turn | rest)
    return {**shared, "messages": turns}


def _size(record: Record) -> int:
    if record.raw is not None:
        return len(record.raw)
    return sum(len(value) for value in record.value.values() if isinstance(value, str))


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, str | int | float) else None
    except (ValueError, OverflowError):
        return None
