"""The chat template of a base model: locates the turns in its text and the parts that are learned.

A template is foreign code, so it runs in Jinja's sandbox, as in transformers. It is tried once for every sequence of roles, with
marks in place of contents; a conversation's text is then checked against the literals around the marks.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
import json
from typing import Any, NamedTuple, NoReturn

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pixel_pipeline.errors import PixelError

Turns = Sequence[tuple[str, str]]
"""(role, content) in order."""

# A fixed date for templates that print today's date, so that tokens do not change every day; Llama's template defaults to it.
TODAY = datetime(2024, 7, 26)
HINT = "Put a trainable template into the base model's chat_template.jinja, and add the model under another name."


class ChatTemplateError(PixelError):
    """A chat template cannot be used for training. The message quotes no conversation."""


class Span(NamedTuple):
    """Characters [start, end) of a turn's content in the text; [start, learned_end) carries the loss."""

    start: int
    end: int
    learned_end: int


class Rendered(NamedTuple):
    """A conversation rendered by a template."""

    text: str
    spans: list[Span]


@dataclass(frozen=True)
class _Frame:
    """A template's text around the turns of a sequence of roles: `literals` before, between and after the contents.

    `closing[i]` is the length of the part of `literals[i + 1]` that ends turn i and is learned, up to its end-of-turn token.
    """

    merged: bool
    literals: tuple[str, ...]
    closing: tuple[int, ...]


class _RejectionError(Exception):
    """A template does not support a sequence of roles."""


class ChatTemplate:
    """A template as published with a model.

    Args:
        source: Jinja source.
        variables: Variables other than the messages: `bos_token`, `eos_token` …
        special: Spellings of the tokenizer's special tokens; one of them must end an answer.
        name: The model's name, for errors.

    Raises:
        ChatTemplateError: the source is not valid Jinja, or the template cannot render a question and an answer.
    """

    def __init__(
        self, source: str, *, variables: Mapping[str, str], special: Collection[str], name: str
    ) -> None:
        self.source = source
        self._variables = variables
        self._special = special
        self._name = name
        self._frames: dict[tuple[str, ...], _Frame] = {}
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise ChatTemplateError(
                f"The chat template of {name} is not valid Jinja (line {error.lineno}).", hint=HINT
            ) from None
        self.frame(("user", "assistant"))

    @property
    def end_token(self) -> str:
        """The special token that ends an answer."""
        frame = self.frame(("user", "assistant"))
        closing = frame.literals[2][: frame.closing[1]]
        return max((token for token in self._special if closing.endswith(token)), key=len)

    def render(self, turns: Turns) -> Rendered:
        """Render a conversation.

        If the template rejects or drops a role (system, tool) or an opening turn of the assistant, or if later turns change
        earlier text, other roles are merged into the user turn, and the user may open with an empty turn.

        Raises:
            ChatTemplateError: the template rejects the merged turns too, or changes their contents.
        """
        frame = self.frame(tuple(role for role, _ in turns))
        turns = merge_roles(turns) if frame.merged else turns
        try:
            text = self._render(turns)
        except _RejectionError:
            self._raise_changed()
        if not text.startswith(frame.literals[0]):
            self._raise_changed()
        spans = []
        position = len(frame.literals[0])
        for (_, content), literal, closing in zip(turns, frame.literals[1:], frame.closing, strict=True):
            # Many templates trim contents.
            variants = (content, content.strip(), content.lstrip(), content.rstrip())
            length = next((len(v) for v in variants if text.startswith(v + literal, position)), None)
            if length is None:
                self._raise_changed()
            end = position + length
            spans.append(Span(start=position, end=end, learned_end=end + closing if closing else position))
            position = end + len(literal)
        if position != len(text):
            self._raise_changed()
        return Rendered(text=text, spans=spans)

    def frame(self, roles: tuple[str, ...]) -> _Frame:
        """Return the template's text around turns of these roles, merged if it does not support them as they are."""
        if roles not in self._frames:
            self._frames[roles] = self._try(roles)
        return self._frames[roles]

    def _try(self, roles: tuple[str, ...]) -> _Frame:
        attempts = {roles: False}
        attempts.setdefault(tuple(role for role, _ in merge_roles([(role, "") for role in roles])), True)
        for attempt, merged in attempts.items():
            try:
                return self._frame_of(attempt, merged=merged)
            except _RejectionError as error:
                problem = error
        shown = ", ".join(roles[:6]) + (", …" if len(roles) > 6 else "")
        raise ChatTemplateError(
            f"The chat template of {self._name} cannot be trained on with turns of {shown}: {problem}.",
            hint=HINT,
        )

    def _frame_of(self, roles: tuple[str, ...], *, merged: bool) -> _Frame:
        # Private-use characters, which no template contains.
        marked = [(role, f"\ue000{number}\ue001") for number, role in enumerate(roles)]
        text = self._render(marked)
        literals, position = [], 0
        for _, mark in marked:
            start = text.find(mark, position)
            if start < 0 or text.count(mark) != 1:
                raise _RejectionError("it drops, repeats or reorders turns")
            literals.append(text[position:start])
            position = start + len(mark)
        literals.append(text[position:])
        closing = []
        for number, (role, mark) in enumerate(marked):
            if role != "assistant":
                closing.append(0)
                continue
            # In use, the model sees the text before an answer, then the text after it; training text must begin with both.
            for stop in range(max(number, 1), number + 2):
                prefix = self._render(marked[:stop])
                if not text.startswith(prefix):
                    raise _RejectionError("it changes earlier turns when later ones follow")
            closing.append(self._closing(prefix.rpartition(mark)[2]))
        return _Frame(merged=merged, literals=tuple(literals), closing=tuple(closing))

    def _closing(self, tail: str) -> int:
        """Length of an answer's tail up to the end of its end-of-turn token."""
        found = [(tail.index(token), -len(token)) for token in self._special if token in tail]
        if not found:
            raise _RejectionError("no special token ends an answer, so a model would never learn to stop")
        start, length = min(found)
        return start - length

    def _render(self, turns: Turns) -> str:
        messages = [{"role": role, "content": content} for role, content in turns]
        try:
            return self._template.render(messages=messages, add_generation_prompt=False, **self._variables)
        except jinja2.TemplateError as error:
            raise _RejectionError(f"it rejects them ({error.message or type(error).__name__})") from None
        except Exception as error:  # noqa: BLE001  a template may do anything, and the message may quote the turns
            raise _RejectionError(f"it fails ({type(error).__name__})") from None

    def _raise_changed(self) -> NoReturn:
        raise ChatTemplateError(
            f"The chat template of {self._name} changes the content of a turn, or rejects it for its content.",
            hint=HINT,
        )


def merge_roles(turns: Turns) -> list[tuple[str, str]]:
    """Merge all other roles into the user's turns, so that user and assistant alternate and the user begins."""
    merged: list[tuple[str, str]] = []
    for role, content in turns:
        speaker = "assistant" if role == "assistant" else "user"
        if merged and merged[-1][0] == speaker:
            merged[-1] = (speaker, f"{merged[-1][1]}\n\n{content}")
            continue
        if not merged and speaker == "assistant":
            merged.append(("user", ""))
        merged.append((speaker, content))
    return merged


class _Generation(Extension):
    """`{% generation %}`, which some templates put around learned text; renders its content."""

    tags = {"generation"}  # noqa: RUF012  jinja's own type

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    """Return the environment that transformers gives a template."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = TODAY.strftime
    return environment


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
