"""Records that hold several conversations: a list of sessions, a tree of messages, a post with its comments, an instruction with
several instances."""

from typing import Any, NamedTuple

from pixel_pipeline.conversations.formats import posts
from pixel_pipeline.conversations.formats.fields import first_key, key_names, without
from pixel_pipeline.conversations.formats.known import find_format
from pixel_pipeline.conversations.formats.metadata import LANGUAGE_KEYS
from pixel_pipeline.conversations.formats.roles import role_of
from pixel_pipeline.conversations.threads import trees

SESSION_KEYS = (
    "conversations", "sessions", "dialogues", "dialogs", "data", "records", "examples", "items", "rows",
)  # fmt: skip
# Under other keys, a list of lists of texts is more likely a table.
_EXCHANGE_KEYS = frozenset(("conversations", "dialogues", "dialogs"))
_SAMPLED_SESSIONS = 20
_SMALL = (str, int, float, bool, type(None))
_LONGEST_SHARED = 256
_REPLIES = ("replies", "children", "responses")
_COMMENTS = ("comments", "answers", "replies")
_COMMENT_TEXTS = ("body", "text", "comment", "content", "answer", "message")
_SPEAKERS = ("role", "author", "speaker", "sender", "from")
_OWN = ("message_id", "user_message_id", "post_id", "comment_id", "uuid", "id")
_PARENTS = ("parent_id", "parent_message_id", "parentid", "reply_to", "in_reply_to", "parent")
THREAD = "thread"
"""Key of the messages in a record made by `messages.join_messages`."""


class Sessions(NamedTuple):
    """The conversations of one record, and the rest of the record.

    Attributes:
        values: One record each.
        shared: Short scalars of the rest: they describe every session.
        rest: Everything else: kept once, with the first session.
    """

    values: list[Any]
    shared: dict[str, Any]
    rest: dict[str, Any]

    @classmethod
    def of(cls, values: list[Any], surroundings: dict[str, Any]) -> "Sessions":
        """Sessions in an object that has other keys too."""
        shared: dict[str, Any] = {}
        rest: dict[str, Any] = {}
        for key, value in surroundings.items():
            short = isinstance(value, _SMALL) and not (
                isinstance(value, str) and len(value) > _LONGEST_SHARED
            )
            (shared if short else rest)[key] = value
        return cls(values, shared, rest)

    def context_of(self, index: int, outer: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """Return the surroundings that belong in the metadata of one session."""
        context = dict(outer or {})
        if self.shared or (self.rest and index == 0):
            context["document"] = {**self.shared, **self.rest} if index == 0 else self.shared
        return context or None


def sessions_of(value: Any) -> Sessions | None:
    """Return the sessions of a record that no format matches as a whole, or None.

    Raises:
        RecordError: `tree_too_wide`.
    """
    if not isinstance(value, dict):
        return None
    return _listed(value) or _thread(value) or _tree(value) or _post(value) or _instances(value)


def link_keys(row: dict[str, Any]) -> tuple[str, str] | None:
    """Return the keys of a message's own name and of the message it answers, or None."""
    names = key_names(row)
    own, parent = first_key(names, _OWN), first_key(names, _PARENTS)
    return None if own is None or parent is None else (own, parent)


def _listed(value: dict[str, Any]) -> Sessions | None:
    for key in SESSION_KEYS:
        values = value.get(key)
        if not isinstance(values, list):
            continue
        sample = values[:_SAMPLED_SESSIONS]
        plain = [_is_plain_exchange(item) for item in sample] if key in _EXCHANGE_KEYS else []
        if any(plain) and 2 * sum(plain) >= len(plain):
            # Chat bot corpora: lists of texts by alternating speakers.
            values = [{"dialogue": item} if _is_plain_exchange(item) else item for item in values]
        if any(isinstance(item, dict | list) and find_format(item) for item in values[:_SAMPLED_SESSIONS]):
            return Sessions.of(values, without(value, (key,)))
    return None


def _is_plain_exchange(item: Any) -> bool:
    return (
        isinstance(item, list)
        and len(item) > 1
        and all(isinstance(text, str) for text in item)
        and not find_format(item)
    )


def _thread(value: dict[str, Any]) -> Sessions | None:
    rows = value.get(THREAD)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        return None
    keys = link_keys(rows[0])
    if keys is None:
        return None
    roots = trees.linked(rows, own=keys[0], parent=keys[1], speakers=_SPEAKERS)
    return _path_sessions(roots, without(value, (THREAD,)))


def _tree(value: dict[str, Any]) -> Sessions | None:
    """Sessions of a message that contains its replies, or has it under `prompt`."""
    holder = value.get("prompt")
    top = holder if isinstance(holder, dict) else value
    speaker = first_key(key_names(top), _SPEAKERS)
    has_replies = any(isinstance(top.get(key), list) for key in _REPLIES)
    if speaker is None or not has_replies or not isinstance(top.get("text"), str):
        return None

    def role(message: dict[str, Any], above: trees.Node | None) -> str | None:
        spelling = message.get(speaker)
        return role_of(spelling) if isinstance(spelling, str) else None

    surroundings = without(value, ("prompt",)) if top is holder else {}
    return _path_sessions([trees.nested(top, replies=_REPLIES, role=role)], surroundings)


def _post(value: dict[str, Any]) -> Sessions | None:
    """Sessions of a post with comments: each comment to the post starts one, or only the best if they have scores."""
    names = key_names(value)
    post, comments = posts.post_keys(names), first_key(names, _COMMENTS)
    if not post or comments is None or not isinstance(value[comments], list):
        return None
    asker = value.get("author")

    def role(message: dict[str, Any], above: trees.Node | None) -> str | None:
        if above is None or (asker and message.get("author") == asker):
            return "user"
        return "user" if "author" not in message and above.role != "user" else "assistant"

    answers = [{"text": item} if isinstance(item, str) else item for item in value[comments]]
    top = {"text": posts.post_text(value, post), comments: answers}
    tree = trees.nested(top, replies=(comments, *_COMMENTS, *_REPLIES), role=role)
    for node in trees.walk(tree):
        text = first_key(key_names(node.turn), _COMMENT_TEXTS)
        node.turn.update(role=node.role, text=node.turn.pop(text) if text is not None else "")
        if str(node.turn["text"]).strip().lower() in posts.DELETED and node is not tree:
            node.turn["deleted"] = True
    return _path_sessions([tree], without(value, (*post, comments)))


def _instances(value: dict[str, Any]) -> Sessions | None:
    """Sessions of a seed task: `{"instruction": …, "instances": [{"input": …, "output": …}, …]}`."""
    instances = value.get("instances")
    if not isinstance(value.get("instruction"), str) or not isinstance(instances, list):
        return None
    values = [
        {"instruction": value["instruction"], **item} if isinstance(item, dict) else item
        for item in instances
    ]
    if not any(map(find_format, values)):
        return None
    return Sessions.of(values, without(value, ("instruction", "instances")))


def _path_sessions(roots: list[trees.Node], surroundings: dict[str, Any]) -> Sessions:
    values: list[Any] = []
    for root in roots:
        paths, not_taken = trees.paths(root)
        more = {"not_taken": not_taken} if not_taken else {}
        values += [{"messages": turns, **_language(turns), **more} for turns in paths]
    return Sessions.of(values, surroundings)


def _language(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """The language that all messages of a path have, with its key."""
    key = next((key for key in LANGUAGE_KEYS if isinstance(turns[0].get(key), str)), None)
    same = key is not None and all(turn.get(key) == turns[0][key] for turn in turns)
    return {key: turns[0][key]} if key is not None and same else {}
