"""Listings of the raw tiers: every object once, by its key, for any keys and folders."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
import pytest

from benchmarks.listing_server import Listed, Pages, serving, synthetic
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.raw import is_empty, list_raw
from pixel_pipeline.lake.s3 import listing
from pixel_pipeline.lake.s3.control import control_client
from pixel_pipeline.lake.s3.listing import INVENTORY_SCHEMA, Listing
from pixel_pipeline.settings import get_settings
from pixel_pipeline_tests.examples import examples

BYTES = b"one"


@contextmanager
def lake_of(objects: list[Listed], home: Path) -> Iterator[Lake]:
    """A lake whose server lists these objects."""
    with serving(objects) as endpoint, pytest.MonkeyPatch.context() as environment:
        environment.setenv("PIXEL_HOME", str(home))
        environment.setenv("PIXEL_S3_ENDPOINT", endpoint)
        environment.setenv("AWS_ACCESS_KEY_ID", "anybody")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "anything")
        yield Lake.open(get_settings())


def put_any(lake: Lake, *keys: str, body: bytes = BYTES) -> None:
    """Store objects under keys that our own client refuses."""
    for key in keys:
        control_client(lake.target).put_object(Bucket=lake.data.name, Key=key, Body=body)


def found(lake: Lake) -> list[str]:
    return keys_of(list_raw(lake))


def keys_of(listed: Listing) -> list[str]:
    keys: list[str] = listed.objects["key"].to_pylist()
    return keys


def test_lists_both_raw_tiers_and_nothing_else(lake: Lake) -> None:
    for key in (
        "gdrive/raw/B/2.json",
        "gdrive/raw/A/1.json",
        "gdrive/raw/loose.txt",
        "acquired/x.csv",
        "gdrive/processed/a/b/x",
        "gdrive/rawer",
    ):
        lake.data.put(key, key.encode())
    listed = list_raw(lake)
    assert listed.objects.schema == INVENTORY_SCHEMA
    listed.objects.validate(full=True)
    rows = listed.objects.to_pylist()
    assert [(row["key"], row["size"]) for row in rows] == [
        ("acquired/x.csv", 14),
        ("gdrive/raw/A/1.json", 19),
        ("gdrive/raw/B/2.json", 19),
        ("gdrive/raw/loose.txt", 20),
    ]
    for row, item in zip(rows[1:], lake.data.list("gdrive/raw"), strict=True):
        assert (row["key"], row["etag"]) == (item.key, item.etag)
        assert row["last_modified"] == item.last_modified
    assert (listed.unreadable, listed.markers) == ([], 0)


def test_an_empty_lake_has_an_empty_listing(lake: Lake) -> None:
    assert is_empty(lake)
    assert list_raw(lake) == Listing(INVENTORY_SCHEMA.empty_table())
    lake.data.put("acquired/x", b"")
    assert not is_empty(lake)


def test_empty_objects_are_listed_and_directory_markers_are_not(lake: Lake) -> None:
    lake.data.put("gdrive/raw/A/empty.json", b"")
    put_any(lake, "gdrive/raw/A/folder/", "gdrive/raw/marked/", body=b"")
    lake.data.put("gdrive/raw/marked/inside", BYTES)
    listed = list_raw(lake)
    assert keys_of(listed) == ["gdrive/raw/A/empty.json", "gdrive/raw/marked/inside"]
    assert (listed.unreadable, listed.markers) == ([], 2)


@pytest.mark.parametrize("deepest", [0, 4], ids=["flat", "opened"])
@pytest.mark.parametrize(
    "odd", ["a\nb", "a\x01b", "\x7f", "in\x02a/folder"], ids=["newline", "control", "del", "folder"]
)
def test_an_unreadable_key_hides_no_other_key(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, odd: str, deepest: int
) -> None:
    monkeypatch.setattr(listing, "DEEPEST", deepest)
    lake.data.put("gdrive/raw/A/1.json", BYTES)
    lake.data.put("gdrive/raw/B/é 心.json", BYTES)
    lake.data.put("acquired/x", BYTES)
    put_any(lake, f"gdrive/raw/A/{odd}", "gdrive/raw/A/folder/")
    listed = list_raw(lake)
    assert keys_of(listed) == ["acquired/x", "gdrive/raw/A/1.json", "gdrive/raw/B/é 心.json"]
    assert listed.unreadable == [f"gdrive/raw/A/{odd}"]


def test_a_replacement_character_that_is_part_of_the_name_is_read(lake: Lake) -> None:
    lake.data.put("gdrive/raw/A/Gr\ufffdsse.json", BYTES)
    put_any(lake, "gdrive/raw/A/a\x01b")
    listed = list_raw(lake)
    assert keys_of(listed) == ["gdrive/raw/A/Gr\ufffdsse.json"]
    assert listed.unreadable == ["gdrive/raw/A/a\x01b"]


def test_empty_and_dot_segments_hide_no_other_key(tmp_path: Path) -> None:
    """SeaweedFS reads `//` as `/`; other servers keep both."""
    keys = ["gdrive/raw/A//b", "gdrive/raw/A/b", "gdrive/raw/A/c", "acquired/x", "acquired/../d"]
    with lake_of([Listed(key, 3, f"{number}") for number, key in enumerate(keys)], tmp_path) as lake:
        listed = list_raw(lake)
    assert keys_of(listed) == ["acquired/x", "gdrive/raw/A/b", "gdrive/raw/A/c"]
    assert listed.objects["etag"].to_pylist() == ["3", "1", "2"]
    assert listed.unreadable == ["acquired/../d", "gdrive/raw/A//b"]


@pytest.mark.parametrize("deepest", [0, 4], ids=["flat", "opened"])
def test_keys_with_backslashes_are_unreadable_and_hide_no_other_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deepest: int
) -> None:
    """SeaweedFS reads them as slashes; other servers keep them."""
    monkeypatch.setattr(listing, "DEEPEST", deepest)
    odd = ["acquired/.\\", "gdrive/raw/A/a\\b", "gdrive/raw/back\\slash/c"]
    fine = ["acquired/x", "gdrive/raw/A/a/b", "gdrive/raw/A/c"]
    with lake_of([Listed(key, 3, "e") for key in (*odd, *fine)], tmp_path) as lake:
        listed = list_raw(lake)
    assert keys_of(listed) == fine
    assert listed.unreadable == odd


def test_an_empty_object_beside_its_marker_is_listed_once(tmp_path: Path) -> None:
    objects = [
        Listed("gdrive/raw/A/b", 0, "e"),
        Listed("gdrive/raw/A/b/", 0, "e"),
        Listed("gdrive/raw/c", 2, "f"),
    ]
    objects.append(Listed("gdrive/raw/c/", 0, "e"))
    with lake_of(objects, tmp_path) as lake:
        listed = list_raw(lake)
    assert keys_of(listed) == ["gdrive/raw/A/b", "gdrive/raw/c"]
    assert listed.objects["size"].to_pylist() == [0, 2]
    assert (listed.unreadable, listed.markers) == ([], 2)


@examples(5)
@given(
    st.lists(
        st.lists(st.sampled_from(["a", "b", "a-b", "a.b", "é", "心 x", "~"]), min_size=1, max_size=5),
        max_size=60,
    )
)
def test_any_tree_is_listed_whole_and_once(tmp_path: Path, paths: list[list[str]]) -> None:
    """For any distribution of folders. As on a file system, no key is another's folder."""
    wanted = sorted({"/".join(("gdrive/raw", *parts, "file")) for parts in paths})
    with pytest.MonkeyPatch.context() as constants:
        constants.setattr(listing, "ENOUGH_FOLDERS", 6)
        constants.setattr(listing, "TOO_MANY_FOLDERS", 4)
        with lake_of([Listed(key, 1, "e") for key in wanted], tmp_path) as lake:
            assert found(lake) == sorted(wanted, key=str.encode)


def test_more_than_a_page_is_listed_whole(tmp_path: Path) -> None:
    objects = synthetic(5_000)
    with lake_of(objects, tmp_path) as lake:
        listed = list_raw(lake).objects
    assert listed["key"].to_pylist() == sorted(item.key for item in objects)
    by_key = {item.key: item for item in objects}
    assert all((row["size"], row["etag"]) == by_key[row["key"]][1:] for row in listed.to_pylist())


def test_the_listing_server_answers_as_s3_does(lake: Lake, tmp_path: Path) -> None:
    """Compare its responses with those of a real server."""
    keys = [f"gdrive/raw/{folder}/{number}" for folder in ("A", "B b", "é") for number in range(3)]
    for key in [*keys, "gdrive/raw/loose"]:
        lake.data.put(key, BYTES)
    questions = [
        {"Prefix": "gdrive/raw/"},
        {"Prefix": "gdrive/raw/", "Delimiter": "/"},
        {"Prefix": "gdrive/raw/A/", "Delimiter": "/"},
        {"Prefix": "gdrive/raw/", "StartAfter": "gdrive/raw/A/1"},
        {"Prefix": "gdrive/none/"},
    ]

    def answers(asked: Lake) -> list[tuple[list[str], list[str]]]:
        pages = control_client(asked.target).get_paginator("list_objects_v2")
        given = []
        for question in questions:
            for size in (1000, 2):
                got = [
                    *pages.paginate(Bucket=asked.data.name, PaginationConfig={"PageSize": size}, **question)
                ]
                given.append(
                    (
                        [item["Key"] for page in got for item in page.get("Contents", [])],
                        [item["Prefix"] for page in got for item in page.get("CommonPrefixes", [])],
                    )
                )
        return given

    objects = [Listed(item.key, item.size, item.etag) for item in lake.data.list("gdrive")]
    with lake_of(objects, tmp_path) as generated:
        assert answers(generated) == answers(lake)
    assert Pages(objects).find("gdrive/raw/A/1") is not None
