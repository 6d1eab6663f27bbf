"""Memos: a step is skipped only if exactly the same was finished before."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.memo import Memo, fingerprint

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def test_recall_needs_the_same_fingerprint(lake: Lake) -> None:
    memo = Memo(lake, "stage/family")
    assert memo.recall("a") is None
    memo.remember("a", {"rows": 3, "names": ["x"]})
    assert memo.recall("a") == {"rows": 3, "names": ["x"]}
    assert memo.recall("b") is None
    assert Memo(lake, "stage/other").recall("a") is None
    memo.remember("b", {})
    assert memo.recall("a") is None
    assert memo.recall("b") == {}
    memo.forget()
    memo.forget()
    assert memo.recall("b") is None


def test_a_damaged_memo_is_named(lake: Lake) -> None:
    memo = Memo(lake, "stage")
    memo.remember("a", {})
    lake.data.put("_pixel/memo/stage.json", b"{")
    with pytest.raises(PixelError, match=r"_pixel/memo/stage\.json"):
        memo.recall("a")


@given(value=JSON, other=JSON)
def test_fingerprints_differ_for_different_values(value: object, other: object) -> None:
    assert fingerprint(value) == fingerprint(value)
    assert (fingerprint(value) == fingerprint(other)) == (repr_json(value) == repr_json(other))


def repr_json(value: object) -> object:
    """A value with sorted dictionaries; True and 1 differ."""
    if isinstance(value, dict):
        return ("dict", sorted((key, repr_json(item)) for key, item in value.items()).__repr__())
    if isinstance(value, list):
        return ("list", [repr_json(item) for item in value].__repr__())
    return (type(value).__name__, repr(value))


def test_fingerprints_separate_the_parts() -> None:
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    assert fingerprint(["a"], "b") != fingerprint("a", ["b"])
    assert fingerprint({"b": 1, "a": 2}) == fingerprint({"a": 2, "b": 1})
