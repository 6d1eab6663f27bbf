"""The base class of all user-facing errors."""


class PixelError(Exception):
    """An expected failure with a hint.

    Args:
        message: The expected and the actual state; names the setting, bucket or key. Never conversation text or a secret.
        hint: The next step, as an imperative sentence.

    Attributes:
        transient: Whether a retry may succeed; an asset's retry policy then applies.
    """

    transient = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message}\n{hint}")
        self.message = message
        self.hint = hint


class SettingsError(PixelError):
    """A setting is missing, incomplete or out of range; the message names its variable."""
