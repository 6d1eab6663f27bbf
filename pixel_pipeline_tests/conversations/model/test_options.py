"""Effects of a rule's options, for JSON lines and arrays."""

from typing import Any

import orjson
import pytest

from pixel_pipeline.conversations.model.options import ConversionOptions
from pixel_pipeline_tests.conversations.converted import Converted, convert, lines, sharegpt


def _both_ways(*records: dict[str, Any], options: ConversionOptions) -> Converted:
    """Converts records as JSON lines and as an array, with equal results."""
    short, long = (
        convert(data, options=options) for data in (lines(*records), b"[" + orjson.dumps(records)[1:])
    )
    assert short.messages == long.messages
    assert short.error_classes == long.error_classes
    assert short.conversations["reasoning"].equals(long.conversations["reasoning"])
    return short


def test_a_rule_can_keep_one_sided_conversations() -> None:
    alone = {"conversations": [{"from": "human", "value": "Dear diary"}]}
    answers = {"conversations": [{"from": "gpt", "value": "Breathe in."}, {"from": "gpt", "value": "Out."}]}
    nobody = {"conversations": [{"from": "system", "value": "Be kind."}]}
    records = (sharegpt("a", "b"), alone, answers, nobody, sharegpt("c", "d"))
    assert _both_ways(*records, options=ConversionOptions()).error_classes == ["one_sided"] * 3
    kept = _both_ways(*records, options=ConversionOptions(one_sided="keep"))
    assert kept.messages == [
        [("user", "a"), ("assistant", "b")],
        [("user", "Dear diary")],
        [("assistant", "Breathe in.\nOut.")],
        [("user", "c"), ("assistant", "d")],
    ]
    assert kept.error_classes == ["one_sided"]


def test_a_conversation_over_the_length_is_refused_whole() -> None:
    # One has six characters in twelve bytes, one has seven.
    records = (sharegpt("a", "b"), sharegpt("äöü", "äöü"), sharegpt("abc", "defg"), sharegpt("c", "d"))
    got = _both_ways(*records, options=ConversionOptions(longest=6))
    assert got.messages == [
        [("user", first), ("assistant", second)] for first, second in [("a", "b"), ("äöü", "äöü"), ("c", "d")]
    ]
    assert got.error_classes == ["too_long"]
    assert got.bad[0]["reason"] == "7 characters in 2 turns; the rule allows 6"
    assert _both_ways(*records, options=ConversionOptions()).ledger.records_out == 4


def test_a_rule_can_put_thoughts_before_the_last_answer() -> None:
    records = (
        {"Question": "Why?", "Complex_CoT": " It is\r\nso. ", "Response": "Because."},
        sharegpt("a", "<think>first</think>b", "c", "<think>second</think>d"),
        sharegpt("e", "f"),
    )
    apart = _both_ways(*records, options=ConversionOptions())
    assert apart.conversations["reasoning"].to_pylist() == [" It is\nso. ", "second", None]
    inside = _both_ways(*records, options=ConversionOptions(reasoning="think"))
    assert inside.messages == [
        [("user", "Why?"), ("assistant", "<think>\nIt is\nso.\n</think>\n\nBecause.")],
        [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "<think>\nsecond\n</think>\n\nd")],
        [("user", "e"), ("assistant", "f")],
    ]
    assert inside.conversations["reasoning"].null_count == 3
    # A second conversion separates them again.
    again = convert(
        lines(*({"messages": [{"role": r, "content": c} for r, c in turns]} for turns in inside.messages))
    )
    assert again.messages == apart.messages
    assert again.conversations["reasoning"].to_pylist() == ["It is\nso.", "second", None]


@pytest.mark.parametrize("reasoning", ["apart", "think"])
def test_joined_answers_have_one_thought(reasoning: Any) -> None:
    record = {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "assistant", "content": "c", "reasoning_content": "so"},
        ]
    }
    got = _both_ways(record, options=ConversionOptions(reasoning=reasoning))
    thought = "<think>\nso\n</think>\n\n" if reasoning == "think" else ""
    assert got.messages == [[("user", "a"), ("assistant", f"{thought}b\nc")]]
