"""The metadata of an evaluation fits the overview of Dagster's UI."""

from dataclasses import replace
from typing import Any

from pixel_pipeline.training.evaluation.overview import evaluation_metadata
from pixel_pipeline.training.evaluation.report import EvaluationReport, SplitResult
from pixel_pipeline.training.evaluation.safety.smoke_test import ProbeResult, SmokeTest
from pixel_pipeline_tests.training.reports import family, report_of

# The UI cuts cells that are wider than this, in a window of 1,500 pixels, and opens longer Markdown on a click only.
WIDEST_ROW, LONGEST_INLINE = 48, 1000


def full_report() -> EvaluationReport:
    counts = [[5, 3, 2, 1], [1, 7, 2, 1]]
    families = tuple(
        family(name, category=category, loss=loss, base=loss + 1, counts=counts)
        for name, category, loss in (
            ("professional_therapeutic", "professional", 1.0),
            ("grief_and_loss", "crisis", 2.0),
            ("long_running_therapy", "professional", 3.0),
        )
    )
    report = report_of(*families)
    safety = SmokeTest(
        probes=(ProbeResult(probe="a", violations=("blame", "method_detail"), caring=("help",)),)
    )
    validation = SplitResult(split="validation", rows_there=2, families=families[:1])
    return replace(
        report,
        splits=(validation, *report.splits),
        stages={"first": ["grief_and_loss"], "second": ["long_running_therapy"]},
        base="smollm2",
        safety=safety,
        base_safety=safety,
    )


def shown(*, reused: bool = False) -> dict[str, Any]:
    metadata = evaluation_metadata(full_report(), uri="s3://b/r/evaluation/step-000001", reused=reused)
    return {
        name: value["raw_value"] if isinstance(value, dict) else value for name, value in metadata.items()
    }


def test_tables_are_narrow_and_short() -> None:
    tables = {
        name: value
        for name, value in shown().items()
        if isinstance(value, str) and value.startswith("|") and not name.startswith("plot")
    }
    assert len(tables) == 5
    for name, text in tables.items():
        assert len(text) < LONGEST_INLINE, name
        rows = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
        assert max(len(row.replace("|", "").replace("  ", " ")) for row in rows) <= WIDEST_ROW, name


def test_perplexities_of_all_splits_and_the_base_stand_side_by_side() -> None:
    text = shown()["perplexity by family"]
    assert text.splitlines()[0] == "| family | test | validation | base |"
    assert "| grief_and_loss | 7.4 | – | 20.1 |" in text
    assert "| professional_therapeutic | 2.7 | 2.7 | 7.4 |" in text


def test_the_smoke_test_shows_counts() -> None:
    text = shown()["safety smoke test"]
    assert "| method detail | 1 | 1 |" in text
    assert "| *care or help (good)* | 1 | 1 |" in text


def test_numbers_are_rounded_and_those_of_a_reused_result_are_not_plotted() -> None:
    fresh, reused = shown(), shown(reused=True)
    assert fresh["test loss (nats)"] == 2.0
    assert isinstance(fresh["test perplexity"], float)
    assert fresh["test perplexity"] == 7.389
    assert (reused["test loss (nats)"], reused["test perplexity"]) == ("2.0", "7.389")
    assert fresh["plot: routing by family"].startswith("![Routing by family](data:image/png;base64,")
