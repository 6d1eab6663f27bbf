"""Composes one conversation from a persona, a theme and the topics a counsellor asks about.

A conversation is a chain: the client says something, the counsellor says it back, adds a thought or a piece of knowledge, and asks
for the next thing. Each line is drawn without replacement, so nobody repeats themselves within a conversation.
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
    """What was said, the reasoning that came before the only reply (chain of thought; else empty), and the client's first name."""

    messages: tuple[Message, ...]
    reasoning: str = ""
    client: str = ""


@dataclass(frozen=True)
class _Said:
    """A client's words and their echo, in which `@you` still marks the object."""

    text: str
    echo: str


class _Voice:
    """Draws lines for one conversation."""

    def __init__(self, rng: Random, theme: Book) -> None:
        self.rng = rng
        self.persona = Persona(rng, client_is_woman=True if theme.fields.get("client") == "woman" else None)
        self.theme = theme
        self.is_crisis = "first" in theme.fields
        self._left: dict[str, list[Line]] = {}

    def line(self, book: Book, section: str) -> Line:
        """Draws a line that was not drawn before; when all were, they are shuffled anew."""
        key = f"{book.name}/{section}"
        left = self._left.get(key)
        if not left:
            left = self._left[key] = list(book.sections[section])
            self.rng.shuffle(left)
        return left.pop()

    def words(self, book: Book, section: str) -> str:
        return self.line(book, section).says.draw(self.rng, self.persona)

    def said(self, book: Book, section: str) -> _Said:
        line = self.line(book, section)
        echo = line.echo.draw(self.rng, self.persona) if line.echo else ""
        return _Said(line.says.draw(self.rng, self.persona), echo)

    def client(self, section: str) -> str:
        return self.words(phrases("client"), section)

    def counsellor(self, section: str, **slots: str) -> str:
        self.persona.update(slots)
        return self.words(phrases("counsellor"), section)

    def reflect(self, echo: str) -> str:
        return self.counsellor("reflect", echo=second_person(echo))

    def maybe(self, chance: float) -> bool:
        return self.rng.random() < chance


def _topic(name: str) -> Book:
    return books("topics").get(name) or books("crisis_topics")[name]


def single_turn(rng: Random, theme: Book, *, paragraphs: bool, reasoned: bool = False) -> Conversation:
    """A letter and its answer.

    Args:
        rng: Source of all choices.
        theme: What the client comes with.
        paragraphs: Whether the texts have paragraphs (line ends within a turn).
        reasoned: Whether to write the reasoning before the answer too.
    """
    voice = _Voice(rng, theme)
    opening, detail, thought = (voice.said(theme, section) for section in ("opening", "detail", "thought"))
    step = voice.said(theme, "step")
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
        answer.append(voice.counsellor("safety_ask" if _about_home(theme) else "crisis_ask"))
    answer += [teach]
    if voice.maybe(0.5):
        answer += [voice.words(theme, "teach")]
    answer += [step.text]
    if voice.is_crisis:
        answer.append(voice.counsellor("crisis_line"))
    elif reasoned or voice.maybe(0.35):
        answer.append(voice.counsellor("support_line"))
    answer.append(voice.counsellor("open_close"))
    joint = "\n\n" if paragraphs else " "
    reasoning = (
        _reasoning(voice, heard=(opening, detail, thought), teach=teach, step=step) if reasoned else ""
    )
    messages = (
        ("user", sentences(_joined(letter, joint, rng))),
        ("assistant", sentences(_joined(answer, joint, rng))),
    )
    return Conversation(messages, reasoning=reasoning, client=voice.persona["name"])


def _about_home(theme: Book) -> bool:
    return "safety_now" in theme.fields["first"]


def _joined(parts: list[str], joint: str, rng: Random) -> str:
    """Joins sentences into paragraphs of one to three of them."""
    text = parts[0]
    for part in parts[1:]:
        text += (joint if joint != " " and rng.random() < 0.45 else " ") + part
    return text


def _reasoning(voice: _Voice, *, heard: tuple[_Said, _Said, _Said], teach: str, step: _Said) -> str:
    book = books("reasoning")["reasoning"]
    formulation = voice.words(voice.theme, "formulation")
    voice.persona.update(teach=teach, short=third_person(step.echo), formulation=formulation)
    pieces: list[str] = []
    for section, said in zip(("start", "second", "belief"), heard, strict=True):
        voice.persona["echo"] = third_person(said.echo)
        pieces.append(voice.words(book, section))
    pieces.append(voice.words(book, "feeling"))
    pieces.append(voice.words(book, "risk_crisis" if voice.is_crisis else "risk"))
    pieces += [voice.words(book, section) for section in ("clinical", "wait", "teach", "plan", "end")]
    return sentences(_joined(pieces, "\n\n", voice.rng))


def multi_turn(rng: Random, theme: Book, *, exchanges: int, greeted: bool = False) -> Conversation:
    """One session or chat.

    Args:
        rng: Source of all choices.
        theme: What the client comes with.
        exchanges: Pairs of turns, 2 or more.
        greeted: Whether the counsellor speaks first, as in a session face to face.
    """
    voice = _Voice(rng, theme)
    turns: list[Message] = []
    if greeted:
        turns.append(("assistant", voice.counsellor("greeting")))
    opening = voice.said(theme, "opening")
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
    """Several sessions with the same client, one after the other: each begins with what was agreed on in the one before.

    Args:
        rng: Source of all choices.
        theme: What the client comes with.
        sessions: 3 or more.
        topics: What is asked about in each session, 1 or more.
    """
    voice = _Voice(rng, theme)
    turns: list[Message] = [("assistant", voice.counsellor("greeting"))]
    opening = voice.said(theme, "opening")
    turns.append(("user", opening.text))
    reply = [voice.counsellor("warm"), voice.reflect(opening.echo)]
    agenda = _agenda(voice, sessions * topics)
    remembered = opening
    for session in range(sessions):
        if session:
            reply, heard = _check_in(voice, turns, remembered)
            remembered = heard or remembered
        asked = agenda[session * topics : (session + 1) * topics]
        if session == sessions - 1:
            reply = _explore(voice, turns, reply, agenda=asked[:-1])
            turns.append(("assistant", " ".join([*reply, voice.counsellor("last_session")])))
            learned = voice.said(phrases("progress"), "learned")
            turns.append(("user", f"{learned.text} {voice.client('thanks')}"))
            farewell = [voice.reflect(learned.echo), voice.counsellor("praise"), voice.counsellor("close")]
            turns.append(("assistant", " ".join(farewell)))
        else:
            reply = _explore(voice, turns, reply, agenda=asked)
            _offer_step(voice, turns, [*reply, voice.counsellor("stop")])
    return _finished(voice, turns)


def _agenda(voice: _Voice, length: int) -> list[str]:
    """Returns names of topics to ask about: what a crisis demands first, then the theme's own, then others."""
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
        # The theme's own questions are spread over the talk; only the first stays where it is.
        rest = agenda[1:]
        rng.shuffle(rest)
        agenda[1:] = rest
    while len(agenda) < length:
        agenda.append(("detail", "thought", *books("topics"))[rng.randrange(2 + len(books("topics")))])
    return agenda


def _explore(voice: _Voice, turns: list[Message], reply: list[str], *, agenda: list[str]) -> list[str]:
    """Asks about each topic in turn; returns the beginning of the counsellor's next turn."""
    for name in agenda:
        if name in ("detail", "thought"):
            question, answer = voice.counsellor(f"ask_{name}"), voice.said(voice.theme, name)
            book, knowledge = voice.theme, 0.35
        else:
            book, knowledge = _topic(name), 0.5
            question, answer = voice.words(book, "question"), voice.said(book, "answer")
        turns.append(("assistant", " ".join([*reply, question])))
        spoken = [answer.text]
        if voice.maybe(0.3):
            spoken.insert(0, voice.client("filler"))
        if voice.maybe(0.15):
            spoken.append(voice.client("aside"))
        turns.append(("user", " ".join(spoken)))
        reply = [voice.reflect(answer.echo)]
        if voice.maybe(knowledge):
            reply.append(voice.words(book, "teach"))
        elif voice.maybe(0.6):
            reply.append(voice.counsellor("validate"))
        if voice.is_crisis and name in ("risk", "safety_now"):
            reply.append(voice.counsellor("crisis_line"))
    return reply


def _offer_step(voice: _Voice, turns: list[Message], reply: list[str]) -> None:
    """Ends a session: some knowledge, one small step, and what the client says to it."""
    step = voice.said(voice.theme, "step")
    offer = [*reply, voice.words(voice.theme, "teach"), voice.counsellor("step_intro"), step.text]
    turns.append(("assistant", " ".join(offer)))
    reaction = [voice.client("reaction_crisis" if voice.is_crisis else "reaction")]
    if not voice.is_crisis and voice.maybe(0.5):
        reaction.append(voice.client("thanks"))
    turns.append(("user", " ".join(reaction)))
    voice.persona["short"] = second_person(step.echo)


def _check_in(voice: _Voice, turns: list[Message], remembered: _Said) -> tuple[list[str], _Said | None]:
    """Begins a later session; returns the counsellor's next words, and what is worth remembering for the session after."""
    turns.append(("assistant", voice.counsellor("recap", echo=second_person(remembered.echo))))
    kind = voice.rng.choice(("good", "mixed", "hard", "insight", "good", "mixed"))
    report = voice.said(phrases("progress"), kind)
    turns.append(("user", report.text))
    warmth = voice.counsellor("praise" if kind in ("good", "insight") else "validate")
    return [voice.reflect(report.echo), warmth], report if kind in ("hard", "insight") else None


def _finished(voice: _Voice, turns: list[Message]) -> Conversation:
    return Conversation(
        tuple((role, sentences(content)) for role, content in turns), client=voice.persona["name"]
    )
