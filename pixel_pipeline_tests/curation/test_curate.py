"""Curation decides by content and source, never by file layout."""

from pathlib import Path
import random
import unicodedata

import pyarrow as pa

from pixel_pipeline.curation.curate import CURATED_SCHEMA, DROPPED_SCHEMA, Decision, curated_batches, decide
from pixel_pipeline.curation.splits import split_of
from pixel_pipeline_tests.curation.rows import Row, dataset, files, row, words


def _conversation(seed: int, *, position: int, family: str = "calm", changed: int | None = None) -> Row:
    text = words(seed)
    if changed is not None:
        text[changed] = "changed"
    return row(
        " ".join(text[:40]),
        " ".join(text[40:]),
        key=f"gdrive/raw/{family}/a.jsonl",
        position=position,
        family=family,
    )


def _mixture() -> list[Row]:
    """Twelve different conversations in two families, with exact copies, near copies, and copies of near copies."""
    rows = [_conversation(seed, position=seed, family="calm" if seed % 2 else "work") for seed in range(12)]
    for seed in range(0, 12, 3):
        rows.append(_conversation(seed, position=100 + seed, family="work"))
        rows.append(_conversation(seed, position=200 + seed, changed=3))
        rows.append(_conversation(seed, position=300 + seed, family="work", changed=3))
    return rows


def _dropped(decision: Decision) -> list[Row]:
    assert decision.dropped.schema.equals(DROPPED_SCHEMA)
    rows: list[Row] = decision.dropped.to_pylist()
    return rows


def test_file_layout_and_row_order_make_no_difference(tmp_path: Path) -> None:
    rows = _mixture()
    expected = decide(dataset(rows))
    assert len(expected.kept) == 12
    assert expected.dropped.num_rows == len(rows) - 12
    generator = random.Random(1)
    for number in range(4):
        generator.shuffle(rows)
        decision = decide(files(rows, tmp_path / str(number), n=1 + 2 * number))
        assert decision == expected
        curated = curated_batches(files(rows, tmp_path / f"again-{number}", n=2), decision).read_all()
        assert set(curated["id"].to_pylist()) == expected.kept


def test_every_conversation_is_kept_or_dropped_for_a_kept_one() -> None:
    rows = _mixture()
    decision = decide(dataset(rows))
    dropped = _dropped(decision)
    assert sorted([*decision.kept, *(item["id"] for item in dropped)]) == sorted(item["id"] for item in rows)
    assert {item["kept_id"] for item in dropped} <= decision.kept
    assert all(0.8 <= item["similarity"] <= 1 for item in dropped)
    assert decision.records_in == {"calm": 10, "work": 14}
    assert sum(decision.dropped_counts()["work"].values()) == 14 - decision.records_out["work"]
    assert sum(decision.dropped_counts()["calm"].values()) == 10 - decision.records_out["calm"]


def test_the_first_by_source_key_and_position_is_kept() -> None:
    later = _conversation(1, position=9)
    earlier = _conversation(1, position=2)
    other_key = _conversation(1, position=0, family="work")
    decision = decide(dataset([other_key, later, earlier]))
    assert decision.kept == {earlier["id"]}
    assert {item["id"]: (item["family"], item["reason"], item["kept_id"]) for item in _dropped(decision)} == {
        later["id"]: ("calm", "exact_duplicate", earlier["id"]),
        other_key["id"]: ("work", "exact_duplicate", earlier["id"]),
    }


def test_exact_duplicates_may_differ_in_whitespace_and_unicode_form() -> None:
    original = row("I was at the café.  Twice.", "And how was it?", position=0)
    copy = row(unicodedata.normalize("NFD", "I was at the café.\nTwice. "), "And  how was it?", position=1)
    (item,) = _dropped(decide(dataset([original, copy])))
    assert (item["reason"], item["kept_id"], item["similarity"]) == ("exact_duplicate", original["id"], 1.0)


def test_the_same_words_in_other_roles_are_a_near_duplicate() -> None:
    (item,) = _dropped(
        decide(dataset([row("a b c", "d e f", position=0), row("a b c\nd e f", "", position=1)]))
    )
    assert item["reason"] == "near_duplicate"


def test_a_copy_of_a_dropped_near_copy_is_dropped_for_the_kept_one() -> None:
    original, near, copy = (
        _conversation(5, position=0),
        _conversation(5, position=1, changed=10),
        _conversation(5, position=2, changed=10),
    )
    decision = decide(dataset([original, near, copy]))
    assert decision.kept == {original["id"]}
    assert [(item["reason"], item["kept_id"]) for item in _dropped(decision)] == [
        ("near_duplicate", original["id"])
    ] * 2
    assert len({item["similarity"] for item in _dropped(decision)}) == 1


def test_a_dropped_conversation_displaces_no_other() -> None:
    """b is dropped for a; c is similar to b only, so c is kept."""
    text = words(9, n=300)
    a, b, c = (row(" ".join(text[start : start + 200]), "yes", position=start) for start in (0, 15, 30))
    decision = decide(dataset([c, b, a]))
    assert decision.kept == {a["id"], c["id"]}


def test_kept_conversations_are_streamed_unchanged_with_their_split() -> None:
    rows = _mixture()
    decision = decide(dataset(rows))
    curated = curated_batches(dataset(rows), decision).read_all()
    assert curated.schema.equals(CURATED_SCHEMA)
    expected = [
        {**item, "split": split_of(item["content_hash"])} for item in rows if item["id"] in decision.kept
    ]
    assert curated.to_pylist() == pa.Table.from_pylist(expected, CURATED_SCHEMA).to_pylist()


def test_an_empty_dataset() -> None:
    decision = decide(dataset([]))
    assert decision.kept == set()
    assert _dropped(decision) == []
    assert curated_batches(dataset([]), decision).read_all().num_rows == 0


def test_a_side_of_a_comparison_is_dropped() -> None:
    rows = [_conversation(1, position=0), _conversation(1, position=1), _conversation(2, position=2)]
    rows[0]["tags"] = ["preference"]
    decision = decide(dataset(rows))
    assert decision.kept == {rows[1]["id"], rows[2]["id"]}
    assert [(row["reason"], row["kept_id"]) for row in _dropped(decision)] == [("preference", rows[0]["id"])]
