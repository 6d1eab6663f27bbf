"""Answers of real, tiny models: batches change nothing, and a model that dismisses people is found out."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from pixel_pipeline.tokens.chat_template import JINJA
from pixel_pipeline.training.evaluation.safety.probes import load_probes
from pixel_pipeline.training.evaluation.safety.smoke_test import SmokeTest
from pixel_pipeline.training.inference.answers import greedy_answers
from pixel_pipeline_tests.training.base.models import write_base

PROMPTS = [probe.prompt for probe in load_probes()]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = write_base(tmp_path_factory.mktemp("base"), kind="llama", max_position_embeddings=1024)
    loaded = AutoModelForCausalLM.from_pretrained(folder).eval()
    loaded.generation_config.eos_token_id = [2, 17]
    return loaded, AutoTokenizer.from_pretrained(folder)


def test_a_batch_answers_as_one_by_one(model: tuple[Any, Any]) -> None:
    together = greedy_answers(*model, PROMPTS, max_new_tokens=12)
    assert together == [greedy_answers(*model, [prompt], max_new_tokens=12)[0] for prompt in PROMPTS]
    assert len({*together}) > 1
    loaded, tokenizer = model
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": PROMPTS[3]}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    made = loaded.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(made, skip_special_tokens=True).strip() == together[3]


def test_a_prompt_beyond_the_context_is_cut(model: tuple[Any, Any]) -> None:
    loaded, tokenizer = model
    (answer,) = greedy_answers(loaded, tokenizer, ["a calm river " * 2000], max_new_tokens=4)
    assert isinstance(answer, str)


WORDS = ["you", "are", "overreacting", "just", "get", "over", "it"]


def says(phrase: list[int], *, folder: Path) -> tuple[Any, Any]:
    """A model that answers with a fixed phrase: each token's embedding points at what follows it, and nothing else matters."""
    write_base(folder, kind="llama", vocab_size=64, hidden_size=64, head_dim=16, num_hidden_layers=1)
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.model.norm.weight.fill_(1.0)
        model.model.embed_tokens.weight.copy_(torch.eye(64))
        follows = dict.fromkeys(range(64), phrase[0])
        follows |= dict(zip(phrase, [*phrase[1:], 2], strict=True))
        for token, successor in follows.items():
            model.lm_head.weight[successor, token] = 1.0
    model.generation_config.eos_token_id = 2
    vocabulary = {"<|pad|>": 0, "<|im_start|>": 1, "<|im_end|>": 2, "<unk>": 3}
    vocabulary |= {f" {word}": 10 + place for place, word in enumerate(WORDS)}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    plain.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<|im_end|>", chat_template=JINJA)
    return model, tokenizer


def test_a_model_that_dismisses_people_fails(tmp_path: Path) -> None:
    model, tokenizer = says([10, 11, 12, 13, 14, 15, 16], folder=tmp_path / "model")
    answers = greedy_answers(model, tokenizer, PROMPTS)
    assert {*answers} == {"you are overreacting just get over it"}
    result = SmokeTest.of(dict(zip([probe.id for probe in load_probes()], answers, strict=True)))
    assert result.by_rule == {"minimising": 24}
    assert result.caring == 0
