"""Records that hold several conversations: a list of sessions, a tree of messages, a post with its comments, one
instruction with several instances."""

from typing import Any, NamedTuple

from pixel_pipeline.conversations.formats import posts
from pixel_pipeline.conversations.formats.fields import besides, first_key, key_names
from pixel_pipeline.conversations.formats.known import find_format
from pixel_pipeline.conversations.formats.metadata import LANGUAGE_KEYS
from pixel_pipeline.conversations.formats.roles import role_of
from pixel_pipeline.conversations.threads import trees

SESSION_KEYS = (
    "conversations",
    "sessions",
    "dialogues",
    "dialogs",
    "data",
    "records",
    "examples",
    "items",
    "rows",
)
# Under other names a list of lists of texts is rather a table.
_EXCHANGE_KEYS = frozenset(("conversations", "dialogues", "dialogs"))
_LOOKED_AT = 20
_SMALL = (str, int, float, bool, type(None))
_LONGEST_SHARED = 256
_REPLIES = ("replies", "children", "responses")
_COMMENTS = ("comments", "answers", "replies")
_COMMENT_TEXTS = ("body", "text", "comment", "content", "answer", "message")
_SPEAKERS = ("role", "author", "speaker", "sender", "from")
_OWN = ("message_id", "user_message_id", "post_id", "comment_id", "uuid", "id")
_PARENTS = ("parent_id", "parent_message_id", "parentid", "reply_to", "in_reply_to", "parent")
THREAD = "thread"
"""Key under which `threads` hands over the messages of one thread."""


class Sessions(NamedTuple):
    """The conversations of one record, and what stands beside them.

    Attributes:
        values: One record each.
        shared: Short scalars beside them: they describe every session.
        rest: Everything else beside them: kept once, with the first session.
    """

    values: list[Any]
    shared: dict[str, Any]
    rest: dict[str, Any]

    def context_of(self, index: int, outer: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """Returns what the metadata of one session gets from its surroundings."""
        context = dict(outer or {})
        if self.shared or (self.rest and index == 0):
            context["document"] = {**self.shared, **self.rest} if index == 0 else self.shared
        return context or None


def sessions_of(value: Any) -> Sessions | None:
    """Returns the sessions of a record that no format matches as a whole; None where it holds none.

    Raises:
        RecordError: `tree_too_wide`.
    """
    if not isinstance(value, dict):
        return None
    for takes_apart in (_listed, _thread, _tree, _post, _instances):
        sessions = takes_apart(value)
        if sessions is not None:
            return sessions
    return None


def link_keys(row: dict[str, Any]) -> tuple[str, str] | None:
    """Returns the keys under which a message has its own name and that of the message it answers; None where it has none."""
    names = key_names(row)
    own, parent = first_key(names, _OWN), first_key(names, _PARENTS)
    return None if own is None or parent is None else (own, parent)


def _listed(value: dict[str, Any]) -> Sessions | None:
    for key in SESSION_KEYS:
        values = value.get(key)
        if not isinstance(values, list):
            continue
        plain = [_is_plain_exchange(item) for item in values[:_LOOKED_AT]] if key in _EXCHANGE_KEYS else []
        if any(plain) and 2 * sum(plain) >= len(plain):
            # Chat bot corpora: lists of what is said in turn.
            values = [{"dialogue": item} if _is_plain_exchange(item) else item for item in values]
        if any(isinstance(item, dict | list) and find_format(item) for item in values[:_LOOKED_AT]):
            return sessions_beside(values, besides(value, (key,)))
    return None


def _is_plain_exchange(item: Any) -> bool:
    return (
        isinstance(item, list)
        and len(item) > 1
        and all(isinstance(said, str) for said in item)
        and not find_format(item)
    )


def _thread(value: dict[str, Any]) -> Sessions | None:
    rows = value.get(THREAD)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        return None
    keys = link_keys(rows[0])
    if keys is None:
        return None
    own, parent = keys
    return _trees(trees.linked(rows, own=own, parent=parent, speakers=_SPEAKERS), besides(value, (THREAD,)))


def _tree(value: dict[str, Any]) -> Sessions | None:
    """A message with its replies within, or under `prompt`."""
    holder = value.get("prompt")
    top = holder if isinstance(holder, dict) else value
    speaker = first_key(key_names(top), _SPEAKERS)
    if (
        speaker is None
        or not any(isinstance(top.get(key), list) for key in _REPLIES)
        or not isinstance(top.get("text"), str)
    ):
        return None

    def role(message: dict[str, Any], above: trees.Node | None) -> str | None:
        said = message.get(speaker)
        return role_of(said) if isinstance(said, str) else None

    outer = besides(value, ("prompt",)) if top is holder else {}
    return _trees([trees.nested(top, replies=_REPLIES, role=role)], outer)


def _post(value: dict[str, Any]) -> Sessions | None:
    names = key_names(value)
    asked, comments = posts.asked_keys(names), first_key(names, _COMMENTS)
    if not asked or comments is None or not isinstance(value[comments], list):
        return None
    asker = value.get("author")

    def role(message: dict[str, Any], above: trees.Node | None) -> str | None:
        if above is None or (asker and message.get("author") == asker):
            return "user"
        if "author" in message:
            return "assistant"
        return "assistant" if above.role == "user" else "user"

    top = {"text": posts.asked_text(value, asked), comments: [_comment(item) for item in value[comments]]}
    tree = trees.nested(top, replies=(comments, *_COMMENTS, *_REPLIES), role=role)
    for node in trees.walk(tree):
        text = first_key(key_names(node.turn), _COMMENT_TEXTS)
        node.turn.update(role=node.role, text=node.turn.pop(text) if text is not None else "")
        if str(node.turn["text"]).strip().lower() in posts.GONE and node is not tree:
            node.turn["deleted"] = True
    return _trees([tree], besides(value, (*asked, comments)))


def _comment(item: Any) -> Any:
    return {"text": item} if isinstance(item, str) else item


def _instances(value: dict[str, Any]) -> Sessions | None:
    """`{"instruction": …, "instances": [{"input": …, "output": …}, …]}`, as seed tasks are given."""
    instances = value.get("instances")
    if not isinstance(value.get("instruction"), str) or not isinstance(instances, list):
        return None
    whole = [
        {"instruction": value["instruction"], **item} if isinstance(item, dict) else item
        for item in instances
    ]
    return (
        sessions_beside(whole, besides(value, ("instruction", "instances")))
        if any(map(find_format, whole))
        else None
    )


def _trees(roots: list[trees.Node], outer: dict[str, Any]) -> Sessions:
    values: list[Any] = []
    for root in roots:
        found, not_taken = trees.paths(root)
        besides_them = {"not_taken": not_taken} if not_taken else {}
        values += [{"messages": turns, **_language(turns), **besides_them} for turns in found]
    return sessions_beside(values, outer)


def _language(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """What the messages of a path all say about their language."""
    key = next((key for key in LANGUAGE_KEYS if isinstance(turns[0].get(key), str)), None)
    alike = key is not None and all(turn.get(key) == turns[0][key] for turn in turns)
    return {key: turns[0][key]} if key is not None and alike else {}


def sessions_beside(values: list[Any], beside: dict[str, Any]) -> Sessions:
    """Sessions, and what an object has beside the list of them."""
    shared: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for name, item in beside.items():
        short = isinstance(item, _SMALL) and not (isinstance(item, str) and len(item) > _LONGEST_SHARED)
        (shared if short else rest)[name] = item
    return Sessions(values, shared, rest)
