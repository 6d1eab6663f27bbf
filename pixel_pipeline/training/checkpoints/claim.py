"""Who writes the checkpoints of a run, where two processes on different machines might. Torch-free."""

import os
import socket
import uuid

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.errors import ObjectNotFoundError
from pixel_pipeline.training.errors import RunBusyError

CLAIM = "writer.json"


class RunClaim:
    """One process's claim on a run: `<run>/writer.json` names it. The later claim holds.

    No lock, which would outlive a machine that dies, and no lease, which would rest on clocks. Who is no longer named stops at
    its next write; between looking and writing lies one request.
    """

    def __init__(self, lake: Lake, *, run: str) -> None:
        self._bucket = lake.checkpoints
        self._run = run
        self._key = f"{run}/{CLAIM}"
        self._writer = uuid.uuid4().hex
        self._made = False

    def make(self) -> None:
        """Name this process."""
        content = {"writer": self._writer, "host": socket.gethostname(), "pid": os.getpid()}
        self._bucket.put_json(self._key, content)
        self._made = True

    def check(self) -> None:
        """Make it if it was not made; see that it holds.

        Raises:
            RunBusyError: another process has made a claim later.
        """
        if not self._made:
            self.make()
        try:
            named = self._bucket.get_json(self._key)
        except ObjectNotFoundError:
            # Somebody has cleared the run away. Nobody else has claimed it.
            self.make()
            return
        if named.get("writer") != self._writer:
            raise RunBusyError(
                f"Run {self._run} has been taken over by another process (pid {named.get('pid')} on {named.get('host')}).",
                hint="Two processes train one run: the later started goes on. What this one has written waits on its local disk.",
            )
