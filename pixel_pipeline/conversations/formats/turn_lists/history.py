"""Earlier turns of a record, given in addition to its last question and answer."""

from typing import Any

from pixel_pipeline.conversations.formats.turn_lists.turn_list import parse_turns
from pixel_pipeline.conversations.model.records import Message, RecordError

_QUESTIONS = ("query", "question", "prompt", "input", "instruction", "user", "human", "q")
_ANSWERS = ("response", "answer", "output", "assistant", "bot", "a")


def history_messages(history: Any) -> list[Message]:
    """Convert `[[question, answer], …]`, `[{"query": …, "response": …}, …]` or `[{"role": …, "content": …}, …]`.

    Raises:
        RecordError: `bad_history`, or as `parse_turns`.
    """
    if history in (None, "", []):
        return []
    if not isinstance(history, list):
        raise RecordError("bad_history", f"expected a list of earlier turns, found {type(history).__name__}")
    if isinstance(history[0], dict) and "role" in history[0]:
        return parse_turns(history, role_keys=("role",), content_keys=("content", "text", "value")).messages
    messages: list[Message] = []
    for index, exchange in enumerate(history):
        if isinstance(exchange, list) and len(exchange) == 2:
            asked, answered = exchange
        elif isinstance(exchange, dict):
            asked = next((exchange[key] for key in _QUESTIONS if key in exchange), None)
            answered = next((exchange[key] for key in _ANSWERS if key in exchange), None)
        else:
            raise RecordError(
                "bad_history", f"exchange {index} of {len(history)} is not a question with an answer"
            )
        if not isinstance(asked, str) or not isinstance(answered, str):
            raise RecordError("bad_history", f"exchange {index} of {len(history)} is not two texts")
        messages += [("user", asked), ("assistant", answered)]
    return messages
