"""`pixel runs`, `pixel checkpoints`, `pixel evaluate` and `pixel promote` on tiny trained models."""

from collections.abc import Callable
import json
from pathlib import Path

import pytest

from pixel_pipeline.cli.exit_codes import ExitCode
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.training.checkpoints.store import CheckpointRef
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.train import train
from pixel_pipeline_tests.cli.command import pixel
from pixel_pipeline_tests.training.conftest import cache, config, manifest_key

__all__ = ["cache", "config", "manifest_key"]

Train = Callable[..., CheckpointRef]


@pytest.fixture
def run_training(lake: Lake, manifest_key: str, config: TrainingConfig, cache: Path) -> Train:
    def run(name: str, **changes: object) -> CheckpointRef:
        return train(
            config.model_copy(update=changes),
            lake,
            manifest_key,
            run=name,
            report=lambda line: None,
            git_revision="0123456789abcdef",
            cache=cache,
        ).checkpoint

    return run


def test_an_empty_bucket_names_the_next_step(lake: Lake) -> None:
    for verb in ("runs", "checkpoints"):
        result = pixel(verb)
        assert (result.code, result.stdout) == (ExitCode.OK, "")
        assert "pixel train" in result.stderr
    assert json.loads(pixel("runs", "--json").stdout)["runs"] == []
    missing = pixel("runs", "show", "none")
    assert missing.code == ExitCode.ERROR
    assert "no complete checkpoint 'none'" in missing.stderr


def test_runs_are_listed_shown_and_compared(run_training: Train, lake: Lake) -> None:
    run_training("first")
    run_training("second", learning_rate=1e-3)
    # A damaged run is reported, and does not hide the others.
    lake.checkpoints.put("broken/step-000001/manifest.json", b"{}")

    listed = json.loads(pixel("runs", "list", "--json").stdout)
    found = {run["run"]: run for run in listed["runs"]}
    assert {*found} == {"first", "second", "broken"}
    assert "lacks fields" in found["broken"]["problem"]
    second = found["second"]
    assert (second["step"], second["steps"], second["final"], second["kind"]) == (12, 12, True, "mixture")
    assert second["first_validation_loss"] > second["validation_loss"] > 0
    assert second["names"] == ["latest", "best of the run"]
    table = pixel("runs").stdout
    assert "12 of 12, complete" in table
    assert "damaged" in table

    shown = json.loads(pixel("runs", "show", "first", "--json").stdout)
    assert shown["checkpoints"] == [6, 12]
    assert shown["identity"]["learning_rate"] == 1e-2
    assert "0123456789ab" in pixel("runs", "show", "first").stdout

    compared = json.loads(pixel("runs", "compare", "first", "latest", "--json").stdout)
    assert compared["differences"] == [{"name": "learning_rate", "values": [1e-2, 1e-3]}]
    assert [summary["run"] for summary in compared["checkpoints"]] == ["first", "second"]
    text = pixel("runs", "compare", "first", "second").stdout
    assert any(line.split() == ["learning_rate", "0.01", "0.001"] for line in text.splitlines())


def test_a_checkpoint_is_evaluated_promoted_and_its_card_opened(
    run_training: Train, lake: Lake, manifest_key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = run_training("source")
    ref = run_training("only", init_from=source.prefix)
    lake.data.put_json(keys.CURRENT_TOKENS, {"manifest": manifest_key})
    missing = pixel("checkpoints", "card")
    assert missing.code == ExitCode.ERROR
    assert f"hint: Run `pixel evaluate {ref.prefix}`." in missing.stderr

    report = json.loads(pixel("evaluate", ref.prefix, "--json").stdout)
    summary = json.loads(pixel("checkpoints", "list", "only", "--json").stdout)["checkpoints"][-1]
    assert summary["evaluation"]["loss"] == pytest.approx(report["loss"])

    card = pixel("checkpoints", "card", "only")
    assert "\n# only\n" in card.stdout
    assert f"| first weights | `{source.prefix}` |" in card.stdout
    document = json.loads(pixel("checkpoints", "card", "--json").stdout)
    assert document["markdown"] == card.stdout
    assert document["checkpoint"] == ref.uri(lake)
    pixel("checkpoints", "card", "--output", tmp_path / "card.md")
    assert (tmp_path / "card.md").read_text() == card.stdout
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert pixel("checkpoints", "card", "--open").stdout == ""
    page = Path(opened[0].removeprefix("file://")).read_text()
    assert "<h1>only</h1>" in page
    assert "<table>" in page
    assert "library_name" not in page

    promoted = json.loads(pixel("promote", "--json").stdout)
    assert promoted["promoted"]
    summaries = json.loads(pixel("checkpoints", "--json").stdout)["checkpoints"]
    (names,) = [summary["names"] for summary in summaries if summary["uri"] == ref.uri(lake)]
    assert names == ["latest", "best of the run", "promoted"]


def test_a_failed_gate_is_a_negative_verdict(
    run_training: Train, lake: Lake, manifest_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_training("only")
    lake.data.put_json(keys.CURRENT_TOKENS, {"manifest": manifest_key})
    # Every expert counts as dead.
    monkeypatch.setattr("pixel_pipeline.training.evaluation.report.DEAD_BELOW", 100.0)
    result = pixel("promote")
    assert (result.code, result.stdout) == (ExitCode.NEGATIVE, "")
    assert "is not promoted. " in result.stderr
    assert "hint: Train further, or promote another checkpoint." in result.stderr
