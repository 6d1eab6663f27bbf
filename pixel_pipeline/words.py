"""Words for messages: numbers with their nouns, and names from outside."""


def counted(number: int, noun: str) -> str:
    """`1 object`, `2,345 objects`, `0 families`."""
    return f"{number:,} {noun if number == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """`objects`, `families`, `batches`; of a phrase, the plural of its last word."""
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"


def printable(text: str) -> str:
    """Escape characters that do not print, such as control characters and those that change the writing direction."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )
