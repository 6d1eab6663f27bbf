"""Exit codes of every verb."""

from enum import IntEnum


class ExitCode(IntEnum):
    """One meaning each, for all verbs."""

    OK = 0
    NEGATIVE = 1
    ERROR = 2
    NOT_RUNNING = 3
    UNEXPECTED = 70
    INTERRUPTED = 130


MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.NEGATIVE: "the check came out negative: doctor, sync, promote, verify-export",
    ExitCode.ERROR: "an error was reported: a wrong option or setting, missing data, no access",
    ExitCode.NOT_RUNNING: "the embedded server is not running: s3 status",
    ExitCode.UNEXPECTED: "an unexpected error: a bug",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C or SIGTERM; run the same command again to continue",
}


def exit_code_table() -> str:
    """The table that `pixel --help` ends with."""
    return "\n".join(f"{code.value:>3}  {meaning}" for code, meaning in MEANINGS.items())
