"""Compose one conversation from a persona, a theme and the topics a counsellor asks about.

A conversation is a chain: the client speaks, the counsellor reflects it back, adds a validation or some psychoeducation, and asks
the next question. Lines are drawn without replacement, so no line repeats within a conversation.
"""

from dataclasses import dataclass
from random import Random

from pixel_pipeline.sample.persona import Persona
from pixel_pipeline.sample.texts import Book, Line, books, phrases, second_person, sentences, third_person

Message = tuple[str, str]
"""(role, content); roles are `system`, `user` and `assistant`."""

_CRISIS_TOPICS = ("body", "grounding", "strengths", "needs", "emotion", "coping")


@dataclass(frozen=True)
class Conversation:
    """The messages, the chain of thought before a single reply (else empty), and the client's first name."""

    messages: tuple[Message, ...]
    reasoning: str = ""
    client: str = ""


@dataclass(frozen=True)
class _Statement:
    """A client's statement and its echo, in which `@you` still marks the object."""

    text: str
    echo: str


class _Voice:
    """Draws the lines of one conversation."""

    def __init__(self, rng: Random, theme: Book) -> None:
        self.rng = rng
        self.persona = Persona(rng, client_is_woman=True if theme.fields.get("client") == "woman" else None)
        self.theme = theme
        self.is_crisis = "first" in theme.fields
        self._left: dict[str, list[Line]] = {}

    def line(self, book: Book, section: str) -> Line:
        """Draw an unused line; once all are used, reshuffle them."""
        key = f"{book.name}/{section}"
        left = self._left.get(key)
        if not left:
            left = self._left[key] = list(book.sections[section])
            self.rng.shuffle(left)
        return left.pop()

    def words(self, book: Book, section: str) -> str:
        return self.line(book, section).text.draw(self.rng, self.persona)

    def statement(self, book: Book, section: str) -> _Statement:
        line = self.line(book, section)
        echo = line.echo.draw(self.rng, self.persona) if line.echo else ""
        return _Statement(line.text.draw(self.rng, self.persona), echo)

    def client(self, section: str) -> str:
        return self.words(phrases("client"), section)

    def counsellor(self, section: str, **slots: str) -> str:
        self.persona.update(slots)
        return self.words(phrases("counsellor"), section)

    def reflect(self, echo: str) -> str:
        return self.counsellor("reflect", echo=second_person(echo))

    def maybe(self, chance: float) -> bool:
        return self.rng.random() < chance


def single_turn(rng: Random, theme: Book, *, paragraphs: bool, reasoned: bool = False) -> Conversation:
    """Write a letter and its answer.

    Args:
        rng: Source of all choices.
        theme: The client's problem.
        paragraphs: Whether turns are split into paragraphs.
        reasoned: Whether to write a chain of thought for the answer.
    """
    voice = _Voice(rng, theme)
    opening, detail, thought = (
        voice.statement(theme, section) for section in ("opening", "detail", "thought")
    )
    step = voice.statement(theme, "step")
    letter = [opening.text, detail.text, thought.text, voice.client("ask")]
    if voice.maybe(0.35):
        letter.insert(0, voice.client("hello"))
    if voice.maybe(0.3):
        letter.insert(-1, voice.client("aside_written"))
    mirrored = rng.choice((opening, detail, thought))
    teach = voice.words(theme, "teach")
    answer = [
        voice.counsellor(rng.choice(("warm", "warm_written"))),
        voice.reflect(mirrored.echo),
        voice.counsellor("validate"),
    ]
    if voice.is_crisis:
        about_home = "safety_now" in theme.fields["first"]
        answer.append(voice.counsellor("safety_ask" if about_home else "crisis_ask"))
    answer.append(teach)
    if voice.maybe(0.5):
        answer.append(voice.words(theme, "teach"))
    answer.append(step.text)
    if voice.is_crisis:
        answer.append(voice.counsellor("crisis_line"))
    elif reasoned or voice.maybe(0.35):
        answer.append(voice.counsellor("support_line"))
    answer.append(voice.counsellor("open_close"))
    reasoning = (
        _reasoning(voice, statements=(opening, detail, thought), teach=teach, step=step) if reasoned else ""
    )
    messages = (
        ("user", _join(letter, rng, paragraphs=paragraphs)),
        ("assistant", _join(answer, rng, paragraphs=paragraphs)),
    )
    return Conversation(messages, reasoning=reasoning, client=voice.persona["name"])


def _join(parts: list[str], rng: Random, *, paragraphs: bool) -> str:
    text = parts[0]
    for part in parts[1:]:
        text += ("\n\n" if paragraphs and rng.random() < 0.45 else " ") + part
    return sentences(text)


def _reasoning(
    voice: _Voice, *, statements: tuple[_Statement, _Statement, _Statement], teach: str, step: _Statement
) -> str:
    book = books("reasoning")["reasoning"]
    formulation = voice.words(voice.theme, "formulation")
    voice.persona.update(teach=teach, short=third_person(step.echo), formulation=formulation)
    pieces: list[str] = []
    for section, statement in zip(("start", "second", "belief"), statements, strict=True):
        voice.persona["echo"] = third_person(statement.echo)
        pieces.append(voice.words(book, section))
    pieces.append(voice.words(book, "feeling"))
    pieces.append(voice.words(book, "risk_crisis" if voice.is_crisis else "risk"))
    pieces += [voice.words(book, section) for section in ("clinical", "wait", "teach", "plan", "end")]
    return _join(pieces, voice.rng, paragraphs=True)


def multi_turn(rng: Random, theme: Book, *, exchanges: int, greeted: bool = False) -> Conversation:
    """Write one session or chat.

    Args:
        rng: Source of all choices.
        theme: The client's problem.
        exchanges: Pairs of turns, 2 or more.
        greeted: Whether the counsellor speaks first, as in a face-to-face session.
    """
    voice = _Voice(rng, theme)
    turns: list[Message] = []
    if greeted:
        turns.append(("assistant", voice.counsellor("greeting")))
    opening = voice.statement(theme, "opening")
    start = [opening.text]
    if not greeted and voice.maybe(0.4):
        start.insert(0, voice.client("hello"))
    if voice.maybe(0.35):
        start.append(voice.client("aside" if greeted else "aside_written"))
    turns.append(("user", " ".join(start)))
    reply = [voice.reflect(opening.echo)]
    if not greeted or voice.maybe(0.3):
        reply.insert(0, voice.counsellor("warm" if greeted or voice.maybe(0.7) else "warm_written"))
    reply = _explore(voice, turns, reply, agenda=_agenda(voice, exchanges - 2))
    _offer_step(voice, turns, reply)
    closing: tuple[str, ...] = ("adjust", "close")
    if voice.is_crisis:
        closing = ("adjust_crisis", "crisis_line", "close_crisis")
    turns.append(("assistant", " ".join(voice.counsellor(section) for section in closing)))
    return _finished(voice, turns)


def long_running(rng: Random, theme: Book, *, sessions: int, topics: int) -> Conversation:
    """Write several consecutive sessions with one client; each picks up the step agreed in the previous session.

    Args:
        rng: Source of all choices.
        theme: The client's problem.
        sessions: Number of sessions, 3 or more.
        topics: Topics in each session, 1 or more.
    """
    voice = _Voice(rng, theme)
    turns: list[Message] = [("assistant", voice.counsellor("greeting"))]
    opening = voice.statement(theme, "opening")
    turns.append(("user", opening.text))
    reply = [voice.counsellor("warm"), voice.reflect(opening.echo)]
    agenda = _agenda(voice, sessions * topics)
    remembered = opening
    for session in range(sessions):
        if session:
            reply, news = _check_in(voice, turns, remembered)
            remembered = news or remembered
        session_agenda = agenda[session * topics : (session + 1) * topics]
        if session == sessions - 1:
            reply = _explore(voice, turns, reply, agenda=session_agenda[:-1])
            turns.append(("assistant", " ".join([*reply, voice.counsellor("last_session")])))
            learned = voice.statement(phrases("progress"), "learned")
            turns.append(("user", f"{learned.text} {voice.client('thanks')}"))
            farewell = [voice.reflect(learned.echo), voice.counsellor("praise"), voice.counsellor("close")]
            turns.append(("assistant", " ".join(farewell)))
        else:
            reply = _explore(voice, turns, reply, agenda=session_agenda)
            _offer_step(voice, turns, [*reply, voice.counsellor("stop")])
    return _finished(voice, turns)


def _agenda(voice: _Voice, length: int) -> list[str]:
    """Choose the topics to ask about: urgent ones in a crisis, then the theme's own, then others."""
    rng = voice.rng
    if voice.is_crisis:
        first = voice.theme.fields["first"].split()
        others = [*_CRISIS_TOPICS, "thought"]
    else:
        first = ["detail"] if rng.random() < 0.7 else []
        others = [*books("topics")]
        if length > 2:
            first.append("thought")
    rng.shuffle(others)
    agenda = [*first, *others][:length]
    if not voice.is_crisis and len(agenda) > 3:
        # Spread the theme's own questions over the conversation; only the first keeps its place.
        rest = agenda[1:]
        rng.shuffle(rest)
        agenda[1:] = rest
    while len(agenda) < length:
        agenda.append(rng.choice(("detail", "thought", *books("topics"))))
    return agenda


def _explore(voice: _Voice, turns: list[Message], reply: list[str], *, agenda: list[str]) -> list[str]:
    """Ask about each topic; return the beginning of the counsellor's next turn."""
    for name in agenda:
        if name in ("detail", "thought"):
            question, answer = voice.counsellor(f"ask_{name}"), voice.statement(voice.theme, name)
            book, teach_share = voice.theme, 0.35
        else:
            book, teach_share = books("topics").get(name) or books("crisis_topics")[name], 0.5
            question, answer = voice.words(book, "question"), voice.statement(book, "answer")
        turns.append(("assistant", " ".join([*reply, question])))
        spoken = [answer.text]
        if voice.maybe(0.3):
            spoken.insert(0, voice.client("filler"))
        if voice.maybe(0.15):
            spoken.append(voice.client("aside"))
        turns.append(("user", " ".join(spoken)))
        reply = [voice.reflect(answer.echo)]
        if voice.maybe(teach_share):
            reply.append(voice.words(book, "teach"))
        elif voice.maybe(0.6):
            reply.append(voice.counsellor("validate"))
        if voice.is_crisis and name in ("risk", "safety_now"):
            reply.append(voice.counsellor("crisis_line"))
    return reply


def _offer_step(voice: _Voice, turns: list[Message], reply: list[str]) -> None:
    """End a session with some psychoeducation, one small step, and the client's reaction."""
    step = voice.statement(voice.theme, "step")
    offer = [*reply, voice.words(voice.theme, "teach"), voice.counsellor("step_intro"), step.text]
    turns.append(("assistant", " ".join(offer)))
    reaction = [voice.client("reaction_crisis" if voice.is_crisis else "reaction")]
    if not voice.is_crisis and voice.maybe(0.5):
        reaction.append(voice.client("thanks"))
    turns.append(("user", " ".join(reaction)))
    voice.persona["short"] = second_person(step.echo)


def _check_in(
    voice: _Voice, turns: list[Message], remembered: _Statement
) -> tuple[list[str], _Statement | None]:
    """Begin a later session; return the counsellor's next words and any statement to recall in the next session."""
    turns.append(("assistant", voice.counsellor("recap", echo=second_person(remembered.echo))))
    kind = voice.rng.choice(("good", "mixed", "hard", "insight", "good", "mixed"))
    report = voice.statement(phrases("progress"), kind)
    turns.append(("user", report.text))
    warmth = voice.counsellor("praise" if kind in ("good", "insight") else "validate")
    return [voice.reflect(report.echo), warmth], report if kind in ("hard", "insight") else None


def _finished(voice: _Voice, turns: list[Message]) -> Conversation:
    return Conversation(
        tuple((role, sentences(content)) for role, content in turns), client=voice.persona["name"]
    )
