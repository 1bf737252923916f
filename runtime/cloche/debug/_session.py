"""`Session`: one node under a debugger. Turns the requests of the guest's debugger into talks with a `Frontend`, and back.

The calls stay where they are: a call of the node blocks in its thread while the node is stopped, and each command of the user is
the answer to a request that the guest makes. While the user thinks, no deadline runs. The guest's debugger shares its interpreter
with the node, so all that it says can be lies; but it is bounded, and a guest that does not answer is interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from cloche import texts
from cloche._requests import Tape
from cloche.debug._breakpoints import Breakpoints
from cloche.debug._events import GuestError, Stop, read_error, read_placed, read_stop
from cloche.debug._frontend import Arrived, Back, Carrying, Command, Frontend, Go, Leap, Mailbox, Talk, converse
from cloche.debug._watchdog import Watchdog
from cloche.errors import ClocheError, ClosedError, EncodeError, ProtocolError
from cloche_wire import Ask, Op, Reply

if TYPE_CHECKING:
    from cloche._requests import NodeLock
    from cloche._requests.router import Operation
    from cloche._sandbox import Sandbox, Snapshot
    from cloche._wasm import CallState

__all__ = ["EVALUATE_S", "Past", "Run", "Session", "Target"]

EVALUATE_S: Final = 5.0
"""Seconds that a command, such as evaluating an expression, may take. After twice that time the node's call is interrupted."""
_LOGGED: Final = 500
_MOST_OUTPUTS: Final = 10_000
"""Messages of breakpoints that reach the user in one call: a hostile node could send any number."""
_ASIDE: Final = frozenset({Op.DEBUG, Op.PROFILE, Op.LOAD, Op.RESEED, Op.GET})


Travel = Callable[["Session", Frontend, Stop, Back], Arrived]
"""Carries out a `Back`: talks with the frontend in the past, until the present is reached again. May raise `GuestError`."""


class Target(Protocol):
    """A node's calls (`cloche._runtime.NodeCalls`), as far as a debugger needs them."""

    name: str
    info: dict[str, Any]
    lock: NodeLock
    sandbox: Sandbox

    def interrupt(self, token: object = None) -> bool:
        """End the call under way."""

    def discard(self) -> None:
        """Free the sandbox, without the node's ``cleanup``."""


class Past:
    """What a second run of the present call needs.

    Args:
        snapshot: the node's state before the call.
        message: the call: operation, operands, and their name in errors.
        version: version of the breakpoints that the node had then.

    Attributes:
        snapshot: the argument of that name.
        message: likewise.
        version: likewise.
        tape: the answers to the node's requests so far.
        stops: for each stop so far, the breakpoints and commands that a second run needs.
        reason: why the node has stopped last.
        problem: why there can be no second run; "": there can.
    """

    def __init__(self, snapshot: Snapshot, message: tuple[int, Sequence[Any], str], version: int) -> None:
        self.snapshot = snapshot
        self.message = message
        self.version = version
        self.tape = Tape()
        self.stops: list[list[Command | Go]] = []
        self.reason = ""
        self.problem = ""


class Run:
    """One sandbox under the debugger: answers the guest's debugger. Implements `cloche._requests.DebugHandler`.

    Args:
        session: the session.
        sandbox: the sandbox.
        drive: makes the talk of a stop.
        replayed: answers for the guest's other requests; None: its own handlers answer.

    Attributes:
        is_silent: whether log records are dropped.
        replayed: the argument of that name.
    """

    def __init__(
        self, session: Session, sandbox: Sandbox, drive: Callable[[Stop], Talk], replayed: Tape | None = None
    ) -> None:
        self.session = session
        self.sandbox = sandbox
        self.replayed = replayed
        self.is_silent = replayed is not None
        self._drive = drive
        self._talk: Talk | None = None
        self._then: list[Any] | None = None
        self._sent = -1
        self._until = math.inf

    @property
    def operations(self) -> Mapping[int, Operation]:
        """See `RequestHandler`."""
        return {Ask.DEBUG: self._asked}

    def attached(self, host: CallState) -> None:
        """See `DebugHandler`."""
        self.session.attached(self, host)

    def begin(self, op: int, operands: Sequence[Any], root: str) -> None:
        """See `DebugHandler`."""
        self._talk, self._then = None, None
        self._until = math.inf
        self.session.begin(self, op, operands, root)

    def end(self) -> None:
        """See `DebugHandler`. A talk that is open was with a guest that has broken, or is none of the debugger's."""
        self._unbound()
        self.session.ended(self)
        talk, self._talk, self._then = self._talk, None, None
        if talk is not None:
            talk.close()

    def recording(self) -> Tape | None:
        """See `DebugHandler`."""
        past = self.session.past
        return past.tape if past is not None and self.replayed is None else None

    def polls(self) -> bool:
        """See `DebugHandler`."""
        if time.monotonic() > self._until:
            return True
        return self._talk is None and (self.session.wants_pause or self._sent != self.session.breakpoints.version)

    def on_encode_error(self, operands: list[Any], error: EncodeError) -> list[str]:
        """See `RequestHandler`. Commands are made of texts and numbers, but an expression may be too long."""
        return ["ValueError", str(error)[:_LOGGED]]

    def close(self) -> None:
        """See `RequestHandler`: the sandbox is being closed."""
        self.session.closed(self)

    def send_breakpoints(self) -> None:
        """Send all breakpoints to a guest at rest."""
        version = self.session.breakpoints.version
        if self._sent == version:
            return
        kind, value = self.sandbox.aside(Op.DEBUG, ["breakpoints", self.session.breakpoints.to_guest()])
        if kind is Reply.RESULT:
            self._sent = version
            self.session.on_placed(read_placed(value))

    def sent(self, version: int) -> None:
        """The guest has the breakpoints of that version."""
        self._sent = version

    def _bound(self) -> None:
        """The guest is about to carry out a command, which may take so long and no longer."""
        session, cancel = self.session, self.sandbox.canceller()

        def give_up() -> None:
            session.gave_up()
            cancel()

        self._until = time.monotonic() + session.evaluate_s
        session.watchdog.arm(2 * session.evaluate_s, give_up)

    def _unbound(self) -> None:
        self._until = math.inf
        self.session.watchdog.disarm()

    def _asked(self, operands: list[Any]) -> Any:
        self._unbound()
        match operands:
            case ["stopped", dict(value)]:
                return self._stopped(read_stop(value))
            case ["output", str(text)]:
                self.session.on_output(self, texts.clean(text))
                return None
            case ["result" | "failed" as kind, value] if self._then is not None:
                then, self._then, self._talk = self._then, None, None
                if kind == "result":
                    self.session.on_placed(read_placed(value))
                return then
            case ["result", value] if self._talk is not None:
                return self._go_on(self._talk, lambda talk: talk.send(value))
            case ["failed", value] if self._talk is not None:
                error = read_error(value)
                return self._go_on(self._talk, lambda talk: talk.throw(error))
        raise ProtocolError("a debugger's request is [event, value]")

    def _stopped(self, stop: Stop) -> list[Any]:
        self._talk = None
        if stop.reason == "pause" and not self.session.wants_pause:  # the guest is only to get the present breakpoints
            return self._last(["go", "same"])
        talk = self._drive(stop)
        self._talk = talk
        return self._go_on(talk, next)

    def _go_on(self, talk: Talk, advance: Callable[[Talk], Any]) -> list[Any]:
        try:
            command = advance(talk)
        except StopIteration:
            command = Go("continue")
        self.session.note(self, command)
        if isinstance(command, Go):
            if command.mode == "detach":
                self._talk = None
                return ["go", "detach"]
            return self._last(["go", command.mode])
        if isinstance(command, Leap):
            answer = ["go", command.mode, command.until, command.is_quiet]
            return answer if command.is_quiet else self._last(answer)
        if command.name == "breakpoints":
            self._sent = self.session.breakpoints.version
        self._bound()
        return [command.name, *command.operands]

    def _last(self, answer: list[Any]) -> list[Any]:
        """The last answer of a stop. Before the guest goes on, it gets the present breakpoints."""
        session = self.session
        version = session.breakpoints.version
        if self._sent == version:
            self._talk = None
            return answer
        self._sent, self._then = version, answer
        self._bound()
        breakpoints = session.breakpoints.to_guest()
        session.changed(self, Command("breakpoints", (breakpoints,)), is_pause=answer[1] == "same")
        return ["breakpoints", breakpoints]


class Session:
    """The debugger of one node, from `open` to `close`.

    Args:
        target: the node.
        travel: carries out a `Back` of a frontend at a stop; None: there is no going back.
        only_own: whether to stop only in the node's own code, not in granted packages.
        evaluate_s: see EVALUATE_S.

    Attributes:
        breakpoints: where the node stops.
        stop_on_entry: whether to stop at the first line of the next call. Set it before the call.
        wants_pause: see `Desk`.
        evaluate_s: the argument of that name.
        watchdog: ends commands that take too long.
        past: what a second run of the call under way needs; None: there is no call, or no going back.
    """

    def __init__(
        self,
        target: Target,
        travel: Travel | None = None,
        *,
        only_own: bool = True,
        evaluate_s: float = EVALUATE_S,
    ) -> None:
        self.target = target
        self.breakpoints = Breakpoints()
        self.stop_on_entry = False
        self.wants_pause = False
        self.evaluate_s = evaluate_s
        self.past: Past | None = None
        self.only_own = only_own
        self.travel = travel or _stay
        self._keeps_past = travel is not None
        self._frontend: Frontend | None = None
        self._run = Run(self, target.sandbox, self._drive_live)
        self._host: CallState | None = None
        self._is_started = self._is_closed = False
        self._outputs = 0
        self.watchdog = Watchdog()
        self._rest = Watchdog()

    @property
    def node(self) -> str:
        """The node's name."""
        return self.target.name

    def open(self) -> None:
        """Attach to the node.

        Raises:
            ClocheError: the node is being debugged already, or has no sandbox in this process.
            ClosedError: it is closed.
        """
        self.target.lock.run(self.target.sandbox.attach, self._run)

    def join(self, frontend: Frontend) -> None:
        """From the next call on, stops are the frontend's."""
        self._frontend = frontend

    def leave(self) -> None:
        """The frontend wants no more stops. The guest's debugger ends at the next one, or before the next call."""
        if self._frontend is not None:
            self._frontend, self.wants_pause = None, True
            self._limit_rest()

    def close(self) -> None:
        """Detach from the node. Waits for a call under way."""
        self._frontend, self._is_closed = None, True
        try:
            self.target.lock.run(self._close)
        finally:
            self.watchdog.close()
            self._rest.close()

    def _close(self) -> None:
        sandbox = self.target.sandbox
        if not sandbox.closed:
            self._end(sandbox)
            sandbox.limit_next_calls(None)
        sandbox.detach(self._run)

    def _end(self, sandbox: Sandbox) -> None:
        if self._is_started:
            self._is_started = False
            with suppress(ClosedError):
                sandbox.aside(Op.DEBUG, ["stop"])

    def sync(self) -> None:
        """See `Desk`."""
        lock = self.target.lock
        if self._frontend is None or self._is_closed or lock.owned() or not lock.acquire(False):
            return
        try:
            with suppress(ClocheError):  # the next call tries again, and raises it
                self._start(self._run)
        finally:
            lock.release()

    def wait(self, mailbox: Mailbox[Any]) -> None:
        """See `Desk`."""
        assert self._host is not None  # a talk is inside a call
        self._host.wait(None, mailbox)  # type: ignore[arg-type]  # it has what is needed of a future

    def interrupt(self) -> None:
        """End the call under way, if there is one."""
        self.target.interrupt()

    def gave_up(self) -> None:
        """A command is interrupted, together with the call."""
        if self._frontend is not None:
            self._frontend.output("the node did not answer in time: its call is interrupted")

    # ---- called by runs, on the thread that makes the call

    def attached(self, run: Run, host: CallState) -> None:
        """See `DebugHandler`."""
        if run is self._run:
            self._host = host

    def closed(self, run: Run) -> None:
        """The sandbox of a run is closed."""
        if run is self._run:
            self._is_started = False

    def begin(self, run: Run, op: int, operands: Sequence[Any], root: str) -> None:
        """A call begins."""
        if op in _ASIDE:
            return
        run.sandbox.limit_next_calls(math.inf if self._frontend is not None else None)
        if run is not self._run:
            return
        self.past, self.wants_pause, self._outputs = None, False, 0
        if self._frontend is None:
            self._end(run.sandbox)
            return
        self._ready(run)
        if self._keeps_past:
            snapshot = run.sandbox.snapshot(self.target.info)
            self.past = Past(snapshot, (op, operands, root), self.breakpoints.version)

    def prepare(self) -> None:
        """Have the guest ready for the next call, as the call itself does. For a replay, whose calls must not be disturbed."""
        if self._frontend is not None and not self._is_closed:
            self.target.lock.run(self._ready, self._run)

    def _ready(self, run: Run) -> None:
        self._start(run)
        if self.stop_on_entry:
            self.stop_on_entry = False
            run.sandbox.aside(Op.DEBUG, ["enter"])

    def _start(self, run: Run) -> None:
        """Have the guest's debugger ready, with the present breakpoints."""
        if self._is_started:
            run.send_breakpoints()
            return
        version, breakpoints = self.breakpoints.version, self.breakpoints.to_guest()
        kind, value = run.sandbox.aside(Op.DEBUG, ["start", {"own": self.only_own, **breakpoints}])
        if kind is not Reply.RESULT:
            raise ClocheError(f"node {self.node!r} cannot be debugged: {_reason(value)}")
        self._is_started = True
        run.sent(version)
        self.on_placed(read_placed(value))

    def note(self, run: Run, command: Any) -> None:
        """A command is about to be carried out. A second run needs those that change something."""
        if run is not self._run:
            return
        past = self.past
        if past is not None and isinstance(command, Go | Command):
            if isinstance(command, Go) or command.changes:
                past.stops[-1].append(command)
            if isinstance(command, Go) and past.reason == "exception" and any(map(_is_deed, past.stops[-1])):
                past.problem = "values were changed at an exception, and a second run cannot be stopped there"
        if command == Go("detach"):
            self._is_started = False
            self._limit_rest()

    def changed(self, run: Run, command: Command, *, is_pause: bool) -> None:
        """The guest gets new breakpoints before it goes on; `is_pause`: in the middle of its code."""
        past = self.past
        if run is not self._run or past is None:
            return
        if is_pause:
            past.problem = "breakpoints were changed while the node was running, and that moment cannot be found again"
        else:
            past.stops[-1].insert(-1, command)

    def _limit_rest(self) -> None:
        """The rest of the call under way gets the time of a whole one: without a debugger, nothing else would end it."""
        sandbox = self.target.sandbox
        seconds = sandbox.limits.deadline_s
        if seconds is not None and not sandbox.closed:
            self._rest.arm(seconds, sandbox.canceller())

    def ended(self, run: Run) -> None:
        """A call has ended."""
        if run is self._run:
            self._rest.disarm()

    def on_placed(self, places: Sequence[Any]) -> None:
        """The guest has found lines for breakpoints."""
        self.breakpoints.place(places)
        if self._frontend is not None:
            self._frontend.placed(places)

    def on_output(self, run: Run, text: str) -> None:
        """A breakpoint with a message was reached."""
        self._outputs += 1
        if self._frontend is not None and run is self._run and self._outputs <= _MOST_OUTPUTS:
            self._frontend.output(
                text if self._outputs < _MOST_OUTPUTS else "further messages of this call are not shown"
            )

    def _drive_live(self, stop: Stop) -> Talk:
        """The talk of a stop in the present."""
        frontend, past = self._frontend, self.past
        if past is not None:
            past.stops.append([])
            past.reason = stop.reason
            if stop.reason == "pause":
                past.problem = (
                    "the node was paused in this call, and where it was cannot be found again: set a breakpoint there"
                )
        self.wants_pause = False
        if frontend is None:
            return _detaching()
        return self._talk_live(frontend, stop)

    def _talk_live(self, frontend: Frontend, stop: Stop) -> Talk:
        """A frontend's talk in which `Back` leads to a second run."""

        def carry_out(command: Command | Go | Leap | Back) -> Carrying:
            if isinstance(command, Back):
                return self.travel(self, frontend, stop, command)
            if isinstance(command, Go):
                frontend.gone()
            return (yield command)

        return converse(frontend.talk(stop), carry_out)


def _stay(_session: Session, _frontend: Frontend, _stop: Stop, _back: Back) -> Arrived:
    raise GuestError("NotImplementedError", "this debugger cannot go back")


def _is_deed(command: Command | Go) -> bool:
    return isinstance(command, Command) and command.is_deed


def _detaching() -> Talk:
    yield Go("detach")


def _reason(value: Any) -> str:
    match value:
        case {"message": str(message)}:
            return texts.line(message)
    return "the guest refused"
