"""A whole conversation in one text, with the markers of a chat template: `<|im_start|>user`, `[INST]`, `### Response:`,
`<|assistant|>`, `<human>:` and the like, or `Human:` and `Assistant:` behind blank lines.

The text stands alone or under a key such as `text`. Markers of one kind count, those of all others are content: a
conversation may be about chat templates. What stands before the first turn goes to the metadata `header`.
"""

import re
from typing import Any, NamedTuple

from pixel_pipeline.conversations.formats.fields import besides, first_key, key_names
from pixel_pipeline.conversations.formats.roles import role_of
from pixel_pipeline.conversations.model.records import Message, Parsed

NAME = "inline_tags"
_KEYS = (
    "text",
    "conversation",
    "conversations",
    "dialogue",
    "dialog",
    "chat",
    "transcript",
    "content",
    "prompt",
    "input",
)
_BESIDE = (
    "role",
    "speaker",
    "from",
    "sender",
    "author",
    "replies",
    "response",
    "output",
    "completion",
    "answer",
)


class Template(NamedTuple):
    """One kind of markers.

    Attributes:
        hint: Text that it never lacks: a cheap first look.
        mark: What opens a turn; its group, where it has one, is the speaker.
        noise: What closes turns and texts, to be removed.
        leads: Whether the text has to begin with a marker: these are plain words, which prose may quote.
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
# Words that only a template uses for a side.
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
    metadata = {} if key is None else besides(record, (key,))
    if header:
        metadata["header"] = header
    return Parsed(messages, metadata)


def template_of(text: str) -> Template | None:
    """Returns the kind of markers by which a text is a conversation of both sides; None where there is none."""
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
    """Cuts a tagged text into turns; returns them and what stands before the first."""
    template = template_of(text)
    if template is None:
        return [], text.strip()
    marks = [mark for mark in template.mark.finditer(text) if _role(mark)]
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    turns: list[tuple[str, list[str]]] = []
    for mark, end in zip(marks, ends, strict=True):
        role, content = _role(mark) or "", _without(template.noise, text[mark.end() : end])
        if role == "user" and (system := _SYSTEM.match(content)):
            turns.append(("system", [system[1].strip()]))
            content = content[system.end() :]
        if turns and turns[-1][0] == role:
            # An instruction and its input.
            turns[-1][1].append(content)
        else:
            turns.append((role, [content]))
    messages: list[Message] = [
        (role, said[0] if len(said) == 1 else "\n\n".join(said).strip()) for role, said in turns
    ]
    # A template asks for the next answer by an open marker.
    if len(messages) > 1 and not messages[-1][1]:
        messages.pop()
    return messages, _without(template.noise, text[: marks[0].start()])


def _role(mark: re.Match[str]) -> str | None:
    word = mark[1].strip()
    return _ROLES.get(word.lower()) or role_of(word)


def _without(noise: re.Pattern[str] | None, text: str) -> str:
    return (text if noise is None else noise.sub("", text)).strip()


def _text_key(record: dict[str, Any]) -> str | None:
    names = key_names(record)
    if first_key(names, _BESIDE):
        return None
    key = first_key(names, _KEYS)
    return key if key is not None and isinstance(record[key], str) else None
