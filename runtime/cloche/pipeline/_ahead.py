"""`AheadStage`: a chain of nodes that runs somewhere else, and gets further items before it has answered for those before.

One thread sends items, another one takes the answers; so neither waits for the way there and back. What becomes of an item that
fails is decided where the nodes run: see `_stage`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from cloche.errors import ClocheError
from cloche.pipeline._channel import Barrier, End, Failed, Inbox, Marker, Packet
from cloche.pipeline._digest import digest
from cloche.pipeline._rejected import Rejected
from cloche.pipeline._stage import Outlet, Surroundings, sent
from cloche.pipeline.elsewhere import Ahead, Answer, Unsendable
from cloche.pipeline.errors import BrokenError, PipelineError
from cloche.pipeline.placement import State
from cloche.pipeline.spec import DeadLetter, Fail, NodeSpec, Restore, Retry

__all__ = ["AheadStage"]


class AheadStage:
    """A chain of nodes that runs somewhere else, or one copy of it.

    Args:
        name: the chain's name, which is the id of its last node.
        state_name: the name of this copy.
        spec: what the run has to know of the chain: how many items may wait for it, and be sent at once.
        placement: the chain in its place, not started.
        outlets: where its outputs go.
        around: the run.
    """

    def __init__(
        self,
        name: str,
        state_name: str,
        spec: NodeSpec,
        placement: Ahead,
        outlets: Sequence[Outlet],
        around: Surroundings,
    ) -> None:
        self.name = name
        self.state_name = state_name
        self.placement = placement
        self._spec = spec
        self._outlets = list(outlets)
        self._around = around
        self._inbox: Inbox | None = None
        self._condition = threading.Condition()
        self._under_way = 0
        """Batches that have been sent, and whose outputs have not been sent on."""
        self._is_source = False
        self._first: list[Any] = []
        """What a chain has given that wants no items."""
        self._ended = False
        """Whether the chain wants no more items."""
        self._done = False

    def prepare(self) -> None:
        """As `Stage.prepare`."""
        self.placement.prepare()

    def is_source(self) -> bool:
        """As `Stage.is_source`."""
        self._is_source = self.placement.is_source()
        return self._is_source

    @property
    def makes_items(self) -> bool:
        """As `Stage.makes_items`."""
        return self._is_source

    @property
    def is_over(self) -> bool:
        """As `Stage.is_over`."""
        return self._ended

    def start(self, states: Mapping[str, State] | None) -> None:
        """As `Stage.start`."""
        if states is None:
            result = self.placement.start()
            self._ended = result.ended
            if isinstance(result.outcomes[0], list):
                self._first = result.outcomes[0]
            return
        mine = {name: states[name] for name in self.placement.state_names if name in states}
        if mine:
            self.placement.restore(mine)
        else:
            self._ended = True

    def open(self) -> None:
        """As `Stage.open`."""
        if self._ended:
            self._finish(End(self._first))

    def run(self, inbox: Inbox) -> None:
        """Send items until the inbox ends. The target of a thread."""
        self._inbox = inbox
        try:
            while not self._done:
                got = inbox.take(self._spec.batch)
                if got is None:
                    return
                if isinstance(got, list):
                    self._send(got)
                else:
                    self._mark(got)
        except BaseException as error:
            with self._condition:  # what was sent before is given before
                self._condition.wait_for(lambda: self._done or not self._under_way)
            self._finish(Failed(self._told(error)))
        finally:
            self._finish(None)

    def deliver(self) -> None:
        """Take answers, and send them on, until no more are to come. The target of another thread."""
        try:
            while self._wait_for_answers():
                answer = self._answered(self.placement.receive())
                if not self._send_on(answer.packets):
                    self._finish(None)
                elif answer.marker is not None:
                    self._finish(self._named(answer.marker))
                with self._condition:
                    self._under_way -= 1
                    self._condition.notify_all()
        except BaseException as error:
            self._finish(Failed(self._told(error)))

    def _send(self, packets: Sequence[Packet]) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._done or self._under_way < self.placement.window)
            if self._done:
                return
        try:
            self.placement.send(packets)
        except Unsendable as error:
            at, (number, values) = error.packet, packets[error.packet]
            if at:
                self._send(packets[:at])
            self._refuse(number, values[error.place], error)
            left = [value for place, value in enumerate(values) if place != error.place]
            self._send([(number, left), *packets[at + 1 :]])
            return
        with self._condition:
            self._under_way += 1
            self._condition.notify_all()

    def _refuse(self, number: int, value: Any, error: Unsendable) -> None:
        """Do with an item that cannot be sent what the chain's first node has for one that fails.

        Raises:
            PipelineError: the pipeline ends.
        """
        rule, node, shown = self._spec.on_error, self.placement.entry, digest(value)
        while isinstance(rule, Retry | Restore):
            rule = rule.then
        if isinstance(rule, Fail):
            of = f"item {number} (SHA-256 {shown})" if shown else f"item {number}"
            raise PipelineError(
                f"node {node!r} failed on {of}: {error}", node=node, item=number, digest=shown
            ) from error
        self._around.warn(node, f"item {number} was left out: {error}", item=number, digest=shown)
        if isinstance(rule, DeadLetter):
            self._around.reject(Rejected(node, number, value, error))

    def _mark(self, marker: Marker) -> None:
        """Do what a marker asks for, once all batches before it are answered, and send it on."""
        with self._condition:
            self._condition.wait_for(lambda: self._done or not self._under_way)
            if self._done:
                return
        if self._around.stopping.is_set():
            return
        if isinstance(marker, Barrier):
            marker.states.update(self.placement.states())
            for outlet in self._outlets:
                outlet.mark(marker)
        elif isinstance(marker, End):
            answer = self._answered(self.placement.finish(marker.values))
            self._finish(self._named(answer.marker or End([])))
        else:
            self._finish(marker)

    def _answered(self, answer: Answer) -> Answer:
        for letter in answer.letters:
            self._around.reject(letter)
        return answer

    def _wait_for_answers(self) -> bool:
        with self._condition:
            self._condition.wait_for(lambda: self._done or self._under_way)
            return not self._done

    def _send_on(self, packets: Sequence[Packet]) -> bool:
        return not packets or sent(self._outlets, packets)

    def _finish(self, marker: Marker | None) -> None:
        """Send on the last marker, if it is the first one of that kind; None: there is nobody who wants one."""
        with self._condition:
            if self._done:
                return
            self._done = True
            self._condition.notify_all()
        self.placement.abandon()
        if marker is not None:
            for outlet in self._outlets:
                outlet.mark(marker)
        if self._inbox is not None:
            self._inbox.close()  # who sends may be waiting for items

    def _named(self, marker: Marker) -> Marker:
        return Failed(self._told(marker.error)) if isinstance(marker, Failed) else marker

    def _told(self, error: BaseException) -> BaseException:
        if not isinstance(error, ClocheError) or isinstance(error, PipelineError):
            return error
        cause: BaseException = error
        if isinstance(error, BrokenError) and error.__cause__ is not None:
            cause = error.__cause__
        failed = PipelineError(f"node {self.name!r} failed: {cause}", node=self.name)
        failed.__cause__ = cause
        return failed
