"""Posts with comments, as forums export them: `{"title": …, "selftext": …, "comments": [{"author": …, "body": …}, …]}`.

The post is the user turn, a comment the answer. Each comment to the post opens a conversation of its own, unless they
carry scores: then only the best one does. Threads are followed as long as the two take turns (`trees.paths`).
Here stands what holds one comment; `bundles.sessions_of` takes posts with many apart.
"""

from typing import Any

from pixel_pipeline.conversations.formats.fields import besides, first_key, key_names, optional_text, text_of
from pixel_pipeline.conversations.model.records import Message, Parsed

NAME = "posts"
TITLES = ("title", "post_title", "question_title", "questiontitle", "subject")
BODIES = ("selftext", "post_text", "post_body", "post", "body", "question_body", "description")
_ANSWERS = (
    "comment", "top_comment", "best_comment", "comment_body", "comment_text", "best_answer", "top_answer", "accepted_answer",
    "reply", "answer", "response", "answertext",
)  # fmt: skip
GONE = frozenset(("", "[deleted]", "[removed]", "[ removed by reddit ]", "deleted", "removed"))


def matches(record: Any) -> bool:
    if not isinstance(record, dict):
        return False
    names = key_names(record)
    answer = first_key(names, _ANSWERS)
    return asked_keys(names) != [] and answer is not None and isinstance(record[answer], str)


def convert(record: Any) -> Parsed:
    names = key_names(record)
    asked, answer = asked_keys(names), first_key(names, _ANSWERS) or ""
    messages: list[Message] = [("user", asked_text(record, asked)), ("assistant", text_of(record, answer))]
    return Parsed(messages, besides(record, (*asked, answer)))


def asked_keys(names: dict[str, str]) -> list[str]:
    """Returns a post's own keys for its title and its text; none where it is no post."""
    title, body = first_key(names, TITLES), first_key(names, BODIES)
    # A title alone, or a body alone under a common name, has many an article too.
    if title is None and body not in [names.get(name) for name in BODIES[:3]]:
        return []
    return [key for key in (title, body) if key is not None]


def asked_text(record: dict[str, Any], keys: list[str]) -> str:
    """Returns title and text of a post, with a blank line between them; without a text that was taken down."""
    parts = [optional_text(record, key).strip() for key in keys]
    return "\n\n".join(part for part in parts if part.lower() not in GONE)
