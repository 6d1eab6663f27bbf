"""Whether turns are a conversation that a model can be trained on."""

from itertools import groupby

from pixel_pipeline.conversations.model.options import DEFAULT_OPTIONS, ConversionOptions
from pixel_pipeline.conversations.model.records import Message, RecordError, count


def validated(
    messages: list[Message], repaired: dict[str, int], options: ConversionOptions = DEFAULT_OPTIONS
) -> list[Message]:
    """Check the turns of one conversation, and join neighbours of the same role. Nothing is truncated.

    Args:
        messages: Turns in order, with canonical roles.
        repaired: Counts `joined_turns`: turns appended to the previous one, after a line end.
        options: Uses `one_sided` and `longest`.

    Returns:
        The turns; the same list if none had to be joined.

    Raises:
        RecordError: `empty_turn`, `misplaced_system` (a system turn that is not the first), `one_sided` (no user or no
            assistant turn; neither, if one side is enough) or `too_long`.
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
    count(repaired, "joined_turns", neighbours)
    runs = groupby(messages, key=lambda message: message[0])
    return [(role, "\n".join(content for _, content in run)) for role, run in runs]
