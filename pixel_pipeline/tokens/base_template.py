"""The chat template of a base model: where in its text the turns stand, and what of it is learned.

A template is foreign code, so it runs in Jinja's sandbox, as in transformers. It is tried once for every sequence of
roles, with marks in place of contents; the text of a conversation is then checked against what lies around the marks.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
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

# Templates that print today's date would give other tokens every day; this is the one that Llama's falls back to.
TODAY = datetime(2024, 7, 26)
HINT = "Put a template that can be trained on into the base model's chat_template.jinja, and add it under another name."


class ChatTemplateError(PixelError):
    """A chat template cannot be used for training; the message says why, and repeats no conversation."""


class Span(NamedTuple):
    """Characters [start, end) of the text that hold a turn's content; [start, learned_end) carries the loss."""

    start: int
    end: int
    learned_end: int


class Rendered(NamedTuple):
    """A conversation as the template writes it."""

    text: str
    spans: list[Span]


@dataclass(frozen=True)
class _Frame:
    """What a template writes around turns of some roles: `literals` before, between and after the contents.

    `closing[i]` is how much of `literals[i + 1]` belongs to turn i and is learned, to the end of its end-of-turn token.
    """

    plain: bool
    literals: tuple[str, ...]
    closing: tuple[int, ...]


class _Refusal(Exception):
    """A template does not do with some roles."""


@dataclass(frozen=True)
class ChatTemplate:
    """A template as published with a model.

    Args:
        source: Jinja.
        variables: What it may ask for besides the messages: `bos_token`, `eos_token` …
        special: Spellings of the tokenizer's special tokens; one of them has to end what the assistant says.
        name: Whose it is, for errors.

    Raises:
        ChatTemplateError: it is no Jinja, or a question and an answer are too much for it.
    """

    source: str
    variables: Mapping[str, str]
    special: Collection[str]
    name: str
    _frames: dict[tuple[str, ...], _Frame] = field(default_factory=dict, init=False, compare=False)
    _compiled: list[jinja2.Template] = field(default_factory=list, init=False, compare=False)

    def __post_init__(self) -> None:
        try:
            self._compiled.append(_environment().from_string(self.source))
        except jinja2.TemplateSyntaxError as error:
            raise ChatTemplateError(
                f"The chat template of {self.name} is no valid Jinja (line {error.lineno}).", hint=HINT
            ) from None
        self._frame(("user", "assistant"))

    @property
    def end_token(self) -> str:
        """The special token that ends an answer."""
        frame = self._frame(("user", "assistant"))
        closing = frame.literals[2][: frame.closing[1]]
        return max((token for token in self.special if closing.endswith(token)), key=len)

    def render(self, turns: Turns) -> Rendered:
        """Write a conversation.

        Where the template refuses or leaves out a role (system, tool) or a beginning by the assistant, or where a later turn changes
        what was written before, those roles are told as the user's, joined to the user's turn by an empty line; an
        opening turn of the user may be empty.

        Raises:
            ChatTemplateError: refused like this too, or the template changes what turns say.
        """
        frame = self._frame(tuple(role for role, _ in turns))
        told = plain_turns(turns) if frame.plain else turns
        try:
            text = self._write(told)
        except _Refusal:
            self._changes_contents()
        spans = []
        place = len(frame.literals[0])
        if not text.startswith(frame.literals[0]):
            self._changes_contents()
        for (_, content), literal, closing in zip(told, frame.literals[1:], frame.closing, strict=True):
            # Many templates trim contents.
            spellings = (content, content.strip(), content.lstrip(), content.rstrip())
            said = next((one for one in spellings if text.startswith(one + literal, place)), None)
            if said is None:
                self._changes_contents()
            end = place + len(said)
            spans.append(Span(start=place, end=end, learned_end=end + closing if closing else place))
            place = end + len(literal)
        if place != len(text):
            self._changes_contents()
        return Rendered(text=text, spans=spans)

    def _frame(self, roles: tuple[str, ...]) -> _Frame:
        frame = self._frames.get(roles)
        if frame is None:
            frame = self._frames[roles] = self._try(roles)
        return frame

    def _try(self, roles: tuple[str, ...]) -> _Frame:
        # Private-use characters: no template writes or looks for them.
        marked = [(role, f"\ue000{number}\ue001") for number, role in enumerate(roles)]
        try:
            return self._frame_of(marked, plain=False)
        except _Refusal as refused:
            plain = plain_turns(marked)
            if [role for role, _ in plain] == [*roles]:
                problem = refused
            else:
                try:
                    return self._frame_of(
                        [(role, f"\ue000{n}\ue001") for n, (role, _) in enumerate(plain)], plain=True
                    )
                except _Refusal as again:
                    problem = again
        named = ", ".join(roles[:6]) + (", …" if len(roles) > 6 else "")
        raise ChatTemplateError(
            f"The chat template of {self.name} cannot be trained on with turns of {named}: {problem}.",
            hint=HINT,
        )

    def _frame_of(self, marked: list[tuple[str, str]], *, plain: bool) -> _Frame:
        text = self._write(marked)
        literals, place = [], 0
        for _, mark in marked:
            start = text.find(mark, place)
            if start < 0 or text.count(mark) != 1:
                raise _Refusal("it leaves out, repeats or reorders turns")
            literals.append(text[place:start])
            place = start + len(mark)
        literals.append(text[place:])
        closing = []
        for number, (role, mark) in enumerate(marked):
            if role != "assistant":
                closing.append(0)
                continue
            # What the model is asked with, and what it has said then: the beginning of what it is trained on.
            for stop in range(max(number, 1), number + 2):
                written = self._write(marked[:stop])
                if not text.startswith(written):
                    raise _Refusal("it writes a turn otherwise once others follow")
            closing.append(self._closing(written.rpartition(mark)[2]))
        return _Frame(plain=plain, literals=tuple(literals), closing=tuple(closing))

    def _closing(self, tail: str) -> int:
        """Length of what follows an answer, to the end of its end-of-turn token."""
        found = [(tail.index(token), -len(token)) for token in self.special if token in tail]
        if not found:
            raise _Refusal(
                "no special token ends what the assistant says, so a model would never learn to stop"
            )
        start, length = min(found)
        return start - length

    def _write(self, turns: Turns) -> str:
        messages = [{"role": role, "content": content} for role, content in turns]
        try:
            return self._compiled[0].render(messages=messages, add_generation_prompt=False, **self.variables)
        except jinja2.TemplateError as error:
            raise _Refusal(f"it refuses them ({error.message or type(error).__name__})") from None
        except Exception as error:  # noqa: BLE001  a template may do anything, and the message may quote the turns
            raise _Refusal(f"it fails ({type(error).__name__})") from None

    def _changes_contents(self) -> NoReturn:
        raise ChatTemplateError(
            f"The chat template of {self.name} changes what a turn says, or refuses it for what it says.",
            hint=HINT,
        )


def plain_turns(turns: Turns) -> list[tuple[str, str]]:
    """The same conversation by user and assistant alone, in turn, the user first: what others say is told as the user's."""
    plain: list[tuple[str, str]] = []
    for role, content in turns:
        speaker = "assistant" if role == "assistant" else "user"
        if plain and plain[-1][0] == speaker:
            plain[-1] = (speaker, f"{plain[-1][1]}\n\n{content}")
            continue
        if not plain and speaker == "assistant":
            plain.append(("user", ""))
        plain.append((speaker, content))
    return plain


class _Generation(Extension):
    """`{% generation %}`, by which some templates mark what is learned; its content is written as it stands."""

    tags = {"generation"}  # noqa: RUF012  jinja's own type

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    """What transformers gives a template."""
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
