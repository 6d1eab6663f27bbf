"""The conversion recipe: rows, quarantine and ledger of every format in every container."""

from pixel_pipeline.conversations.model.recipe import RECIPE_VERSION
from pixel_pipeline_tests.conversations import test_every_format as cases
from pixel_pipeline_tests.conversations.converted import Converted, convert, lines, sharegpt
from pixel_pipeline_tests.golden import golden

BAD = lines(
    sharegpt("Hello", ""),
    b"{broken",
    b"\xff\xfe\xfa",
    {"messages": []},
    {"question": "What&amp;nbsp;now?", "answer": "We\u2019ll see.\u200b"},
    sharegpt("Hi", "Hello", score=3, tags=["a"]),
)


def content(got: Converted) -> str:
    rows, quarantine = got.conversations, got.quarantine
    ledger = got.ledger
    return golden.digest([
        rows.to_pylist(),
        quarantine.drop(["code_version"]).to_pylist(),
        [ledger.records_in, ledger.records_out, ledger.quarantined, ledger.formats],
    ])  # fmt: skip


def test_every_format_gives_the_recorded_rows() -> None:
    files = {
        f"{name} in {file}": write(record)
        for groups, containers in (
            ((cases.TURN_LISTS,), cases.NESTED),
            ((cases.FIELDS, cases.THOUGHTS), cases.FLAT),
        )
        for records in groups
        for index, (name, record) in enumerate(records.items())
        for number, (file, write) in enumerate(containers.items())
        # Every record and every container several times, not each pair.
        if (index + number) % 5 == 0
        and not (file in ("x.parquet", "x.arrow", "x.yml") and ("history" in record or "0 and 1" in name))
    }
    files |= {file: text.encode() for file, text in cases.DOCUMENTS.items()} | {"bad.jsonl": BAD}
    golden.check(
        RECIPE_VERSION,
        {
            name: content(convert(data, f"gdrive/raw/F/{name.rsplit(' in ')[-1]}"))
            for name, data in files.items()
        },
    )
