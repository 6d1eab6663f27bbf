"""A whole conversation in one text, with the markers of a chat template: `<|im_start|>user`, `[INST]`, `### Response:`,
`<|assistant|>`, `<human>:` and the like, or `Human:` and `Assistant:` after blank lines.

The text is the record itself or under a key such as `text`. Only markers of one kind count; all others are content, because a
conversation may be about chat templates. Text before the first turn goes to the metadata `header`.
"""

import re
from typing import Any, NamedTuple

from pixel_pipeline.conversations.formats.fields import first_key, key_names, without
from pixel_pipeline.conversations.formats.roles import role_of
from pixel_pipeline.conversations.model.records import Message, Parsed

NAME = "inline_tags"
_KEYS = ("text", "conversation", "conversations", "dialogue", "dialog", "chat", "transcript", "content", "prompt", "input")  # fmt: skip
# Next to one of these, the text is only one turn.
_OTHER_TURNS = ("role", "speaker", "from", "sender", "author", "replies", "response", "output", "completion", "answer")  # fmt: skip


class Template(NamedTuple):
    """One kind of markers.

    Attributes:
        hint: Part of every text with these markers, for a cheap first test.
        mark: Opens a turn; its group is the speaker.
        noise: Closes turns and texts; removed.
        leads: Whether the text must begin with a marker, because the markers are plain words that prose may quote.
    """

    hint: str
    mark: re.Pattern[str]
    noise: re.Pattern[str] | None = None
    leads: bool = False


_END = re.compile(
    r"</?s>|<\|(?:im_end|end|eot_id|eom_id|endoftext|end_of_text|begin_of_text|return)\|>|<end_of_turn>|<bos>|<eos>"
)
_TEMPLATES = (
    Template("<|im_start|>", re.compile(r"<\|im_start\|>[ \t]*(\w+)[ \t]*\n?"), _END),
    Template("<|start_header_id|>", re.compile(r"<\|start_header_id\|>\s*(\w+)\s*<\|end_header_id\|>\s*"), _END),
    Template("<start_of_turn>", re.compile(r"<start_of_turn>[ \t]*(\w+)[ \t]*\n?"), _END),
    Template("[/INST]", re.compile(r"\[(/?INST)\]"), _END),
    Template("<|", re.compile(r"<\|(system|user|assistant|prompter|human|bot|model|observation)\|>:?\s*", re.IGNORECASE), _END),
    Template("<human>:", re.compile(r"<(human|bot)>:[ \t]*"), _END),
    Template("###", re.compile(r"(?m)^[ \t]*#{2,4}[ \t]*([^\W\d][\w ]{1,20}?)[ \t]*[:：][ \t]*"), _END),
    Template("Assistant:", re.compile(r"(?m)^[ \t]*(Human|Assistant|System):[ \t]*"), None, True),
    Template("ASSISTANT:", re.compile(r"(?:\A\s*|(?<=[\s>]))(USER|ASSISTANT|SYSTEM):[ \t]*"), _END),
)  # fmt: skip
_SYSTEM = re.compile(r"\s*<<SYS>>\n?(.*?)\n?<</SYS>>\s*", re.DOTALL)
# Words that only templates use for a role.
_ROLES = {
    "inst": "user", "/inst": "assistant", "instruction": "user", "instructions": "user", "input": "user", "question": "user",
    "query": "user", "prompt": "user", "response": "assistant", "output": "assistant", "answer": "assistant",
    "指令": "user", "输入": "user", "问题": "user", "回答": "assistant", "回复": "assistant", "输出": "assistant",
}  # fmt: skip


def matches(record: Any) -> bool:
    if isinstance(record, str):
        return template_of(record) is not None
    if not isinstance(record, dict):
        return False
    key = _text_key(record)
    return key is not None and template_of(record[key]) is not None


def convert(record: Any) -> Parsed:
    key = None if isinstance(record, str) else _text_key(record) or ""
    messages, header = parse_tagged(record if key is None else record[key])
    metadata = {} if key is None else without(record, (key,))
    if header:
        metadata["header"] = header
    return Parsed(messages, metadata)


def template_of(text: str) -> Template | None:
    """Return the template whose markers make a text a conversation of both sides, or None."""
    for template in _TEMPLATES:
        if template.hint in text:
            marks = list(template.mark.finditer(text))
            roles = {_role(mark) for mark in marks}
            if (
                "user" in roles
                and "assistant" in roles
                and not (template.leads and text[: marks[0].start()].strip())
            ):
                return template
    return None


def parse_tagged(text: str) -> tuple[list[Message], str]:
    """Split a tagged text into turns; return them and the text before the first."""
    template = template_of(text)
    if template is None:
        return [], text.strip()
    marks = [mark for mark in template.mark.finditer(text) if _role(mark)]
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    turns: list[tuple[str, list[str]]] = []
    for mark, end in zip(marks, ends, strict=True):
        role, content = _role(mark) or "", _stripped(template.noise, text[mark.end() : end])
        if role == "user" and (system := _SYSTEM.match(content)):
            turns.append(("system", [system[1].strip()]))
            content = content[system.end() :]
        if turns and turns[-1][0] == role:
            # An instruction and its input.
            turns[-1][1].append(content)
        else:
            turns.append((role, [content]))
    messages: list[Message] = [
        (role, texts[0] if len(texts) == 1 else "\n\n".join(texts).strip()) for role, texts in turns
    ]
    # A template ends with an open marker to ask for the next answer.
    if len(messages) > 1 and not messages[-1][1]:
        messages.pop()
    return messages, _stripped(template.noise, text[: marks[0].start()])


def _role(mark: re.Match[str]) -> str | None:
    word = mark[1].strip()
    return _ROLES.get(word.lower()) or role_of(word)


def _stripped(noise: re.Pattern[str] | None, text: str) -> str:
    return (text if noise is None else noise.sub("", text)).strip()


def _text_key(record: dict[str, Any]) -> str | None:
    names = key_names(record)
    if first_key(names, _OTHER_TURNS):
        return None
    key = first_key(names, _KEYS)
    return key if key is not None and isinstance(record[key], str) else None
