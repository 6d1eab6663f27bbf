"""Posts with a comment, as forums export them: `{"title": …, "selftext": …, "top_comment": …}`.

The post is the user turn, the comment the answer. `threads.sessions` splits posts with many comments.
"""

from typing import Any

from pixel_pipeline.conversations.formats.fields import first_key, key_names, optional_text, text_of, without
from pixel_pipeline.conversations.model.records import Message, Parsed

NAME = "posts"
TITLES = ("title", "post_title", "question_title", "questiontitle", "subject")
BODIES = ("selftext", "post_text", "post_body", "post", "body", "question_body", "description")
_ANSWERS = (
    "comment", "top_comment", "best_comment", "comment_body", "comment_text", "best_answer", "top_answer", "accepted_answer",
    "reply", "answer", "response", "answertext",
)  # fmt: skip
DELETED = frozenset(("", "[deleted]", "[removed]", "[ removed by reddit ]", "deleted", "removed"))


def matches(record: Any) -> bool:
    if not isinstance(record, dict):
        return False
    names = key_names(record)
    answer = first_key(names, _ANSWERS)
    return post_keys(names) != [] and answer is not None and isinstance(record[answer], str)


def convert(record: Any) -> Parsed:
    names = key_names(record)
    post, answer = post_keys(names), first_key(names, _ANSWERS) or ""
    messages: list[Message] = [("user", post_text(record, post)), ("assistant", text_of(record, answer))]
    return Parsed(messages, without(record, (*post, answer)))


def post_keys(names: dict[str, str]) -> list[str]:
    """Return a post's own keys for its title and its text; none if it is not a post."""
    title, body = first_key(names, TITLES), first_key(names, BODIES)
    # Many articles have only a body, under one of the common names.
    if title is None and body not in [names.get(name) for name in BODIES[:3]]:
        return []
    return [key for key in (title, body) if key is not None]


def post_text(record: dict[str, Any], keys: list[str]) -> str:
    """Return title and text of a post, separated by a blank line, without a deleted text."""
    parts = [optional_text(record, key).strip() for key in keys]
    return "\n\n".join(part for part in parts if part.lower() not in DELETED)
