"""`RemoteChain`: a chain of nodes at a host. It survives the loss of the host.

It has the chain's last states and all batches since. If the host is lost, another one starts the chain with the states, and gets
the batches again; of those that were answered already, the answers are dropped. So each output comes once, and each batch changes
the state once, as far as the state lies in the chain.
"""

from __future__ import annotations

import itertools
import pickle
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from cloche.cluster._messages import Batch, Done, Raised, Record, Reply, Started, Stopped, grouped
from cloche.cluster.engine import Bundle, Host, HostLost, Pending
from cloche.errors import ClocheError, ClosedError, EncodeError
from cloche.pipeline._channel import End, Failed, Packet
from cloche.pipeline._status import StageCounts, StageStatus
from cloche.pipeline.elsewhere import Answer, Unsendable
from cloche.pipeline.placement import BatchResult, State
from cloche.pipeline.spec import NodeSpec

__all__ = ["Hosts", "RemoteChain"]

_MOST_KEPT: Final = 64
"""Batches since the last states after which new ones are wanted, however soon that is."""
_MOST_BYTES: Final = 64 << 20
"""Likewise, bytes of the arrays and texts in them."""
_FAR_TOO_MUCH: Final = 8
"""So many times as much is not kept, however long saving takes."""
_SHARE: Final = 10
"""Saving takes one part of so many of the time at most, however large the states are."""
_MOST_LOSSES: Final = 3
"""Hosts that may be lost without an answer between: a batch may be what kills them."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A value that is in a bundle, and that the driver has not looked at."""

    bundle: Bundle
    place: int


class Hosts(Protocol):
    """What a chain needs of the cluster that it runs on."""

    def choose(self, chain: RemoteChain) -> Host:
        """A host for a chain.

        Raises:
            ClocheError: there is none.
        """

    def lost(self, host: Host, chain: RemoteChain, error: HostLost) -> None:
        """A host was found to be lost."""

    def values(self, bundle: Bundle) -> list[Any]:
        """See `Cluster`."""

    def save(self, bundle: Bundle) -> None:
        """See `Cluster`."""

    def keep(self, data: bytes) -> Any:
        """See `Cluster`."""

    def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        """Take what a node has logged."""


class _Sent:
    """A batch that was sent, and may have to be sent again."""

    def __init__(self, batch: Batch, bundles: Sequence[Bundle]) -> None:
        self.batch = batch
        self.bundles = bundles
        self.weight = sum(map(_weight, bundles))
        self.host: Host
        self.pending: Pending | None = None
        self.outputs: Bundle = None
        self.kept: tuple[Pending, Bundle] | None = None
        """An answer that came before the batch was sent again, to have the same state as before."""
        self.is_received = False


class RemoteChain:
    """A chain of nodes at a host, or one copy of it.

    Args:
        name: its name, for people.
        nodes: id -> specification of its nodes.
        state_names: what their states are called in a checkpoint.
        order: the chain as a host gets it, pickled.
        hosts: the cluster.
        is_direct: whether its outputs go to other chains as they are.
        window: batches that may be under way.
        save_s: seconds between two times that the states are saved.
        stop_s: seconds that stopping may take.
    """

    def __init__(
        self,
        name: str,
        nodes: Mapping[str, NodeSpec],
        state_names: Sequence[str],
        order: bytes,
        hosts: Hosts,
        *,
        is_direct: bool,
        window: int,
        save_s: float,
        stop_s: float,
    ) -> None:
        self.name = name
        self.entry = next(iter(nodes))
        self.wanted_hosts = {spec.host for spec in nodes.values() if spec.host is not None}
        self.state_names = tuple(state_names)
        self.window = window
        self._nodes = dict(nodes)
        self._id = f"{name} {uuid.uuid4().hex}"
        self._order = order
        self._hosts = hosts
        self._is_direct = is_direct
        self._save_s = save_s
        self._stop_s = stop_s
        self._changing = threading.RLock()
        """Held while batches are sent, and while the chain goes from one host to another."""
        self._condition = threading.Condition()
        self._host: Host | None = None
        self._last_host: Host | None = None
        """Where it ran, once it is stopped."""
        self._states: Any = None
        """The last states, as `Cluster.keep` has returned them."""
        self._states_at = 0
        """Number of the first batch behind them."""
        self._saved_at = 0.0
        self._saving_s = 0.0
        """Seconds that saving has taken the last time."""
        self._next = 0
        self._sent: deque[_Sent] = deque()
        """All batches since the last states."""
        self._weight = 0
        """Bytes of the large values in them."""
        self._is_saving = False
        """Whether the states are wanted after one of them."""
        self._losses = 0
        self._makes_items = False
        self._is_moving = False
        self._is_interrupted = False
        self._is_over = False
        """Whether it has ended, or nobody wants its outputs any more: there is nothing left but to stop it."""
        self._stopping: Pending | None = None
        """The answer to "stop", if it was asked for."""
        self._failure: ClocheError | None = None
        """Why it could not be brought back."""
        self._status = tuple(
            StageStatus(label, spec.place, 0, spec.queue, StageCounts()) for label, spec in self._nodes.items()
        )

    @property
    def is_interrupted(self) -> bool:
        """Whether its run is being stopped."""
        return self._is_interrupted

    @property
    def is_over(self) -> bool:
        """Whether it has ended, and has nothing left to do but its ``cleanup``."""
        return self._is_over

    @property
    def host(self) -> Host | None:
        """Where it runs."""
        return self._host

    def prepare(self) -> None:
        """See `Prepared`."""
        self._makes_items = bool(self._placed("prepare", self._order))

    def is_source(self) -> bool:
        """See `Prepared`."""
        return self._makes_items

    def start(self) -> BatchResult:
        """See `Placement`."""
        for losses in itertools.count(1):
            host = self._host
            assert host is not None
            try:
                return self._begun(self._answer(host.ask("start", self._id)))
            except HostLost as error:
                self._hosts.lost(host, self, error)
                if losses > _MOST_LOSSES:
                    raise self._hopeless(f"{losses} hosts were lost while it was started") from error
                self.prepare()
        raise AssertionError

    def restore(self, states: Mapping[str, State]) -> None:
        """See `Placement`."""
        names = dict(zip(self.state_names, self._nodes, strict=True))
        data = pickle.dumps({names[name]: state for name, state in states.items()})
        self._log(self._placed("restore", self._order, self._hosts.keep(data), 0).logs)
        self._keep(data)

    def _begun(self, started: Started) -> BatchResult:
        self._log(started.logs)
        if started.ended:
            self._is_over = True
        else:
            self._keep(started.states)
        return BatchResult([started.outputs], started.ended)

    def send(self, packets: Sequence[Packet]) -> None:
        """See `Ahead`."""
        with self._condition:
            self._condition.wait_for(lambda: not self._is_moving or self._is_interrupted)
        with self._changing:
            saves = not self._is_saving and self._is_save_due()
            self._add([number for number, _ in packets], [values for _, values in packets], saves=saves)

    def _is_save_due(self) -> bool:
        """Whether the states should be saved: often, unless that takes long; and before too much waits to be sent again."""
        since = time.monotonic() - self._saved_at
        much = max(len(self._sent) / _MOST_KEPT, self._weight / _MOST_BYTES)
        if much >= _FAR_TOO_MUCH:
            return True
        is_much = much >= 1
        return since > _SHARE * self._saving_s and (is_much or since > self._save_s)

    def _add(
        self, numbers: list[int], lists: Sequence[list[Any]], *, saves: bool = False, is_end: bool = False
    ) -> None:
        bundles, picks = _bundled([value for values in lists for value in values])
        batch = Batch(self._id, self._next, numbers, [len(values) for values in lists], picks, is_end, saves)
        sent = _Sent(batch, bundles)
        self._dispatch(sent)
        self._next += 1
        self._sent.append(sent)
        self._weight += sent.weight
        self._is_saving |= saves

    def _dispatch(self, sent: _Sent) -> None:
        assert self._host is not None
        sent.host = self._host
        if sent.kept is None and not sent.is_received and sent.pending is not None and _is_good(sent.pending):
            sent.kept = sent.pending, sent.outputs
        try:
            sent.pending, sent.outputs = self._host.call(sent.batch, sent.bundles)
        except HostLost as error:
            sent.pending = _Failed(error)
        except Exception as error:
            raise self._unsendable(sent, error) from error

    def _unsendable(self, sent: _Sent, error: Exception) -> EncodeError:
        """The error for a batch that cannot be sent, which tells the first item that is the reason."""
        at = 0
        for packet, (number, count) in enumerate(zip(sent.batch.numbers, sent.batch.counts, strict=True)):
            for index, (bundle, place) in enumerate(sent.batch.picks[at : at + count]):
                try:
                    pickle.dumps(sent.bundles[bundle][place] if bundle < 0 else None)
                except Exception as reason:
                    return Unsendable(f"cannot be sent to a host: {reason}", number, packet, index)
            at += count
        return EncodeError(f"cannot be sent to a host: {error}", "the items")

    def receive(self) -> Answer:
        """See `Ahead`."""
        while True:
            sent, host, pending, outputs = self._oldest()
            try:
                reply: Reply = self._wait(pending)
                values = self._taken(reply, outputs)
                break
            except HostLost as error:
                if sent.kept is not None and sent.kept[0] is pending:
                    sent.kept = None  # its outputs were at the host that is lost
                    continue
                try:
                    self._recover(host, error)
                except ClocheError:
                    if self._oldest()[0].kept is None:
                        raise
        self._losses = 0
        with self._changing:
            if reply.states is not None:
                self._saving_s = reply.saving_s
                self._keep(reply.states, sent.batch.sequence + 1)
            with self._condition:
                sent.is_received = True
                sent.kept = sent.outputs = None  # they may be large, and nobody asks for them again
                self._is_over |= reply.ended is not None or reply.failed is not None
                self._condition.notify_all()
        return self._told(reply, values)

    def _oldest(self) -> tuple[_Sent, Host, Pending, Bundle]:
        """The oldest batch whose answer was not received, where it was sent, that answer, and its outputs."""
        with self._changing:
            sent = next(sent for sent in self._sent if not sent.is_received)
            pending, outputs = sent.kept or (sent.pending, sent.outputs)
            assert pending is not None
            return sent, sent.host, pending, outputs

    def _taken(self, reply: Reply, outputs: Bundle) -> Sequence[Any]:
        """The outputs of a batch, which have to be safe before it counts as answered."""
        count = sum(reply.counts) + (reply.ended or 0)
        if not count:
            return []
        if self._is_direct:
            self._hosts.save(outputs)
            return [Cell(outputs, place) for place in range(count)]
        return self._hosts.values(outputs)

    def _told(self, reply: Reply, values: Sequence[Any]) -> Answer:
        self._log(reply.logs)
        if reply.status is not None:
            self._status = tuple(reply.status)
        packets = grouped(reply.numbers, reply.counts, values)
        marker: End | Failed | None = None
        if reply.failed is not None:
            marker = Failed(reply.failed.rebuilt())
        elif reply.ended is not None:
            marker = End(list(values[len(values) - reply.ended :]))
        return Answer(packets, marker, reply.letters)

    def _log(self, records: Sequence[Record]) -> None:
        host = self._host or self._last_host
        for level, message, fields in records:
            self._hosts.log(level, message, {**fields, "host": host.name if host is not None else ""})

    def abandon(self) -> None:
        """See `Ahead`."""
        with self._condition:
            self._is_over = True
            self._condition.notify_all()

    def finish(self, values: list[Any]) -> Answer:
        """See `Ahead`."""
        with self._changing:
            self._add([0] if values else [], [values] if values else [], is_end=True)
        return self.receive()

    def states(self) -> Mapping[str, State]:
        """See `Ahead`."""
        while True:
            with self._changing:
                host = self._host
                assert host is not None
                try:
                    data = self._answer(host.ask("states", self._id, self._next))
                except HostLost as error:
                    self._recover(host, error)
                    continue
                self._keep(data, self._next)
            names = dict(zip(self._nodes, self.state_names, strict=True))
            return {names[name]: state for name, state in pickle.loads(data).items()}

    def _keep(self, data: bytes, at: int = 0) -> None:
        """Have the states of the chain before the batch `at`."""
        self._states = self._hosts.keep(data)
        self._states_at = at
        self._saved_at = time.monotonic()
        self._is_saving = False
        while self._sent and self._sent[0].batch.sequence < at:
            sent = self._sent.popleft()
            sent.is_received = True
            self._weight -= sent.weight

    def move(self, host: Host) -> bool:
        """Go on at another host. Called on any thread. Returns whether it did."""
        with self._condition:
            self._is_moving = True
        try:
            while not self._is_interrupted:
                with self._condition:
                    self._condition.wait_for(
                        lambda: (
                            self._is_interrupted or self._is_over or all(one.is_received for one in list(self._sent))
                        )
                    )
                with self._changing:
                    if self._is_over or self._is_interrupted:
                        return False
                    if all(sent.is_received for sent in self._sent):
                        return self._moved(host)
            return False
        finally:
            with self._condition:
                self._is_moving = False
                self._condition.notify_all()

    def leave(self) -> None:
        """Stop it where it is, if it is over. Called on any thread; `stop` waits for that."""
        with self._changing:
            if self._is_over and self._host is not None:
                self._ask_to_stop(self._host)

    def _moved(self, to: Host) -> bool:
        before = self._host
        if before is None or before is to or self._states is None:
            return False
        try:
            data = self._answer(before.ask("states", self._id, self._next))
        except HostLost as error:
            self._recover(before, error)
            return False
        try:
            self._answer(to.ask("restore", self._id, self._order, self._hosts.keep(data), self._next))
        except HostLost as error:
            self._hosts.lost(to, self, error)
            return False
        except BaseException:
            to.ask("discard", self._id)
            raise
        self._host = to
        self._keep(data, self._next)
        before.ask("discard", self._id)
        return True

    def _recover(self, host: Host, error: HostLost) -> None:
        """Bring the chain back at another host, unless another thread has done so already.

        Raises:
            ClocheError: it cannot be brought back.
        """
        with self._changing:
            if self._failure is not None:
                raise self._failure
            if self._host is not host:
                return
            try:
                self._bring_back(host, error)
            except ClocheError as failure:
                self._failure = failure
                raise

    def _bring_back(self, host: Host, error: HostLost) -> None:
        while True:
            self._hosts.lost(host, self, error)
            self._losses += 1
            if self._losses > _MOST_LOSSES or self._states is None:
                why = "it was never saved" if self._states is None else f"{self._losses} hosts were lost in a row"
                raise self._hopeless(why) from error
            try:
                self._host = host = self._hosts.choose(self)  # before it is asked, as above
                self._answer(host.ask("restore", self._id, self._order, self._states, self._states_at))
                self._send_again()
                return
            except HostLost as again:
                error = again

    def _hopeless(self, why: str) -> ClocheError:
        return ClocheError(
            f"its host was lost, and the chain of {', '.join(self._nodes)} cannot be brought back: {why}. "
            "If its work is what ends the hosts, give its nodes limits, or the placement 'process'"
        )

    def _send_again(self) -> None:
        """Send all batches again; one by one after the second loss, so that those before the one that ends hosts are answered."""
        window = self.window if self._losses < 2 else 1
        under_way: deque[Pending] = deque()
        for sent in self._sent:
            self._dispatch(sent)
            assert sent.pending is not None
            under_way.append(sent.pending)
            if len(under_way) >= window:
                self._wait(under_way.popleft())

    def stop(self) -> None:
        """See `Placement`."""
        with self._condition:
            self._is_interrupted = True  # whoever moves it, or brings it back, gives up
            self._condition.notify_all()
        with self._changing:
            if self._host is not None:
                self._ask_to_stop(self._host)
            pending, self._stopping = self._stopping, None
        host = self._last_host
        if pending is None or host is None:
            return
        came = threading.Event()
        pending.add_done_callback(lambda _: came.set())
        if not came.wait(self._stop_s):
            raise ClocheError(
                f"the nodes {', '.join(self._nodes)} could not be stopped at {host.name} within {self._stop_s} s"
            )
        try:
            stopped: Stopped = _value(pending.result())
        except HostLost:  # there is nothing to clean up
            return
        self._log(stopped.logs)
        if stopped.failed is not None:
            raise stopped.failed.rebuilt()

    def _ask_to_stop(self, host: Host) -> None:
        self._host, self._last_host = None, host
        self._stopping = host.ask("stop", self._id)

    def interrupt(self) -> None:
        """See `Placement`."""
        with self._condition:
            self._is_interrupted = True
            self._condition.notify_all()
        host = self._host
        if host is not None:
            with suppress(Exception):  # it is lost
                host.ask("interrupt", self._id)

    def status(self) -> Sequence[StageStatus]:
        """See `Ahead`."""
        host = self._host or self._last_host
        return [replace(status, host=host.name if host is not None else "") for status in self._status]

    def _placed(self, verb: str, *arguments: Any) -> Any:
        """Have a host do what begins the chain there, and if it is lost meanwhile, another one."""
        losses = 0
        while True:
            self._host = host = self._hosts.choose(self)  # before it is asked: whatever comes of it has to be stopped
            try:
                return self._answer(host.ask(verb, self._id, *arguments))
            except HostLost as error:
                losses += 1
                self._hosts.lost(host, self, error)
                if losses > _MOST_LOSSES:
                    raise self._hopeless(f"{losses} hosts were lost while it was started") from error

    def _answer(self, pending: Pending) -> Any:
        return _value(self._wait(pending))

    def _wait(self, pending: Pending) -> Any:
        """Wait for an answer, unless the run is stopped."""
        pending.add_done_callback(self._notify)
        with self._condition:
            self._condition.wait_for(lambda: pending.done() or self._is_interrupted)
        if not pending.done():
            raise ClosedError("the pipeline was stopped")
        return pending.result()

    def _notify(self, _: Any) -> None:
        with self._condition:
            self._condition.notify_all()


def _weight(bundle: Bundle) -> int:
    """Bytes of the large values in a bundle that is a list; one that is elsewhere is not counted."""
    if not isinstance(bundle, list):
        return 0
    values = (inner for value in bundle for inner in (value.values() if isinstance(value, dict) else (value,)))
    return sum(_size(value) for value in values)


def _size(value: Any) -> int:
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    size = getattr(value, "nbytes", 0)
    return size if isinstance(size, int) else 0


def _is_good(pending: Pending) -> bool:
    """Whether the answer has come."""
    if not pending.done():
        return False
    try:
        pending.result()
    except Exception:
        return False
    return True


class _Failed:
    """A `Pending` that has failed at once."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def done(self) -> bool:
        return True

    def add_done_callback(self, function: Callable[[Any], object], /) -> None:
        function(self)

    def result(self) -> Any:
        raise self._error


def _bundled(values: Sequence[Any]) -> tuple[list[Bundle], list[tuple[int, int]]]:
    """The bundles that values are in, one of them made here for those that are in none, and the place of each value."""
    bundles: list[Bundle] = []
    known: dict[int, int] = {}
    plain: list[Any] = []
    picks: list[tuple[int, int]] = []
    for value in values:
        if type(value) is not Cell:
            picks.append((-1, len(plain)))
            plain.append(value)
            continue
        at = known.get(id(value.bundle))
        if at is None:
            at = known[id(value.bundle)] = len(bundles)
            bundles.append(value.bundle)
        picks.append((at, value.place))
    if plain:
        bundles.append(plain)  # the last one, which is -1
    return bundles, picks


def _value(answer: Done | Raised) -> Any:
    if isinstance(answer, Raised):
        raise answer.rebuilt()
    return answer.value
