"""Message trees: each path from the root to a leaf becomes a conversation.

If answers have a rank or a score, only the best one is followed; otherwise all are. An unanswered question at the end is left out.
The metadata of each conversation holds the number of messages that are on no path (`not_taken`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pixel_pipeline.conversations.formats.fields import without
from pixel_pipeline.conversations.formats.roles import role_of
from pixel_pipeline.conversations.model.records import RecordError

_RANKS = ("rank",)
_SCORES = ("score", "ups", "upvotes", "likes", "points", "votes")
_MOST_TURNS_PER_MESSAGE = 20
_LEAST_LIMIT = 10_000


@dataclass(eq=False, repr=False, slots=True)
class Node:
    """One message and the answers to it.

    Attributes:
        turn: The message of the source without its answers; speaker and text are under keys that `chatml` knows.
        role: Canonical role of its speaker.
        answers: Filled while the tree is built.
    """

    turn: dict[str, Any]
    role: str | None
    answers: list["Node"] = field(default_factory=list)


def paths(root: Node) -> tuple[list[list[dict[str, Any]]], int]:
    """Return the conversations of a tree, in the order of their leaves, and the number of messages on none of them.

    Raises:
        RecordError: `tree_too_wide`: all paths together are many times longer than the tree, which no real tree's are.
    """
    messages = sum(1 for _ in walk(root))
    found: list[list[dict[str, Any]]] = []
    taken: set[int] = set()
    limit = max(_LEAST_LIMIT, _MOST_TURNS_PER_MESSAGE * messages)
    path: list[Node] = []
    pending: list[tuple[Node, int]] = [(root, 0)]
    while pending:
        node, depth = pending.pop()
        del path[depth:]
        path.append(node)
        answers = _followed(node)
        pending += [(answer, depth + 1) for answer in reversed(answers)]
        if not answers:
            taken.update(map(id, path))
            found.append([node.turn for node in path])
            limit -= len(path)
            if limit < 0:
                raise RecordError("tree_too_wide", f"{len(found)} paths are too long for {messages} messages")
    return found, messages - len(taken)


def _followed(node: Node) -> list[Node]:
    """Return the answers that a path continues with: not deleted, by the other side, and answered if they are questions."""
    answers = [
        answer
        for answer in node.answers
        if not answer.turn.get("deleted")
        and (answer.role is None or answer.role != node.role)
        and (answer.role != "user" or answer.answers)
    ]
    for keys, best in ((_RANKS, min), (_SCORES, max)):
        scored = [
            (number, answer) for answer in answers if (number := _number(answer.turn, keys)) is not None
        ]
        if scored:
            return [best(scored, key=lambda pair: pair[0])[1]]
    return answers


def nested(
    message: dict[str, Any],
    *,
    replies: Sequence[str],
    role: Callable[[dict[str, Any], Node | None], str | None],
) -> Node:
    """Build the tree of a message that contains its answers.

    Args:
        replies: Keys that may hold the list of answers.
        role: Returns the role of a message, given the message and the node it answers.
    """
    top = Node(without(message, replies), role(message, None))
    pending = [(message, top)]
    while pending:
        value, node = pending.pop()
        held: list[Any] = next((value[key] for key in replies if isinstance(value.get(key), list)), [])
        for answer in held:
            if isinstance(answer, dict):
                child = Node(without(answer, replies), role(answer, node))
                node.answers.append(child)
                pending.append((answer, child))
    return top


def linked(rows: Sequence[dict[str, Any]], *, own: str, parent: str, speakers: Sequence[str]) -> list[Node]:
    """Build the trees of a flat list of messages that name the message they answer.

    A message whose parent is missing is a root, and so is one message of each cycle. Of messages with the same name, the first
    gets the answers.
    """
    nodes = [
        Node(row, next((role_of(row[key]) for key in speakers if isinstance(row.get(key), str)), None))
        for row in rows
    ]
    by_name: dict[str, Node] = {}
    for node in nodes:
        by_name.setdefault(str(node.turn.get(own)), node)
    above: dict[int, Node] = {}
    for node in nodes:
        link = node.turn.get(parent)
        other = by_name.get(str(link)) if link not in (None, "") else None
        if other is not None and other is not node:
            above[id(node)] = other
            other.answers.append(node)
    roots = [node for node in nodes if id(node) not in above]
    reached = {id(node) for root in roots for node in walk(root)}
    for node in nodes:
        if id(node) not in reached:
            # A cycle is cut at its first message.
            answers = above[id(node)].answers
            answers[:] = [answer for answer in answers if answer is not node]
            roots.append(node)
            reached.update(id(below) for below in walk(node))
    return roots


def walk(root: Node) -> Iterator[Node]:
    """Iterate over a tree, the root first."""
    pending = [root]
    while pending:
        node = pending.pop()
        yield node
        pending += node.answers


def _number(turn: dict[str, Any], keys: Sequence[str]) -> float | None:
    value = next((turn[key] for key in keys if turn.get(key) is not None), None)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and value == value
    return value if is_number else None
