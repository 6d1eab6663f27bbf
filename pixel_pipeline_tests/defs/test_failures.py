"""Attempts and headlines of failed steps."""

from contextlib import suppress
from typing import Any

import dagster as dg
import pytest

from pixel_pipeline.defs.failures import readable_failure
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.s3.errors import LakeUnreachableError


def run(errors: list[BaseException]) -> tuple[dg.ExecuteInProcessResult, int]:
    """A run of an asset that raises these errors, one per attempt; and the number of attempts."""
    attempts = 0

    @dg.asset
    def fragile(context: dg.AssetExecutionContext) -> None:
        nonlocal attempts
        attempts += 1
        with readable_failure(context, retries=2, retry_seconds=0):
            if errors:
                raise errors.pop(0)

    return dg.materialize([fragile], raise_on_error=False), attempts


def description(result: dg.ExecuteInProcessResult) -> Any:
    failure = result.failure_data_for_node("fragile")
    assert failure is not None
    assert failure.user_failure_data is not None
    return failure.user_failure_data.description


def test_a_permanent_error_fails_at_once_with_its_message() -> None:
    result, attempts = run([PixelError("The bucket does not exist.", hint="Create it.")])
    assert (result.success, attempts) == (False, 1)
    assert description(result) == "The bucket does not exist.\nCreate it."


def test_a_transient_error_is_tried_again_and_fails_with_its_message() -> None:
    result, attempts = run([LakeUnreachableError("S3 does not answer.")] * 2)
    assert (result.success, attempts) == (True, 3)
    result, attempts = run([LakeUnreachableError("S3 does not answer.")] * 9)
    assert (result.success, attempts) == (False, 3)
    assert description(result) == "S3 does not answer."


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, dg.DagsterExecutionInterruptedError])
def test_an_interruption_is_not_tried_again(interruption: type[BaseException]) -> None:
    errors: list[BaseException] = [interruption(), interruption()]
    # Dagster ends the run, and raises the interruption where its process is to end as well.
    with suppress(interruption):
        assert not run(errors)[0].success
    assert len(errors) == 1
