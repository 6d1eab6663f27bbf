"""Evaluation figures against a plain computation, and what is stored."""

from collections.abc import Callable
from math import exp, log
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import orjson
import pytest
import torch

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.errors import ObjectNotFoundError
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.base.model import open_folder
from pixel_pipeline.training.checkpoints.history import History, Validation
from pixel_pipeline.training.checkpoints.result import TrainingResult
from pixel_pipeline.training.checkpoints.store import download
from pixel_pipeline.training.config.adapters import AdaptersConfig
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.config.curriculum import Curriculum, Stage
from pixel_pipeline.training.data.dataset import ShardDataset, collate, rows_by_family
from pixel_pipeline.training.errors import TrainingDataError
from pixel_pipeline.training.evaluation.evaluate import evaluate
from pixel_pipeline.training.evaluation.plots import (
    expert_load_map,
    loss_curve,
    perplexity_bars,
    routing_map,
)
from pixel_pipeline.training.evaluation.report import DEAD_BELOW, EvaluationReport, pooled
from pixel_pipeline.training.evaluation.store import evaluation_prefix
from pixel_pipeline.training.evaluation.tables import (
    category_table,
    family_table,
    layer_table,
    routing_table,
)
from pixel_pipeline.training.loop.scoring import score_families
from pixel_pipeline.training.model import router_health
from pixel_pipeline.training.model.adapted_model import AdaptedModel
from pixel_pipeline.training.model.adapters_off import adapters_off
from pixel_pipeline.training.model.from_scratch import load_model
from pixel_pipeline.training.train import train
from pixel_pipeline_tests.training.base.models import write_base
from pixel_pipeline_tests.training.reports import family, report_of
from pixel_pipeline_tests.training.shards import CATEGORIES, FAMILIES, write_shards

CPU = torch.device("cpu")
Run = Callable[[TrainingConfig], TrainingResult]
Evaluate = Callable[[TrainingResult], EvaluationReport]


@pytest.fixture
def adapted(config: TrainingConfig, lake: Lake, manifest_key: str, tmp_path: Path) -> TrainingConfig:
    """Adapters on a base model with the tokenizer of the shards."""
    tokenizer = ShardManifest.load(lake.data, manifest_key).tokenizer
    folder = write_base(tmp_path / "base", kind="llama", vocab_size=tokenizer.vocab_size, num_hidden_layers=2)
    (folder / "tokenizer.json").write_bytes(lake.data.get(tokenizer.key))
    changes = {"base": str(folder), "adapters": AdaptersConfig(rank=4, alpha=8, layers=(1,))}
    return config.model_copy(update=changes)


@pytest.fixture
def run(lake: Lake, manifest_key: str, tmp_path: Path) -> Run:
    return lambda config: train(
        config, lake, manifest_key, report=lambda line: None, git_revision="abc123", home=tmp_path
    )


@pytest.fixture
def evaluated(lake: Lake, manifest_key: str, tmp_path: Path) -> Evaluate:
    return lambda trained: evaluate(
        lake, trained.uri, manifest_key, lambda line: None, home=tmp_path, cache=tmp_path / "cache"
    )


def stored(lake: Lake, trained: TrainingResult, name: str) -> str:
    return lake.checkpoints.get(f"{evaluation_prefix(trained.checkpoint)}/{name}").decode()


def test_figures_equal_a_plain_computation_and_are_stored(
    lake: Lake, manifest_key: str, config: TrainingConfig, run: Run, evaluated: Evaluate, tmp_path: Path
) -> None:
    trained = run(config.model_copy(update={"steps": 4}))
    result = evaluated(trained)
    assert [item.name for item in result.test.families] == [*FAMILIES]
    assert result.model_sha256 == trained.model_sha256
    assert (result.base, result.test.total.base, result.base_safety) == (None, None, None)
    assert all(sum(load) == pytest.approx(1.0) for load in result.expert_load)
    assert all(0 < entropy <= log(result.experts) + 1e-9 for entropy in result.router_entropy)

    folder = tmp_path / "model"
    folder.mkdir()
    download(lake, trained.checkpoint, folder=folder)
    model = load_model(folder, device=CPU).train(False)
    manifest = ShardManifest.load(lake.data, manifest_key)
    dataset = ShardDataset(manifest, split="test", bucket=lake.data, cache=tmp_path / "cache")
    total, count = 0.0, 0
    for index, name in enumerate(dataset.families):
        if name == "sleep":
            batch = collate([dataset[index]])
            with torch.no_grad():
                logits = model(
                    batch.tokens,
                    attention_mask=batch.attention,
                    position_ids=batch.positions,
                    use_cache=False,
                ).logits
            losses = -logits[0].log_softmax(-1)[batch.target_index, batch.targets]
            total, count = total + float(losses.sum()), count + len(losses)
    sleep = result.test.families[1]
    assert (sleep.target_tokens, sleep.loss) == (count, pytest.approx(total / count, rel=1e-4))
    assert sleep.perplexity == pytest.approx(exp(sleep.loss))

    content = orjson.loads(stored(lake, trained, "evaluation.json"))
    assert content["perplexity"] == result.perplexity
    assert EvaluationReport.from_json(content) == result
    for name in ("perplexity.png", "expert-load.png", "routing.png"):
        key = f"{evaluation_prefix(trained.checkpoint)}/{name}"
        assert lake.checkpoints.get(key).startswith(b"\x89PNG")

    other = write_shards(lake, vocab_size=300)
    with pytest.raises(TrainingDataError, match="another tokenizer"):
        evaluate(lake, trained.uri, other, lambda line: None, cache=tmp_path / "cache")


def test_categories_and_totals_are_weighted_by_target_tokens(
    config: TrainingConfig, run: Run, evaluated: Evaluate
) -> None:
    split = evaluated(run(config.model_copy(update={"steps": 4}))).test
    rest = [item for item in split.families if CATEGORIES[item.name] == "rest"]
    tokens = sum(item.target_tokens for item in rest)
    (found,) = [item for item in split.categories if item.name == "rest"]
    assert found.loss == pytest.approx(sum(item.loss * item.target_tokens for item in rest) / tokens)
    assert split.total.target_tokens == sum(item.target_tokens for item in split.families)


def test_an_evaluation_is_made_once(
    lake: Lake, manifest_key: str, config: TrainingConfig, run: Run, evaluated: Evaluate, tmp_path: Path
) -> None:
    trained = run(config.model_copy(update={"steps": 4}))
    first, lines = evaluated(trained), list[str]()
    again = evaluate(lake, trained.uri, manifest_key, lines.append, home=tmp_path)
    assert again == first
    assert lines[-1].endswith("unchanged")
    fewer = evaluate(lake, trained.uri, manifest_key, lines.append, home=tmp_path, most_rows=3)
    assert (fewer.row_limit, fewer.test.total.rows) == (3, 3)


def test_the_base_is_scored_beside_its_adapters(
    lake: Lake, manifest_key: str, adapted: TrainingConfig, run: Run, evaluated: Evaluate, tmp_path: Path
) -> None:
    trained = run(adapted)
    result = evaluated(trained)
    assert result.layers == (1,)
    assert result.base_safety is not None
    for split in result.splits:
        assert split.total.base is not None
        assert split.total.loss < split.total.base - 0.1
    # A base without a single adapter on it, by code that knows none.
    folder = Path(adapted.base or "")
    plain = AdaptedModel(
        open_folder(folder), AdaptersConfig(experts=1, experts_per_token=1, layers=()), seed=0, device=CPU
    )
    for name, parameter in plain.trained_parameters().items():
        if name.endswith("lora_B"):
            torch.nn.init.zeros_(parameter)
    manifest = ShardManifest.load(lake.data, manifest_key)
    dataset = ShardDataset(manifest, split="test", bucket=lake.data, cache=tmp_path / "cache")
    score = score_families(plain, dataset, rows=rows_by_family(dataset, limit=512))
    assert score is not None
    assert result.test.total.base == pytest.approx(score.loss, rel=1e-5)
    samples = orjson.loads(stored(lake, trained, "samples.json"))["samples"]
    assert len(samples) == 24
    assert all(isinstance(sample["base_answer"], str) for sample in samples)
    assert any(sample["answer"] != sample["base_answer"] for sample in samples)


def test_adapters_are_put_back(adapted: TrainingConfig) -> None:
    model = AdaptedModel(open_folder(Path(adapted.base or "")), adapted.adapters, seed=3, device=CPU)
    before = model.copy_of_trained()

    def broken_off() -> None:
        with adapters_off(model):
            assert not any(
                p.any() for name, p in model.trained_parameters().items() if name.endswith("lora_B")
            )
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        broken_off()
    after = model.copy_of_trained()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_plain_lora_is_evaluated_and_compared_with(
    lake: Lake, adapted: TrainingConfig, run: Run, evaluated: Evaluate
) -> None:
    mixture = run(adapted)
    assert evaluated(mixture).dense is None
    dense = run(adapted.model_copy(update={"dense_baseline": True}))
    alone = evaluated(dense)
    assert (alone.layers, alone.dense, alone.dead_experts, alone.load_ratio) == ((), None, [], 1.0)
    assert routing_table(alone) is layer_table(alone) is None
    with pytest.raises(ObjectNotFoundError):
        stored(lake, dense, "expert-load.png")
    # Another run's baseline says nothing of this one.
    run(adapted.model_copy(update={"dense_baseline": True, "learning_rate": 1e-3}))
    compared = evaluated(mixture)
    assert compared.dense == dense.uri
    assert compared.test.total.dense == pytest.approx(alone.loss)
    assert "loss below dense" in family_table(compared.test)


def test_stages_of_a_curriculum_are_told_apart(
    adapted: TrainingConfig, run: Run, evaluated: Evaluate
) -> None:
    stages = (
        Stage(name="first", share=0.5, families={"rest": 1.0}),
        Stage(name="second", share=0.5, families={"work": 1.0, "cal*": 1.0}),
    )
    result = evaluated(run(adapted.model_copy(update={"curriculum": Curriculum(stages=stages)})))
    assert result.stages == {"first": ["calm", "sleep"], "second": ["calm", "work"]}
    first = result.test.of_families("first", result.stages["first"])
    (rest,) = [item for item in result.test.categories if item.name == "rest"]
    assert first is not None
    assert (first.loss, first.target_tokens) == (rest.loss, rest.target_tokens)


def test_the_model_card_tells_all_but_answers(
    lake: Lake, adapted: TrainingConfig, run: Run, evaluated: Evaluate
) -> None:
    trained = run(adapted)
    evaluated(trained)
    card = stored(lake, trained, "README.md")
    for told in (
        trained.uri,
        trained.model_sha256,
        "abc123",
        "| steps | 12 |",
        "| skipped steps | 0 |",
        "licence is not recorded",
        "adapters.rank: 4",
        "| sleep | rest | 80 |",
        "a smoke test, no safety assurance",
        "pixel export",
        "### Routing",
    ):
        assert told in card, told
    for sample in orjson.loads(stored(lake, trained, "samples.json"))["samples"]:
        for answer in (sample["answer"], sample["base_answer"]):
            assert len(answer) < 8 or answer not in card
            assert answer in stored(lake, trained, "samples.md")


def test_dead_experts_and_uneven_load_are_found() -> None:
    result = report_of(family("calm", counts=[[250, 250, 250, 250], [600, 385, 15, 0]]), layers=(2, 5))
    assert result.dead_experts == [(5, 2), (5, 3)]
    assert result.load_ratio == pytest.approx(2.4)
    assert family_table(result.test).splitlines()[2] == "| calm | 2 | 10 | 1.000 | 2.7 |"
    table = routing_table(result)
    assert table is not None
    assert table.splitlines()[2] == "| calm | 42.5% | 31.8% | 13.2% | 12.5% |"


def test_an_expert_is_dead_by_one_measure() -> None:
    assert DEAD_BELOW == router_health.DEAD_BELOW


@given(
    st.lists(
        st.tuples(st.integers(1, 10**6), st.floats(0, 20), st.one_of(st.none(), st.floats(0, 20))), min_size=1
    )
)
def test_pooled_losses_lie_between_those_of_the_parts(parts: list[tuple[int, float, float | None]]) -> None:
    results = [
        family(str(n), tokens=tokens, loss=loss, base=base) for n, (tokens, loss, base) in enumerate(parts)
    ]
    total = pooled("all", results)
    losses = [loss for _, loss, _ in parts]
    assert min(losses) - 1e-9 <= total.loss <= max(losses) + 1e-9
    assert total.target_tokens == sum(tokens for tokens, _, _ in parts)
    assert (total.base is None) == any(base is None for _, _, base in parts)


def test_pictures_are_small_opaque_and_repeatable() -> None:
    history = History(losses=[8 / (1 + step / 50) for step in range(300)])
    history.validations = [Validation(step=step, loss=8 - step / 60, families={}) for step in (0, 150, 300)]
    result = report_of(
        *(family(f"family_{n}", loss=1 + n / 8, base=2.0, counts=[[n + 1, 5, 5, 9]] * 4) for n in range(12))
    )
    drawings: tuple[Callable[[], Any], ...] = (
        lambda: loss_curve(history),
        lambda: perplexity_bars(result.test.families),
        lambda: expert_load_map(result.expert_load, layers=result.layers),
        lambda: routing_map(result),
    )
    for draw in drawings:
        png = draw()
        assert png == draw()
        assert len(png) < 150_000
        assert int.from_bytes(png[16:20], "big") == 900


def test_category_table_is_by_category() -> None:
    result = report_of(family("calm", category="rest"), family("sleep", category="rest"), family("work"))
    assert [line.split(" | ")[0] for line in category_table(result.test).splitlines()[2:]] == [
        "| rest",
        "| work",
        "| **all**",
    ]
