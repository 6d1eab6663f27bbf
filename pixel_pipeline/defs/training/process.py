"""Starts a training module in a process of its own, through Dagster Pipes.

This process never imports torch. The trainer may use the whole machine, crash or be killed without ending the run's event log, and
reports its progress line by line.
"""

from collections.abc import Mapping, Sequence
import re
import signal
import sys
from typing import Any, NamedTuple, TypeAlias

import dagster as dg

from pixel_pipeline.defs.failures import fail_step

Pipes: TypeAlias = dg.ResourceParam[dg.PipesClient]
EXIT_STATUS = re.compile(r"code (-?\d+)")


class ProcessResult(NamedTuple):
    """Reports of a finished process."""

    materialization: dg.MaterializeResult[Any] | None
    messages: Sequence[Mapping[str, Any]]


def run_module(
    context: dg.AssetExecutionContext, pipes: dg.PipesClient, *, module: str, extras: dict[str, Any]
) -> ProcessResult:
    """Run `python -m pixel_pipeline.training.<module>` and wait for its end.

    Args:
        extras: Configuration of the module, as plain types.

    Raises:
        dg.Failure: The process reported an error or ended without a report.
        dg.RetryRequested: The reported error is transient.
    """
    command = [sys.executable, "-m", f"pixel_pipeline.training.{module}"]
    try:
        invocation = pipes.run(context=context, command=command, extras=extras)  # type: ignore[call-arg]
    except Exception as error:  # noqa: BLE001  each Pipes client has an error class of its own, and none is public
        fail_step(context, death(str(error)), transient=False)
    messages = invocation.get_custom_messages()
    for message in messages:
        if "failure" in message:
            fail_step(context, message["failure"], transient=message["transient"])
    made = [
        result
        for result in invocation.get_results(implicit_materializations=False)
        if isinstance(result, dg.MaterializeResult)
    ]
    return ProcessResult(made[0] if made else None, messages)


def materialize(
    context: dg.AssetExecutionContext, pipes: dg.PipesClient, *, module: str, extras: dict[str, Any]
) -> dg.MaterializeResult[Any]:
    """Run a module that reports one materialization. Raises as `run_module`."""
    result = run_module(context, pipes, module=module, extras=extras).materialization
    if result is None:
        fail_step(context, f"The process {module} ended without a result.", transient=False)
    return result


def death(report: str) -> str:
    """Headline for a process that ended without reporting its error, by the Pipes client's message."""
    status = EXIT_STATUS.search(report)
    number = int(status[1]) if status else 0
    if number == -signal.SIGKILL:
        return (
            "The training process was killed, usually because the machine ran out of memory.\n"
            "Free memory or choose the priority `memory`, and start the run again: it continues from the last checkpoint."
        )
    if number < 0:
        return (
            f"The training process was ended by signal {signal.Signals(-number).name}.\n"
            "Start the run again: it continues from the last checkpoint. The step's stderr may show more."
        )
    return f"The training process ended without reporting its error: {report}.\nThe step's stderr shows its last output."
