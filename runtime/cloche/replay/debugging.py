"""`debugging`: the calls of a recording under a debugger, forwards and backwards; see `cloche.debug`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cloche.debug import Debugging, opened
from cloche.replay.session import Session

if TYPE_CHECKING:
    from cloche._recording import Recording
    from cloche._requests import DebugHandler, NodeLock
    from cloche._runtime import Runtime
    from cloche.limits import Limits
    from cloche.replay.session import Step
    from cloche_wire import Reply

__all__ = ["debugging"]


class _Sandbox:
    """A replay, as far as a debugger needs a sandbox of it. Its snapshots are the recordings of what is still to be replayed."""

    services = None

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def closed(self) -> bool:
        """Whether the guest has broken, or was freed."""
        return self._session.sandbox.closed

    @property
    def limits(self) -> Limits:
        """The limits under which the calls were recorded."""
        return self._session.recording.limits

    def attach(self, debugger: DebugHandler) -> None:
        """See `Sandbox`."""
        self._session.sandbox.attach(debugger)

    def detach(self, debugger: DebugHandler) -> None:
        """See `Sandbox`."""
        self._session.sandbox.detach(debugger)

    def aside(self, op: int, operands: Sequence[Any]) -> tuple[Reply, Any]:
        """See `Sandbox`."""
        return self._session.sandbox.aside(op, operands)

    def snapshot(self, _info: dict[str, Any]) -> Recording:
        """The recording from here on."""
        sandbox, recording = self._session.sandbox, self._session.recording
        state = sandbox.snapshot({} if recording.state is None else recording.state.info)
        return dataclasses.replace(recording, state=state, events=tuple(sandbox.events_left), first=False)

    def canceller(self) -> Callable[[], bool]:
        """See `Sandbox`."""
        return self._session.sandbox.canceller()

    def limit_next_calls(self, seconds: float | None, field: str = "deadline_s") -> None:
        """Does nothing: the replay bounds its calls."""

    def exchange(self, _op: int, _operands: Sequence[Any], _root: str) -> Step | None:
        """Make the next recorded call."""
        return self._session.step()


class _Target:
    """A replay, as far as a debugger needs a node of it."""

    def __init__(self, session: Session) -> None:
        self.name = session.recording.name
        self.info: dict[str, Any] = {}
        self.lock: NodeLock = session.calls.lock
        self.sandbox: Any = _Sandbox(session)
        self._session = session

    def interrupt(self, token: object = None) -> bool:
        """End the call under way."""
        return bool(self.sandbox.canceller()())

    def discard(self) -> None:
        """Free the sandbox."""
        self._session.close()


class DebuggedReplay:
    """A replay under a debugger.

    Attributes:
        session: the replay.
        address: host and port at which editors connect; None with a terminal.
    """

    def __init__(self, session: Session, debugging: Debugging) -> None:
        self.session = session
        self.address = debugging.address
        self._debugging = debugging

    def step(self) -> Step | None:
        """Make the next call under the debugger; see `Session.step`. It is not compared: the debugger changes the node's memory."""
        self._debugging.prepare()
        step = self.session.step()
        return None if step is None else dataclasses.replace(step, differences=())


@contextmanager
def debugging(
    recording: Recording, *, runtime: Runtime | None = None, skip: int = 0, **options: Any
) -> Iterator[DebuggedReplay]:
    """Debug the calls of a recording.

    Everything that the node asked of the world is answered by the recording, the clock and randomness as well. So going back always
    finds the way, and nothing is called, read or written.

    Args:
        recording: the recording.
        runtime: where it runs; None: a runtime of its own.
        skip: number of calls that are made before the debugger is there. A call that makes the node is not debugged in any case.
        **options: those of `Node.debug`.

    Yields:
        an object whose `step` makes the next call.

    Raises:
        ClocheError: as `Session`; or the recording has fewer calls.
    """
    with Session(recording, runtime=runtime, deadline_s=None) as session:
        session.run_to(skip)

        def restore(rest: Any) -> Any:
            return _Target(Session(rest, runtime=session.runtime, deadline_s=None))

        with opened(_Target(session), restore, **options) as opening:
            yield DebuggedReplay(session, opening)
