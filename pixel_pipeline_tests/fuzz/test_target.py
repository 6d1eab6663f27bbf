"""The fuzzer's target without the fuzzer: on what it begins with, and on bytes that hypothesis makes."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from pixel_pipeline_tests.examples import examples
from pixel_pipeline_tests.fuzz.seeds import seeds
from pixel_pipeline_tests.fuzz.target import KINDS, check


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_fuzzer_begins_with(kind: str) -> None:
    inputs = [data for seed_kind, data in seeds() if seed_kind == kind]
    assert inputs
    for data in inputs:
        check(data)


@examples(100)
@given(st.integers(0, 255), st.integers(0, 1), st.binary(max_size=400))
def test_bytes_that_choose(kind: int, mode: int, data: bytes) -> None:
    check(bytes([kind, mode]) + data)
