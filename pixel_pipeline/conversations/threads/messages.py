"""Flat lists of messages: one record a message, each naming its conversation or the message it answers.

`joined` gathers them, so that a conversation is one record however its messages are strewn. It stands between container
and format, and costs nothing for objects whose first records are something else.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

from pixel_pipeline.conversations.formats.fields import first_key, key_names
from pixel_pipeline.conversations.formats.known import find_format
from pixel_pipeline.conversations.model.records import Block, Fault, Item, Record, looked_at
from pixel_pipeline.conversations.threads.sessions import THREAD, link_keys

LOOKED_AT = 20
MAX_PENDING = 64 << 20
"""Characters of messages held back. Beyond them, the conversations not heard of for longest are taken as complete."""
_CONVERSATIONS = (
    "message_tree_id", "conversation_id", "dialogue_id", "dialog_id", "conv_id", "conversationid", "dialogueid", "dialogid",
    "convid", "session_id", "thread_id", "chat_id", "call_id", "transcript_id", "conversation", "dialogue", "session",
)  # fmt: skip
_TEXTS = ("utterance", "text", "content", "message", "line", "body", "value", "sentence")
_SPEAKERS = (
    "role", "speaker", "speaker_idx", "speaker_id", "from", "sender", "author", "character", "participant", "interlocutor",
)  # fmt: skip
_ORDERS = (
    "turn",
    "turn_id",
    "turn_index",
    "turn_idx",
    "utterance_idx",
    "utterance_id",
    "message_index",
    "position",
    "order",
    "index",
)


class Thread:
    """Messages of one conversation, so far."""

    __slots__ = ("first", "raws", "rows", "size")

    def __init__(self, first: Record) -> None:
        self.first = first
        self.rows: list[dict[str, Any]] = []
        self.raws: list[bytes] = []
        self.size = 0

    def add(self, record: Record) -> int:
        """Adds a message; returns its size in characters."""
        size = (
            len(record.raw)
            if record.raw is not None
            else sum(len(v) for v in record.value.values() if isinstance(v, str))
        )
        self.rows.append(record.value)
        if record.raw is not None:
            self.raws.append(record.raw)
        self.size += size
        return size

    def record(self, *, linked: bool) -> Record:
        """Returns the conversation as one record, where its first message stands."""
        raw = b"\n".join(self.raws) if self.raws else None
        value = {THREAD: self.rows} if linked else _conversation(self.rows)
        return Record(self.first.position, value, raw, self.first.context)


def strewn(records: Iterator[Item]) -> tuple[bool, Iterator[Item]]:
    """Returns whether the first records are messages of conversations that have to be joined, and all records."""
    first, rest = looked_at(records, LOOKED_AT)
    looked = [record for item in first for record in islice(_apart(item, {}), LOOKED_AT)][:LOOKED_AT]
    messages = sum(isinstance(record, Record) and _is_message(record.value) for record in looked)
    return messages > 0 and 2 * messages >= len(looked), rest


def joined(records: Iterator[Item], *, repaired: Counter[str] | None = None) -> Iterator[Item]:
    """Returns the records, messages of one conversation joined; what is no message passes as it is.

    A message of a conversation that was already handed out is a Fault, `scattered_conversation`: it comes too late.

    Args:
        repaired: What repairs are counted in.
    """
    counts = Counter() if repaired is None else repaired
    are_messages, rest = strewn(records)
    if not are_messages:
        return rest
    return _joined(record for item in rest for record in _apart(item, counts))


def _apart(item: Item, repaired: dict[str, int]) -> Iterator[Record | Fault]:
    return item.records(repaired) if isinstance(item, Block) else iter((item,))


def _joined(records: Iterator[Record | Fault]) -> Iterator[Record | Fault]:
    threads: dict[str, Thread] = {}
    thread_of: dict[str, str] = {}
    done: set[str] = set()
    pending = 0
    linked = False
    for record in records:
        if isinstance(record, Fault) or not _is_message(record.value):
            yield record
            continue
        names = key_names(record.value)
        links = link_keys(record.value)
        key = first_key(names, _CONVERSATIONS)
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
        # Taken out and put in again: the dictionary stays in the order in which threads were last heard of.
        thread = threads.pop(name, None) or Thread(record)
        threads[name] = thread
        pending += thread.add(record)
        while pending > MAX_PENDING and len(threads) > 1:
            oldest = next(iter(threads))
            pending -= threads[oldest].size
            done.add(oldest)
            yield threads.pop(oldest).record(linked=linked)
    for thread in sorted(threads.values(), key=lambda thread: thread.first.position):
        yield thread.record(linked=linked)


def _is_message(value: Any) -> bool:
    """Whether a record is a single message: it has a text of its own, and names a conversation or a message it answers."""
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
    """Returns `{"messages": …}` of a conversation's rows, in their order; what is the same in all stands beside it."""
    names = key_names(rows[0])
    text, speaker, order = (
        first_key(names, _TEXTS) or "",
        first_key(names, _SPEAKERS),
        first_key(names, _ORDERS),
    )
    if order is not None and all(_place(row.get(order)) is not None for row in rows):
        rows = sorted(rows, key=lambda row: _place(row[order]) or 0.0)
    own = {text, speaker}
    same = {
        key: value
        for key, value in rows[0].items()
        if key not in own and all(row.get(key) == value for row in rows)
    }
    turns = []
    for row in rows:
        turn = {
            key: value for key, value in row.items() if key not in same and key not in own and key != order
        }
        if speaker is not None:
            turn = {"speaker": row.get(speaker), **turn}
        turns.append({"text": row.get(text), **turn})
    return {**same, "messages": turns}


def _place(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, str | int | float) else None
    except (ValueError, OverflowError):
        return None
