"""Records which process writes the checkpoints of a run, in case two machines train one run. Torch-free."""

import os
import socket
import uuid

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.errors import ObjectNotFoundError
from pixel_pipeline.training.errors import RunBusyError

CLAIM = "writer.json"


class RunClaim:
    """A process's claim on a run: `<run>/writer.json` names the process. The latest claim wins.

    A lock would outlive a machine that dies, and a lease would rely on clocks. A process that lost its claim stops at its next
    write; one request separates the check from the write.
    """

    def __init__(self, lake: Lake, *, run: str) -> None:
        self._bucket = lake.checkpoints
        self._run = run
        self._key = f"{run}/{CLAIM}"
        self._writer = uuid.uuid4().hex
        self._claimed = False

    def make(self) -> None:
        """Name this process."""
        content = {"writer": self._writer, "host": socket.gethostname(), "pid": os.getpid()}
        self._bucket.put_json(self._key, content)
        self._claimed = True

    def check(self) -> None:
        """Claim the run if this process has not yet, and verify that the claim still holds.

        Raises:
            RunBusyError: another process claimed the run later.
        """
        if not self._claimed:
            self.make()
        try:
            claim = self._bucket.get_json(self._key)
        except ObjectNotFoundError:
            # The run was deleted, and no other process has claimed it since.
            self.make()
            return
        if claim.get("writer") != self._writer:
            raise RunBusyError(
                f"Run {self._run} has been taken over by another process (pid {claim.get('pid')} on {claim.get('host')}).",
                hint="Two processes train one run; the one started later continues. This one's checkpoints stay on its local disk.",
            )
