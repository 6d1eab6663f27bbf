"""The tokenizer is a pure function of its texts."""

import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
import pytest
from tokenizers import Tokenizer

from pixel_pipeline.tokens.tokenizer import serialize, train_tokenizer

TRAIN = """
from hashlib import sha256
from pixel_pipeline.tokens.tokenizer import serialize, train_tokenizer
from pixel_pipeline_tests.curation.rows import dialogue
texts = [text for seed in range(200) for text in dialogue(seed)]
print(sha256(serialize(train_tokenizer(iter([texts]), vocab_size=600))).hexdigest())
"""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(iter([["some words", "more words in a row"]]), vocab_size=300)


def test_the_same_texts_give_the_same_tokenizer_in_any_process() -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TRAIN],
            env={**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads},
            stdout=subprocess.PIPE,
            text=True,
        )
        for threads in ("1", "4", "7")
    ]
    digests = {process.communicate()[0] for process in processes}
    assert len(digests) == 1
    assert all(process.returncode == 0 for process in processes)


def test_batching_makes_no_difference(tokenizer: Tokenizer) -> None:
    other = train_tokenizer(iter([["some words"], [], ["more words in a row"]]), vocab_size=300)
    assert serialize(other) == serialize(tokenizer)


@given(text=st.text())
def test_any_text_round_trips(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
