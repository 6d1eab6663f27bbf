"""Shards of curated conversations in a real lake: the same content gives the same bytes in any process."""

from collections import Counter
import hashlib
import os
from pathlib import Path
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from safetensors.numpy import load
from tokenizers import Tokenizer

from pixel_pipeline.conversations.families.config import FamilyRule
from pixel_pipeline.curation.curate import CURATED_SCHEMA
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.bucket import Bucket
from pixel_pipeline.lake.s3.errors import LakeWriteError
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline.registry import dataset_registry
from pixel_pipeline.registry.base_models import BaseModelCorruptError, BaseModelNotFoundError
from pixel_pipeline.tokens import build
from pixel_pipeline.tokens.build import NothingToTrainOnError, TokenConfig, build_shards
from pixel_pipeline.tokens.chat_template import END_ID, START_ID
from pixel_pipeline.tokens.shards import ShardManifest, current_manifest_key
from pixel_pipeline_tests.curation.rows import Row, row, words
from pixel_pipeline_tests.tokens.base_files import base_files, put_base

CONFIG = TokenConfig(vocab_size=320, sequence_length=64)
FAMILIES = ("calm", "sleep", "work")
BUILD = """
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline.settings import get_settings
from pixel_pipeline.tokens.build import TokenConfig, build_shards
lake = Lake.open(get_settings())
config = TokenConfig(vocab_size=320, sequence_length=64)
build_shards(Table(lake, "curated").dataset(), lake=lake, dataset_version="v1", config=config)
"""


def _rows(n: int = 60) -> list[Row]:
    rows = []
    for number in range(n):
        text = words(number, n=12 + number % 40)
        split = {3: "validation", 7: "test"}.get(number % 8, "train")
        family = FAMILIES[number % 3]
        rows.append(
            {**row(" ".join(text[:8]), " ".join(text[8:]), position=number, family=family), "split": split}
        )
    return rows


def _write(lake: Lake, rows: list[Row]) -> Table:
    table = Table(lake, keys.CURATED)
    table.overwrite(pa.Table.from_pylist(rows, CURATED_SCHEMA), partition_by="family")
    return table


def _build(lake: Lake, *, version: str = "v1", config: TokenConfig = CONFIG) -> ShardManifest:
    dataset = Table(lake, keys.CURATED).dataset()
    key = build_shards(dataset, lake=lake, dataset_version=version, config=config)
    assert current_manifest_key(lake.data) == key
    return ShardManifest.load(lake.data, key)


def _tokens(lake: Lake) -> dict[str, bytes]:
    return {item.key: lake.data.get(item.key) for item in lake.data.list(keys.TOKENS)}


def test_the_same_input_gives_the_same_bytes_anywhere(lake: Lake) -> None:
    """In the same process, and in one with other hash seeds and threads."""
    _write(lake, _rows())
    _build(lake)
    expected = _tokens(lake)
    assert len(expected) > 5
    lake.data.delete(expected)
    _build(lake)
    assert _tokens(lake) == expected
    lake.data.delete(expected)
    environment = os.environ | {
        "PYTHONHASHSEED": "4711",
        "RAYON_NUM_THREADS": "3",
        "TOKENIZERS_PARALLELISM": "true",
    }
    root = Path(build.__file__).parents[2]
    subprocess.run([sys.executable, "-c", BUILD], env=environment, cwd=root, check=True, timeout=120)
    assert _tokens(lake) == expected


def test_file_layout_and_raw_object_names_do_not_affect_the_tokens(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version identifies the content, so a Drive with renamed files gives the same shards at the same keys."""
    monkeypatch.setattr(build, "TOKENIZER_CHARACTERS", 1500)
    rows = _rows(1500)
    _write(lake, rows)
    _build(lake)
    expected = _tokens(lake)
    random.Random(2).shuffle(rows)
    renamed = [item | {"id": f"{number:032x}"} for number, item in enumerate(rows)]
    lake.data.delete(expected)
    third = len(rows) // 3
    parts = [renamed[:third], renamed[third : third + 7], renamed[third + 7 :]]
    table = pa.concat_tables(pa.Table.from_pylist(part, CURATED_SCHEMA) for part in parts)
    key = build_shards(ds.dataset(table), lake=lake, dataset_version="v1", config=CONFIG)
    assert key == current_manifest_key(lake.data)
    assert _tokens(lake) == expected


def test_the_counts_in_the_manifest_are_correct(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "ROWS_PER_SHARD", 4)
    rows = _rows()
    _write(lake, rows)
    manifest = _build(lake)
    stored = {item.key: item.size for item in lake.data.list(keys.TOKENS)}
    named = [shard for split in manifest.splits.values() for shard in split.shards]
    assert len({shard.key for shard in named}) == len(named)
    assert {shard.key for shard in named} == {key for key in stored if key.endswith(".safetensors")}
    assert manifest.splits.keys() == {"train", "validation", "test"}
    assert len(manifest.splits["train"].shards) > 1
    conversations: Counter[str] = Counter()
    for name, split in manifest.splits.items():
        sums: Counter[str] = Counter()
        for shard in split.shards:
            arrays = load(lake.data.get(shard.key))
            assert arrays["tokens"].shape == (shard.rows, manifest.sequence_length)
            assert 0 < shard.rows <= 4
            counts = {
                "rows": len(arrays["tokens"]),
                "tokens": int((arrays["segments"] > 0).sum()),
                "loss_tokens": int(arrays["loss_mask"].sum()),
            }
            assert counts == {key: getattr(shard, key) for key in counts}
            assert shard.bytes == stored[shard.key]
            sums.update(counts)
            conversations[name] += int((arrays["tokens"] == START_ID).sum()) // 2
        assert sums == {"rows": split.rows, "tokens": split.tokens, "loss_tokens": split.loss_tokens}
    assert conversations == Counter(item["split"] for item in rows)
    assert {family: n.conversations for family, n in manifest.families.items()} == Counter(
        item["family"] for item in rows
    )
    assert sum(n.tokens for n in manifest.families.values()) == sum(
        split.tokens for split in manifest.splits.values()
    )
    tokenizer = lake.data.get(manifest.tokenizer.key)
    assert hashlib.sha256(tokenizer).hexdigest() == manifest.tokenizer.sha256
    assert Tokenizer.from_str(tokenizer.decode()).get_vocab_size() == manifest.tokenizer.vocab_size <= 320


def _decoded(lake: Lake, manifest: ShardManifest, *, split: str, family: str) -> list[str]:
    """The decoded segments of a split and family."""
    tokenizer = Tokenizer.from_str(lake.data.get(manifest.tokenizer.key).decode())
    decoded = []
    for shard in manifest.splits[split].shards:
        if shard.family == family:
            arrays = load(lake.data.get(shard.key))
            for tokens, segments in zip(arrays["tokens"], arrays["segments"], strict=True):
                decoded += [
                    tokenizer.decode(tokens[segments == segment].tolist(), skip_special_tokens=False)
                    for segment in range(1, int(segments.max()) + 1)
                ]
    return sorted(decoded)


def _chatml(rows: list[Row], **columns: Any) -> list[str]:
    return sorted(
        "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in item["messages"])
        for item in rows
        if all(item[name] == value for name, value in columns.items())
    )


def test_shards_hold_one_family_each(lake: Lake) -> None:
    rows = _rows()
    _write(lake, rows)
    manifest = _build(lake, config=TokenConfig(vocab_size=320, sequence_length=512))
    for split in ("train", "validation", "test"):
        assert {shard.family for shard in manifest.splits[split].shards} == set(FAMILIES)
        for family in FAMILIES:
            assert _decoded(lake, manifest, split=split, family=family) == _chatml(
                rows, split=split, family=family
            )


def test_the_tokenizer_never_sees_held_out_conversations(lake: Lake) -> None:
    rows = _rows()
    _write(lake, rows)
    digest = _build(lake).tokenizer.digest
    held_out = [item for item in rows if item["split"] != "train"]
    for item in held_out:
        item["messages"] = [{**m, "content": "zyxomma " * 50} for m in item["messages"]]
    _write(lake, rows)
    assert _build(lake).tokenizer.digest == digest
    rows[0]["messages"] = held_out[0]["messages"]
    _write(lake, rows)
    assert _build(lake).tokenizer.digest != digest


def test_the_pointer_is_written_last_and_the_manifest_before_it(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(lake, _rows())
    written: list[str] = []
    put = Bucket.put

    def recorded(bucket: Bucket, key: str, data: bytes | Path, *, create_only: bool = False) -> str:
        written.append(key)
        return put(bucket, key, data, create_only=create_only)

    monkeypatch.setattr(Bucket, "put", recorded)
    _build(lake)
    manifest_key = current_manifest_key(lake.data)
    assert written[-2:] == [manifest_key, keys.CURRENT_TOKENS]
    assert written.count(keys.CURRENT_TOKENS) == written.count(manifest_key) == 1


@pytest.mark.parametrize("broken", ["manifest.json", "test-work-00000.safetensors", "tokenizer.json"])
def test_a_failed_build_leaves_the_old_shards_current(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    rows = _rows()
    _write(lake, rows)
    before = _build(lake)
    old = _tokens(lake)
    _write(lake, rows[:-5])
    put = Bucket.put

    def failing(bucket: Bucket, key: str, data: bytes | Path, *, create_only: bool = False) -> str:
        if key.endswith(broken):
            raise LakeWriteError("planted")
        return put(bucket, key, data, create_only=create_only)

    monkeypatch.setattr(Bucket, "put", failing)
    with pytest.raises(LakeWriteError):
        _build(lake, version="v2")
    monkeypatch.undo()
    assert ShardManifest.load(lake.data, current_manifest_key(lake.data)) == before
    assert old.items() <= _tokens(lake).items()


@pytest.mark.parametrize(
    ("version", "config"),
    [
        ("v2", CONFIG),
        ("v1", TokenConfig(vocab_size=320, sequence_length=32)),
        ("v1", TokenConfig(vocab_size=320, sequence_length=64, seed=8)),
        ("v1", TokenConfig(vocab_size=330, sequence_length=64)),
    ],
    ids=["dataset", "length", "seed", "vocabulary"],
)
def test_different_shards_have_different_keys(lake: Lake, version: str, config: TokenConfig) -> None:
    """Shards do not change under a running trainer."""
    _write(lake, _rows(24))
    _build(lake)
    before = {key: data for key, data in _tokens(lake).items() if key != keys.CURRENT_TOKENS}
    manifest = _build(lake, version=version, config=config)
    shards = {shard.key for split in manifest.splits.values() for shard in split.shards}
    assert not shards & before.keys()
    assert before.items() <= _tokens(lake).items()


def test_different_tokens_have_different_versions(lake: Lake) -> None:
    """Even if only whitespace differs, which content hashes ignore: shard keys contain the version."""
    rows = _rows(24)
    rules = {family: FamilyRule(category=family, family=family, dataset=family) for family in FAMILIES}

    def version() -> str:
        registry = dataset_registry.build(_write(lake, rows).dataset(), families=rules, data=lake.data)
        return str(registry["version"])

    before = version()
    turn = rows[0]["messages"][0]
    turn["content"] = turn["content"].replace(" ", "\n", 1)
    assert version() != before


def test_an_empty_training_split_is_an_error_with_a_hint(lake: Lake) -> None:
    _write(lake, [item for item in _rows() if item["split"] != "train"])
    with pytest.raises(NothingToTrainOnError, match="pixel status"):
        _build(lake)
    assert not _tokens(lake)


def test_every_turn_has_its_end_token(lake: Lake) -> None:
    """Every turn of an uncut conversation has an <|im_end|>, learned if the assistant speaks."""
    _write(lake, _rows())
    manifest = _build(lake, config=TokenConfig(vocab_size=320, sequence_length=512))
    for shard in manifest.splits["train"].shards:
        arrays = load(lake.data.get(shard.key))
        ends = arrays["tokens"] == END_ID
        assert ends.sum() == (arrays["tokens"] == START_ID).sum() > 0
        assert np.count_nonzero(arrays["loss_mask"][ends]) * 2 == ends.sum()


BASE = TokenConfig(sequence_length=512, base="tiny")


def test_shards_for_a_base_model_use_its_tokenizer_and_template(lake: Lake) -> None:
    rows = _rows()
    _write(lake, rows)
    base = put_base(lake, name="tiny", kind="llama3")
    manifest = _build(lake, config=BASE)
    assert (manifest.base, manifest.base_digest, manifest.chat_template) == ("tiny", base.digest, "base")
    assert lake.data.get(manifest.tokenizer.key) == base_files("llama3")["tokenizer.json"]
    assert hashlib.sha256(lake.data.get(manifest.tokenizer.key)).hexdigest() == manifest.tokenizer.sha256
    tokenizer = Tokenizer.from_str(lake.data.get(manifest.tokenizer.key).decode())
    assert manifest.tokenizer.eos_id == manifest.tokenizer.pad_id == tokenizer.token_to_id("<|eot_id|>")
    answers = []
    for shard in manifest.splits["train"].shards:
        arrays = load(lake.data.get(shard.key))
        assert (arrays["tokens"][arrays["segments"] == 0] == manifest.tokenizer.pad_id).all()
        assert not arrays["loss_mask"][arrays["segments"] == 0].any()
        learned = tokenizer.decode(
            arrays["tokens"][arrays["loss_mask"] == 1].tolist(), skip_special_tokens=False
        )
        answers += learned.split("<|eot_id|>")[:-1]
    assert sorted(answers) == sorted(
        item["messages"][1]["content"] for item in rows if item["split"] == "train"
    )


def test_the_recipe_depends_on_all_files_of_the_base_model(lake: Lake) -> None:
    _write(lake, _rows(24))
    recipes = {CONFIG.recipe(lake)}
    for kind, config in [("llama3", b"{}"), ("llama3", b'{"a": 1}'), ("smollm2", b"{}"), ("mistral", b"{}")]:
        put_base(lake, name="tiny", kind=kind, config=config)
        recipes.add(BASE.recipe(lake))
    assert len(recipes) == 5
    with pytest.raises(BaseModelNotFoundError, match="There are: tiny"):
        _build(lake, config=TokenConfig(base="other"))


def test_a_changed_file_of_a_base_model_is_an_error(lake: Lake) -> None:
    _write(lake, _rows(24))
    put_base(lake, name="tiny", kind="llama3")
    lake.data.put("models/base/tiny/chat_template.jinja", b"{{ messages }}")
    with pytest.raises(BaseModelCorruptError, match=r"chat_template\.jinja differs from its manifest"):
        _build(lake, config=BASE)
    assert not _tokens(lake)


def test_the_manifest_has_the_categories_of_families(lake: Lake) -> None:
    rows = [{**item, "category": "rest" if item["family"] != "work" else "office"} for item in _rows(24)]
    _write(lake, rows)
    assert {name: family.category for name, family in _build(lake).families.items()} == {
        "calm": "rest",
        "sleep": "rest",
        "work": "office",
    }


def test_the_tokenizer_is_trained_on_the_first_conversations_by_hash(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = _rows(400)
    dataset = _write(lake, rows).dataset()
    ordered = sorted(
        (item for item in rows if item["split"] == "train"), key=lambda item: item["content_hash"]
    )
    for characters in (0, 1000, 10**9):
        monkeypatch.setattr(build, "TOKENIZER_CHARACTERS", characters)
        expected: list[str] = []
        for item in ordered:
            if sum(map(len, expected)) > characters:
                break
            expected += [message["content"] for message in item["messages"]]
        assert [text for batch in build._sample(dataset) for text in batch] == expected
