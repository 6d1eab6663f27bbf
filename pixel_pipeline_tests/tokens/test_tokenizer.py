"""The tokenizer is a pure function of its texts."""

import hashlib
import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
import pytest
from tokenizers import Tokenizer

from pixel_pipeline.tokens.tokenizer import deserialize, serialize, tokenizer_digest, train_tokenizer

TRAIN = """
import sys
from pixel_pipeline.tokens.tokenizer import serialize, tokenizer_digest, train_tokenizer
from pixel_pipeline_tests.curation.records import dialogue
texts = [text for seed in range(200) for _, text in dialogue(seed)]
print(tokenizer_digest(serialize(train_tokenizer(iter([texts]), vocab_size=600))))
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


def test_other_texts_give_another(tokenizer: Tokenizer) -> None:
    other = train_tokenizer(iter([["quite other words"]]), vocab_size=300)
    assert tokenizer_digest(serialize(other)) != tokenizer_digest(serialize(tokenizer))


def test_batching_does_not_matter(tokenizer: Tokenizer) -> None:
    other = train_tokenizer(iter([["some words"], [], ["more words in a row"]]), vocab_size=300)
    assert serialize(other) == serialize(tokenizer)


def test_the_digest_names_the_bytes(tokenizer: Tokenizer) -> None:
    data = serialize(tokenizer)
    assert hashlib.sha256(data).hexdigest().startswith(tokenizer_digest(data))
    assert tokenizer.get_vocab_size() <= 300


@given(text=st.text())
def test_any_text_survives(tokenizer: Tokenizer, text: str) -> None:
    restored = deserialize(serialize(tokenizer))
    ids = restored.encode(text, add_special_tokens=False).ids
    assert restored.decode(ids, skip_special_tokens=False) == text
