from hypothesis import given

from pixel_pipeline.conversations.inspect.shapes import OTHERS, shapes_of, speakers_of
from pixel_pipeline_tests.conversations.converted import sharegpt
from pixel_pipeline_tests.conversations.test_properties import values


def test_records_with_the_same_keys_share_a_shape() -> None:
    records = [
        sharegpt("a", "b", id=1, topic=None),
        {"prompt": "a", "response": "b"},
        sharegpt("c", "d", "e", id=2.5, topic="t"),
        sharegpt(id=True, topic=[]),
    ]
    assert shapes_of(records) == [
        (
            3,
            "{conversations: 0–3 × {from: text, value: text}, id: number or true/false, "
            "topic: text or empty list or null}",
        ),
        (1, "{prompt: text, response: text}"),
    ]


def test_shapes_contain_no_text() -> None:
    record = {"I told her everything": 1, "a": {"no, never": 2, "b": 3}, "c": [{"d": 1}, {"e": "x"}]}
    [(_, shape)] = shapes_of([record])
    assert shape == (
        "{a: {b: number, 1 keys that are not identifiers}, c: 2 × {d?: number, e?: text}, "
        "1 keys that are not identifiers}"
    )


def test_shapes_are_bounded() -> None:
    nested: object = "x"
    for _ in range(50):
        nested = {"k": [nested]}
    [(_, deep)] = shapes_of([nested])
    [(_, wide)] = shapes_of([{f"k{n}": n for n in range(500)}])
    assert len(deep) < 100
    assert wide.endswith("488 more keys}")


def test_speakers_are_counted_by_spelling_without_names() -> None:
    turns = [{"speaker": "Anna Smith", "text": "Speaker: x"}, {"speaker": "Therapist", "text": "y"}]
    assert speakers_of([sharegpt("a", "b"), {"turns": turns}]) == {
        "human": 1,
        "gpt": 1,
        "Therapist": 1,
        OTHERS: 1,
    }
    assert speakers_of(["Client: Hello\nand more\nTherapist: Hi\nClient: So"]) == {
        "Client": 2,
        "Therapist": 1,
    }
    assert not speakers_of([{"meta": {"author": "Anna"}, "prompt": "User: x", "response": "Bot: y"}])


@given(values)
def test_any_value_has_a_shape(value: object) -> None:
    [(n, shape)] = shapes_of([value])
    assert n == 1
    assert shape
    speakers_of([value])
