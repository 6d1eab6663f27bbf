"""Trees of messages: the paths that become conversations, and limits for hostile trees."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import orjson
import pytest

from pixel_pipeline.conversations.model.records import RecordError
from pixel_pipeline.conversations.threads import trees
from pixel_pipeline_tests.conversations.converted import Converted, convert, lines


def message(text: str, *replies: Any, **more: Any) -> dict[str, Any]:
    role = "prompter" if text[0] == "q" else "assistant"
    return {"message_id": text, "text": text, "role": role, "replies": list(replies), **more}


def texts(got: Converted) -> list[list[str]]:
    return [[content for _, content in turns] for turns in got.messages]


TREE = message(
    "q1",
    message("a1", message("q2", message("a3")), message("q3", message("a4"), message("a5"))),
    message("a2"),
)


@pytest.mark.parametrize("wrapped", [False, True])
def test_each_leaf_is_a_conversation(wrapped: bool) -> None:
    record = {"message_tree_id": "t", "tree_state": "done", "prompt": TREE} if wrapped else TREE
    got = convert(lines(record, record))
    assert texts(got)[:4] == [
        ["q1", "a1", "q2", "a3"],
        ["q1", "a1", "q3", "a4"],
        ["q1", "a1", "q3", "a5"],
        ["q1", "a2"],
    ]
    assert got.ledger.records_in == 8
    if wrapped:
        assert orjson.loads(got.rows[0]["metadata"])["document"] == {
            "message_tree_id": "t",
            "tree_state": "done",
        }


def test_only_the_best_ranked_answer_is_followed() -> None:
    tree = message("q1", message("a1", rank=1), message("a2", message("q2"), rank=0), message("a3", rank=2))
    got = convert(lines(tree, tree))
    assert texts(got) == [["q1", "a2"]] * 2
    assert orjson.loads(got.rows[0]["metadata"])["not_taken"] == 3


def test_a_path_has_the_language_of_all_its_messages() -> None:
    tree = message("q1", message("a1", lang="de"), message("a2", lang="en"), message("a3"), lang="de")
    assert [row["language"] for row in convert(lines(tree)).rows] == ["de", None, None]


def test_deleted_and_unanswered_messages_are_left_out() -> None:
    tree = message("q1", message("a1", deleted=True), message("a2", message("q2")))
    assert texts(convert(lines(tree, tree)))[0] == ["q1", "a2"]
    alone = message("q1")
    assert convert(lines(alone, alone)).error_classes == ["one_sided"] * 2


def test_a_tree_too_wide_is_quarantined() -> None:
    wide = trees.Node({}, "user")
    top = wide
    for _ in range(3000):
        answer, asked = trees.Node({}, "assistant"), trees.Node({}, "user")
        wide.answers += [answer, trees.Node({}, "assistant")]
        answer.answers.append(asked)
        wide = asked
    with pytest.raises(RecordError, match="tree_too_wide"):
        trees.paths(top)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 6), st.none() | st.integers(0, 6), st.sampled_from(["user", "assistant", "x"])
        ),
        max_size=9,
    )
)
def test_any_links_make_trees_with_each_message_once(
    links: list[tuple[int, int | None, str]],
) -> None:
    rows = [
        {"id": own, "parent": parent, "role": role, "n": n} for n, (own, parent, role) in enumerate(links)
    ]
    roots = trees.linked(rows, own="id", parent="parent", speakers=("role",))
    found = [node.turn["n"] for root in roots for node in trees.walk(root)]
    assert sorted(found) == list(range(len(rows)))
    for root in roots:
        paths, not_taken = trees.paths(root)
        assert paths
        assert len({turn["n"] for path in paths for turn in path}) + not_taken == len(list(trees.walk(root)))
