"""`Sandboxed`: a node in a sandbox (placement "wasm")."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cloche._runtime.batches import Batches
from cloche._runtime.node import Node
from cloche._runtime.runtime import Runtime
from cloche._runtime.stream import StreamSession
from cloche._sandbox import Snapshot
from cloche.errors import BrokenInstanceError, ClocheError
from cloche.grants import Grants
from cloche.pipeline._needs import check_needs
from cloche.pipeline.errors import BrokenError
from cloche.pipeline.placement import BatchResult, State
from cloche.pipeline.spec import NodeSpec
from cloche.source import Source

if TYPE_CHECKING:
    from cloche._recording import Record, Recording

__all__ = ["Sandboxed"]


class Sandboxed:
    """One copy of a node in a sandbox of its own.

    Args:
        runtime: makes the sandbox.
        spec: the node's specification.
        source: its code; or its state, once it is loaded.
        name: its name in logs and errors.
        session_id: as for `Runtime.load`.
        record: likewise.
    """

    def __init__(
        self,
        runtime: Runtime,
        spec: NodeSpec,
        source: Source | str | Snapshot,
        name: str,
        session_id: str | None,
        record: Record | None = None,
    ) -> None:
        self._runtime = runtime
        self._spec = spec
        self._source = source
        self._name = name
        self._session_id = session_id
        self._record = record
        self._recording: Recording | None = None
        self._node: Node | None = None
        self._batches: Batches | None = None
        self._source_stream: StreamSession | None = None
        """The stream of a node that is a source, once an output has been asked for."""
        self._ended = False
        self._before: list[Any] = []
        """What a new stream gave before its first item, if an item has ended the one before."""

    def prepare(self) -> None:
        """See `Prepared`."""
        spec, source = self._spec, self._source
        if isinstance(source, Snapshot):
            self._node = self._from(source, reseed=True)
            return
        self._node = node = self._runtime.load(
            source,
            spec.entry,
            spec.params,
            name=self._name,
            limits=spec.limits,
            grants=spec.grants,
            session_id=self._session_id,
            record=self._record,
            **self._recovery,
        )
        if "get_capabilities" in node.__cloche__.info["methods"]:
            check_needs(self._name, node.call("get_capabilities"), "wasm")

    def is_source(self) -> bool:
        """See `Prepared`."""
        return self._node is not None and bool(self._node.__cloche__.info["is_source"])

    def start(self) -> BatchResult:
        """See `Placement`."""
        if self._node is None:
            self.prepare()
        assert self._node is not None
        self._node.initialize()
        outputs = self._open()
        return BatchResult([outputs], self._ended)

    @property
    def _recovery(self) -> dict[str, Any]:
        """How the node is brought back: as often as its pipeline's rules want. Each time, an item at least is done with."""
        on_break = self._spec.on_break
        return {"on_break": "raise"} if on_break == "fail" else {"on_break": on_break, "max_restarts": sys.maxsize}

    def _open(self, *, resume: bool = False) -> list[Any]:
        """Begin the node's stream, or go on with that of its restored state. Returns what the node gave before its first item.

        That of a source begins with the first output that is asked for.
        """
        assert self._node is not None
        self._source_stream = None
        if self.is_source():
            return []
        calls = self._node.__cloche__
        stream = StreamSession(calls, resume=resume)
        self._batches = Batches(calls, stream)
        stream.open()
        outputs = []
        while not stream.ended and (stream.output or not stream.wants):
            if stream.output:
                outputs.append(stream.value)
            if stream.wants:
                break
            stream.next()
        self._ended = stream.ended
        return outputs

    def call(self, items: Sequence[Any], *, end: bool = False) -> BatchResult:
        """See `Placement`."""
        if self._ended:
            return BatchResult([], True)
        if self.is_source():
            return self._next_output()
        assert self._batches is not None
        try:
            result = self._batches.send(list(items), end)
        except BrokenInstanceError as error:
            raise self._brought_back(error) from error
        outcomes = result.outcomes
        if self._before and outcomes and isinstance(outcomes[0], list):
            outcomes[0], self._before = self._before + outcomes[0], []
        self._ended = result.ended
        if result.ended and not end and isinstance(outcomes[-1], ClocheError):
            # a node that takes the whole stream ends with an item that fails: it gets a new one for the items behind it
            self._before += self._open()
        return BatchResult(outcomes, self._ended)

    def _next_output(self) -> BatchResult:
        """The next output of a source, or its end. After an exception it has no more."""
        node = self._node
        assert node is not None
        outcomes: list[list[Any] | Exception]
        try:
            stream = self._source_stream
            if stream is None:
                resume = node.stream_position is not None
                stream = self._source_stream = StreamSession(node.__cloche__, resume=resume)
                stream.open()
                if resume:
                    stream.next()
            else:
                stream.next()
        except BrokenInstanceError as error:
            raise self._brought_back(error) from error
        except ClocheError as error:
            outcomes, self._ended = [error], True
        else:
            outcomes, self._ended = [[stream.value]] if stream.output else [], stream.ended
        return BatchResult(outcomes, self._ended)

    def _brought_back(self, error: BrokenInstanceError) -> BrokenError:
        node = self._node
        assert node is not None
        if node.broken:
            return BrokenError(f"{self._name}: {error}")
        try:
            self._before = self._open(resume=node.stream_position is not None)
        except ClocheError as later:
            error.add_note(f"and it could not be brought back: {later}")
            return BrokenError(f"{self._name}: {error}")
        return BrokenError(f"{self._name}: {error}", recovered=True)

    def snapshot(self) -> State:
        """See `Placement`."""
        assert self._node is not None
        return self._node.snapshot()

    def restore(self, state: State) -> None:
        """See `Placement`."""
        if not isinstance(state, Snapshot):
            raise ClocheError(f"the state of {self._name!r} is not that of a sandbox")
        if self._node is not None:
            self._node.__cloche__.discard()
        self._node = node = self._from(state, reseed=False)
        self._before = self._open(resume=node.stream_position is not None)

    def _from(self, state: Snapshot, *, reseed: bool) -> Node:
        spec = self._spec
        return self._runtime.restore(
            state,
            name=self._name,
            limits=spec.limits,
            grants=spec.grants if spec.grants is not None else Grants(),
            reseed=reseed,
            record=self._record,
            **self._recovery,
        )

    def loaded(self) -> Snapshot:
        """The node's state after `prepare`."""
        assert self._node is not None
        return self._node.snapshot()

    def discard(self) -> None:
        """Free everything, without ``cleanup``."""
        node, self._node = self._node, None
        if node is not None:
            node.__cloche__.discard()

    def memory_bytes(self) -> int:
        """See `Measured`."""
        node = self._node
        return 0 if node is None else node.__cloche__.sandbox.private_bytes

    def stop(self) -> None:
        """See `Placement`."""
        node, self._node = self._node, None
        if node is None:
            return
        if self._record is not None:
            with suppress(ClocheError):  # there is no state any more that could be taken
                self._recording = node.recording
        node.close()

    def recording(self) -> Recording | None:
        """See `Recorded`."""
        return self._recording

    def interrupt(self) -> None:
        """See `Placement`."""
        node = self._node
        if node is not None and node.__cloche__.busy:
            node.__cloche__.sandbox.canceller()()
