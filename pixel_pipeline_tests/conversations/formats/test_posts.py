"""posts: questions in a forum and their answers."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from pixel_pipeline.conversations.model.records import Parsed
from pixel_pipeline_tests.conversations.converted import Converted, convert, lines

Parse = Callable[[Any], Parsed]


def test_a_post_with_one_comment(parse: Parse) -> None:
    got = parse({"title": "Sleep", "selftext": "I lie awake.", "comment": "Since when?", "score": 3})
    assert got.messages == [("user", "Sleep\n\nI lie awake."), ("assistant", "Since when?")]
    assert got.metadata == {"score": 3}
    assert parse({"title": "Sleep", "selftext": "[removed]", "comment": "a"}).messages[0] == ("user", "Sleep")


def post(*comments: Any, **more: Any) -> Converted:
    record = {"id": "p", "title": "Sleep", "selftext": "I lie awake.", "comments": list(comments), **more}
    return convert(lines(record, record))


def test_each_comment_opens_a_conversation() -> None:
    got = post("Since when?", {"author": "b", "body": "Me too."}, {"author": "c", "body": "[deleted]"})
    assert [turns[1] for turns in got.messages[:2]] == [
        ("assistant", "Since when?"),
        ("assistant", "Me too."),
    ]
    assert got.ledger.records_out == 4
    assert orjson.loads(got.rows[0]["metadata"]) == {"not_taken": 1, "document": {"id": "p"}}


def test_of_comments_with_scores_the_best_is_followed_as_long_as_two_speak() -> None:
    thread = {
        "author": "b", "body": "Since when?", "score": 9,
        "replies": [{"author": "asker", "body": "May.", "replies": [
            {"author": "b", "body": "I see.", "replies": [{"author": "c", "body": "Same here."}]}]}],
    }  # fmt: skip
    got = post({"author": "c", "body": "Bad.", "score": -2}, thread, author="asker")
    assert got.messages[0] == [
        ("user", "Sleep\n\nI lie awake."), ("assistant", "Since when?"), ("user", "May."), ("assistant", "I see."),
    ]  # fmt: skip
    assert orjson.loads(got.rows[0]["metadata"])["not_taken"] == 2


@pytest.mark.parametrize("comments", [[], ["[removed]"], [None, 5]])
def test_a_post_without_answers(comments: list[Any]) -> None:
    assert post(*comments).error_classes == ["one_sided"] * 2
