"""The experts benchmarks at tiny sizes."""

from dataclasses import asdict, replace
from typing import Any

import pytest

from benchmarks import experts, experts_ours, h100

TINY = experts.Sizes(
    steps=2, hidden=32, intermediate=48, layers=2, heads=4, key_value_heads=2, vocabulary=64, length=8, rank=2
)


def test_the_mixture_job_counts_its_tokens() -> None:
    assert experts_ours.mixture(**asdict(TINY))() == 2 * 2 * 8


@pytest.mark.parametrize("options", [[], ["--checkpointing"], ["--frozen", "fp8"]])
def test_h100_runs_at_tiny_sizes(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    figures = h100.main(["--shape", "tiny", "--device", "cpu", "--length", "16", "--steps", "2", *options])
    assert [figure.figure for figure in figures] == ["tiny, training", "tiny, MFU"]
    assert min(figure.value for figure in figures) > 0
    assert "tiny, MFU" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "billions"), [("7b", 7.2), ("12b", 12.2)])
def test_shapes_have_the_named_size_and_fit_an_h100(name: str, billions: float) -> None:
    from transformers import MistralConfig

    from pixel_pipeline.training.config.adapters import AdaptersConfig
    from pixel_pipeline.training.model.cost import MixtureCost
    from pixel_pipeline.training.model.losses import CHUNK_ROWS

    shape = h100.SHAPES[name]
    config: Any = MistralConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_dim,
        tie_word_embeddings=False,
    )
    cost = MixtureCost(config, AdaptersConfig())
    assert cost.frozen_parameters / 1e9 == pytest.approx(billions, abs=0.1)
    assert cost.peak_bytes(tokens=4096, checkpointing=False, chunk_rows=CHUNK_ROWS) < 78 * h100.GIB


def test_both_sides_have_the_same_sizes() -> None:
    bench = experts.Bench(experts.Options(1, 1.0, experts.Path("python")), replace(TINY))
    assert bench.ours().arguments == bench.peer("dense_lora").arguments == asdict(TINY)
