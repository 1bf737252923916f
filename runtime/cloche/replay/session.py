"""`Session`: a recording under way, as its public face: with a runtime of its own, if it is given none."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from cloche._runtime import Runtime
from cloche._runtime.replay_session import DEADLINE_S, ReplaySession, Step

if TYPE_CHECKING:
    from cloche._recording import Recording
    from cloche._records import LogRecord
    from cloche._sandbox import Intercept

__all__ = ["DEADLINE_S", "Session", "Step"]


class Session(ReplaySession):
    """A recording that is being replayed. Use it as a context manager, or call `close`.

    The sandbox has no grant: what services, files, clocks and the random source have answered comes from the recording. What a
    stranger's recording makes its guest do is contained as everything that a guest does.

    Args:
        recording: the recording.
        runtime: where it runs; its metering may be another one than that of the recording. None: a runtime of its own.
        intercept: called with each request of the guest (``[ask, *operands]``) before the recording is asked for the answer. It
            returns the answer's value, or `cloche.replay.ELSEWHERE`. For debuggers.
        deadline_s: seconds that each call may take; None: as long as it takes. A call that was recorded when it was stopped at its
            deadline is stopped at that deadline again.
        on_log: called with each log record of the node. None: nobody wants them.

    Attributes:
        recording: the argument of that name.
        runtime: the runtime.
        sandbox: the sandbox, as Cloche's own parts use it. Hold the node's lock while you do: `run` does.
        at: number of calls that were made so far.

    Raises:
        ImageError: the recording was made with another image.
        ClocheError: it cannot be replayed: it is redacted, or does not fit its own limits.
    """

    def __init__(
        self,
        recording: Recording,
        *,
        runtime: Runtime | None = None,
        intercept: Intercept | None = None,
        deadline_s: float | None = DEADLINE_S,
        on_log: Callable[[LogRecord], object] | None = None,
    ) -> None:
        with ExitStack() as stack:
            host = stack.enter_context(Runtime()) if runtime is None else runtime
            super().__init__(recording, host, intercept=intercept, deadline_s=deadline_s, on_log=on_log)
            self._own = stack.pop_all()

    def close(self) -> None:
        """Free the sandbox, and the runtime if the session has made it. Calling it again does nothing."""
        try:
            super().close()
        finally:
            self._own.close()
