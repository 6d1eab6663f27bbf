"""inline_tags: a conversation in one text, by the markers of chat templates."""

from collections.abc import Callable
from typing import Any

import pytest

from pixel_pipeline.conversations.formats.known import find_format
from pixel_pipeline.conversations.model.records import Parsed

Parse = Callable[[Any], Parsed]
TALK = [("user", "a: b"), ("assistant", "c\n\n### d"), ("user", "e"), ("assistant", "f")]


@pytest.mark.parametrize(
    "text",
    [
        "<|im_start|>user\na: b<|im_end|>\n<|im_start|>assistant\nc\n\n### d<|im_end|>\n<|im_start|>user\ne<|im_end|>\n"
        "<|im_start|>assistant\nf<|im_end|>\n<|im_start|>assistant\n",
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\na: b<|eot_id|><|start_header_id|>assistant<|end_header_id|>"
        "\n\nc\n\n### d<|eot_id|><|start_header_id|>user<|end_header_id|>\n\ne<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nf<|eot_id|>",
        "<bos><start_of_turn>user\na: b<end_of_turn>\n<start_of_turn>model\nc\n\n### d<end_of_turn>\n<start_of_turn>user\ne<end_of_turn>\n"
        "<start_of_turn>model\nf<end_of_turn>",
        "<s>[INST] a: b [/INST] c\n\n### d </s><s>[INST] e [/INST] f </s>",
        "<|user|>\na: b</s>\n<|assistant|>\nc\n\n### d</s>\n<|user|>\ne</s>\n<|assistant|>\nf</s>",
        "<|prompter|>a: b<|endoftext|><|assistant|>c\n\n### d<|endoftext|><|prompter|>e<|endoftext|><|assistant|>f<|endoftext|>",
        "<human>: a: b\n<bot>: c\n\n### d\n<human>: e\n<bot>: f",
        "### Human: a: b\n### Assistant: c\n\n### d\n### Human: e\n### Assistant: f",
        "### 问题：a: b\n### 回答：c\n\n### d\n### 问题：e\n### 回答：f",
        "\n\nHuman: a: b\n\nAssistant: c\n\n### d\n\nHuman: e\n\nAssistant: f",
        "USER: a: b ASSISTANT: c\n\n### d</s>USER: e ASSISTANT: f</s>",
    ],
)
@pytest.mark.parametrize("key", ["text", None])
def test_templates(parse: Parse, text: str, key: str | None) -> None:
    got = parse(text if key is None else {key: text, "id": 1})
    assert got.messages == TALK
    assert got.metadata == ({} if key is None else {"id": 1})


def test_an_instruction_and_its_input_are_one_turn(parse: Parse) -> None:
    text = (
        "Below is a task.\n\n### Instruction:\nSum up.\n\n### Input:\nA day.\n\n### Response:\nA day it was."
    )
    got = parse({"text": text})
    assert got.messages == [("user", "Sum up.\n\nA day."), ("assistant", "A day it was.")]
    assert got.metadata == {"header": "Below is a task."}


def test_system_texts(parse: Parse) -> None:
    got = parse("<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\na [/INST] b </s>")
    assert got.messages == [("system", "Be kind."), ("user", "a"), ("assistant", "b")]
    got = parse("<|system|>\nBe kind.</s>\n<|user|>\na</s>\n<|assistant|>\nb</s>")
    assert got.messages[0] == ("system", "Be kind.")


@pytest.mark.parametrize(
    "record",
    [
        {"text": "How does <|im_start|>user work?"},
        {"text": "### Notes: one\n### Steps: two"},
        {"text": "She said:\nHuman: a\nAssistant: b\nand so on,\nfor a long time\nthat I remember"},
        {"text": "<|user|>a<|assistant|>b", "role": "user"},
    ],
)
def test_texts_that_only_mention_markers(record: Any) -> None:
    assert find_format(record) is None
