"""The one root of the errors a user is meant to read."""


class PixelError(Exception):
    """An expected failure: what went wrong, and what to do next.

    Args:
        message: What was expected and what came; names the setting, bucket or key. Never conversation text, never a secret.
        hint: The next thing to try, as an imperative sentence.

    Attributes:
        transient: The same may succeed a little later: an asset with a retry policy is tried again.
    """

    transient = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message}\n{hint}")
        self.message = message
        self.hint = hint


class SettingsError(PixelError):
    """A setting is missing, half given or out of range; the message names its variable."""
