"""The curation recipe: which conversations stay, and in which split."""

import pyarrow as pa

from pixel_pipeline.curation.curate import RECIPE_VERSION, curated_batches, decide
from pixel_pipeline_tests.curation.rows import dataset, row, words
from pixel_pipeline_tests.golden import golden


def test_conversations_are_kept_and_dropped_as_recorded() -> None:
    rows = []
    for number in range(60):
        question, answer = words(number), words(1000 + number)
        near = [*answer[:-3], "other", "last", "words"]
        rows.append(row(" ".join(question), " ".join(answer), position=number, family="calm"))
        if number % 5 == 0:
            rows.append(
                row(
                    " ".join(question),
                    " ".join(answer),
                    key="gdrive/raw/B/b.jsonl",
                    position=number,
                    family="b",
                )
            )
        if number % 7 == 0:
            rows.append(
                row(
                    " ".join(question),
                    " ".join(near),
                    key="gdrive/raw/C/c.jsonl",
                    position=number,
                    family="c",
                )
            )
    conversations = dataset(rows)
    decision = decide(conversations)
    curated = pa.Table.from_batches(list(curated_batches(conversations, decision)))
    golden.check(
        RECIPE_VERSION,
        {
            "curated": golden.digest(sorted(curated.to_pylist(), key=lambda item: item["id"])),
            "dropped": golden.digest(pa.table(decision.dropped).to_pylist()),
        },
    )
