"""Whole columns looked at at once find what one look at each text finds."""

import sys
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
import numpy as np

from pixel_pipeline.conversations.model import columns
from pixel_pipeline.conversations.model.columns import (
    blank,
    dirty,
    tagged,
    texts_of,
    unsettled,
)
from pixel_pipeline.conversations.model.identity import composed
from pixel_pipeline.conversations.text.cleaning import clean

# Every kind of character that cleaning, blankness or composition turns on, and plain ones between them.
odd = st.sampled_from(
    [
        *"ab \n\t\r\x00\x0b\x1f\x7f\x80\x85\x9f\xa0\xad&<>;#",
        *"\u200b\u200d\u2000\u2028\u3000\ufeff\u2060\u20ac\u2026",
        *"\u00e9\u0301\u00c3\u00a9\u00e2\u0080\u0099\u2126\u212b\u1100\u1161\uf900\u4e2d\u3042\u3099",
        "&amp;", "<br>", "<p>", "</p>", ":", "：", "]", "\u00c3\u00a9", "\u00e2\u20ac\u2122", "\U0001f600",
    ]
)  # fmt: skip
texts = st.lists(
    st.lists(odd | st.characters(exclude_categories=["Cs"]), max_size=6).map("".join), max_size=8
)


@given(texts)
def test_no_text_that_cleaning_changes_is_missed(values: list[str]) -> None:
    flags = dirty(texts_of(values))
    for value, flag in zip(values, flags, strict=True):
        assert flag or clean(value, {}) == value


@given(texts)
def test_blank_texts_are_those_that_are_empty_or_white_space(values: list[str]) -> None:
    assert blank(texts_of(values)).tolist() == [not value or value.isspace() for value in values]


def test_white_space_is_that_of_python() -> None:
    characters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    assert blank(texts_of(characters)).tolist() == [character.isspace() for character in characters]


@given(texts)
def test_what_is_hashed_as_it_stands_is_settled(values: list[str]) -> None:
    for value, flag in zip(values, unsettled(texts_of(values)), strict=True):
        assert flag or composed(value) == value.encode()


@given(
    st.lists(st.integers(0, 255), max_size=40),
    st.lists(st.integers(0, 255), min_size=1, max_size=4),
    st.data(),
)
def test_places_are_found_whatever_the_pieces(
    values: list[int], wanted: list[int], data: st.DataObject
) -> None:
    with mock.patch.object(columns, "_PIECE", data.draw(st.integers(1, 50))):
        found = columns.places_of(np.array(values, np.uint8), bytes(wanted)).tolist()
    assert found == [place for place, value in enumerate(values) if value in wanted]


def test_plain_texts_are_not_looked_at_again() -> None:
    values = ["How are you?\n\nFine.", "caf\u00e9 \u201cnon\u201d \u2014 oui", "\u6211\u5f88\u597d\u3002", ""]
    laid = texts_of(values)
    assert not dirty(laid).any()
    assert not unsettled(laid).any()
    assert blank(laid).tolist() == [False, False, False, True]


@given(st.lists(st.text("者师：a。", max_size=5), max_size=5))
def test_tags_within(values: list[str]) -> None:
    # A tag may also lie across the border of two texts: the look is a closer one then, never a missed one.
    flags = tagged(texts_of(values))
    for value, flag in zip(values, flags, strict=True):
        assert flag or not ("者：" in value or "师：" in value)
    assert not tagged(texts_of(["：者师", "a者a", "："])).any()
