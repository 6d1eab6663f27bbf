"""Step failures: a readable headline, and another attempt if the error may be transient."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn, Protocol

import dagster as dg

from pixel_pipeline.errors import PixelError

RETRIES = 2
# Multiplied by RETRY_FACTOR before each further attempt.
RETRY_SECONDS = 10.0
RETRY_FACTOR = 2.0


class StepContext(Protocol):
    """The part of Dagster's contexts of assets, checks and I/O managers that is used here."""

    @property
    def log(self) -> dg.DagsterLogManager: ...


@contextmanager
def readable_failure(
    context: StepContext, *, retries: int = RETRIES, retry_seconds: float | None = None
) -> Iterator[None]:
    """Fail the step with the message of a `PixelError`, or try it again if the error is transient.

    Not a `dg.RetryPolicy`: Dagster applies one to interruptions as well, so that Ctrl-C would start the step again.

    Args:
        retries: Further attempts after a transient error.
        retry_seconds: Wait before the first of them; RETRY_SECONDS if not given.

    Raises:
        dg.RetryRequested: After a transient error, while there are attempts left.
        dg.Failure: After any other `PixelError`, and after the last attempt.
    """
    try:
        yield
    except PixelError as error:
        fail_step(
            context, str(error), transient=error.transient, retries=retries, retry_seconds=retry_seconds
        )
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        context.log.error("Interrupted. Nothing half-written is visible. Start the run again to continue.")
        raise


def fail_step(
    context: StepContext,
    description: str,
    *,
    transient: bool,
    retries: int = RETRIES,
    retry_seconds: float | None = None,
) -> NoReturn:
    """Fail the step under this headline, or ask for another attempt. Raises as `readable_failure`."""
    failure = dg.Failure(description=description, allow_retries=False)
    attempt = _attempt(context)
    # Dagster would head the failure of the last attempt with "Exceeded max_retries".
    if not transient or attempt >= retries:
        raise failure from None
    seconds = (RETRY_SECONDS if retry_seconds is None else retry_seconds) * RETRY_FACTOR**attempt
    context.log.warning(f"{description}\nNext attempt in {seconds:.0f} s.")
    raise dg.RetryRequested(max_retries=retries, seconds_to_wait=seconds) from failure


def _attempt(context: StepContext) -> int:
    """Number of the attempt, from 0."""
    if isinstance(context, dg.OutputContext | dg.InputContext):
        return context.step_context.previous_attempt_count
    number: int = context.retry_number  # type: ignore[attr-defined]
    return number
