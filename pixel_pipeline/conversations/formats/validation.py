"""What makes turns a conversation one can train on."""

from pixel_pipeline.conversations.model.options import DEFAULT_OPTIONS, ConversionOptions
from pixel_pipeline.conversations.model.records import Message, RecordError


def validated(
    messages: list[Message], repaired: dict[str, int], options: ConversionOptions = DEFAULT_OPTIONS
) -> list[Message]:
    """Checks the turns of one conversation and joins neighbours of the same role. None is ever
    cut.

    Args:
        messages: Turns in order, roles canonical.
        repaired: Gets `joined_turns`: turns joined to the one before, with a line end between them.
        options: `one_sided` and `longest` are looked at.

    Returns:
        The turns; the same list when nothing had to be joined.

    Raises:
        RecordError: `empty_turn`, `misplaced_system` (a system turn after the opening), `one_sided` (no user or no
            assistant turn; where one side is enough, neither) or `too_long`.
    """
    roles = set()
    previous = ""
    neighbours = 0
    for index, (role, content) in enumerate(messages):
        if not content or content.isspace():
            raise RecordError("empty_turn", f"turn {index} of {len(messages)} ({role}) is blank")
        if role == previous:
            neighbours += 1
        elif role == "system" and previous:
            raise RecordError("misplaced_system", f"turn {index} of {len(messages)} is a system turn")
        roles.add(role)
        previous = role
    sides = len(roles & {"user", "assistant"})
    if sides < (1 if options.one_sided == "keep" else 2):
        present = ", ".join(sorted(roles)) or "no turns"
        raise RecordError("one_sided", f"expected user and assistant turns, found {present}")
    if options.longest is not None:
        size = sum(len(content) for _, content in messages)
        if size > options.longest:
            reason = f"{size:,} characters in {len(messages)} turns; the rule allows {options.longest:,}"
            raise RecordError("too_long", reason)
    if not neighbours:
        return messages
    repaired["joined_turns"] = repaired.get("joined_turns", 0) + neighbours
    return _joined(messages)


def _joined(messages: list[Message]) -> list[Message]:
    runs: list[tuple[str, list[str]]] = []
    for role, content in messages:
        if runs and runs[-1][0] == role:
            runs[-1][1].append(content)
        else:
            runs.append((role, [content]))
    return [(role, "\n".join(contents)) for role, contents in runs]
