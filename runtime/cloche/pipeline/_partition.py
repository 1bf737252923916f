"""`Splitter` and `Joiner`: parallel copies of a node. The one hands out items, the other puts the outputs back into their order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from numbers import Number
from typing import Any
from zlib import crc32

from cloche.pipeline._channel import Channel, End, Failed, Inbox, Marker, Packet
from cloche.pipeline._digest import digest
from cloche.pipeline._stage import Outlet
from cloche.pipeline.errors import PipelineError

__all__ = ["Joiner", "Splitter"]


class Splitter:
    """Hands the items of one inbox to several copies, and notes which copy has got what.

    Args:
        node: the node's id.
        copies: the inboxes of the copies.
        key: as `NodeSpec.key`.

    Attributes:
        order: for each item the copies that have got its values, in order; and all markers.
    """

    def __init__(self, node: str, copies: Sequence[Channel], key: str | Callable[[Any], Any] | None) -> None:
        self._node = node
        self._copies = list(copies)
        self._key = key
        self._turns = 0
        self.order = Channel(sys.maxsize)  # what waits in it waits in the copies as well, which are bounded

    def run(self, inbox: Inbox) -> None:
        """Work until the inbox ends. The target of a thread."""
        try:
            while (got := inbox.take(len(self._copies) * 16)) is not None:
                if isinstance(got, list):
                    if not self._hand_out(got):
                        return
                else:
                    self._mark(got)
                    if isinstance(got, (End, Failed)):
                        return
        except BaseException as error:
            self._mark(Failed(error))
        finally:
            inbox.close()

    def _hand_out(self, packets: Sequence[Packet]) -> bool:
        for number, values in packets:
            chosen: list[int] = []
            groups: list[list[Any]] = []
            for value in values:
                copy = self._copy_for(value, number)
                if not chosen or chosen[-1] != copy:
                    chosen.append(copy)
                    groups.append([])
                groups[-1].append(value)
            if not self.order.put([(number, chosen)]):
                return False
            for copy, group in zip(chosen, groups, strict=True):
                if not self._copies[copy].put([(number, group)]):
                    return False
        return True

    def _copy_for(self, value: Any, number: int) -> int:
        key = self._key
        if key is None:
            self._turns += 1
            return self._turns % len(self._copies)
        try:
            return _stable_hash(value[key] if isinstance(key, str) else key(value)) % len(self._copies)
        except Exception as error:
            told = f"it has no key {key!r}" if isinstance(key, str) and isinstance(error, KeyError) else str(error)
            shown = digest(value)
            raise PipelineError(
                f"node {self._node!r} has copies, and NodeSpec.key chooses none for item {number} (SHA-256 {shown}): {told}. "
                "Give all items that key, or a function of the item that knows each of them",
                node=self._node,
                item=number,
                digest=shown,
            ) from error

    def _mark(self, marker: Marker) -> None:
        """End at the copies has what came at the input's end for the first of them: they have no order among each other."""
        self._turns = 0  # as in a run that is resumed here
        self.order.mark(marker)
        for number, copy in enumerate(self._copies):
            copy.mark(marker if not isinstance(marker, End) or number == 0 else End([]))


class Joiner:
    """Takes the outputs of the copies in the order in which their items were handed out.

    Args:
        splitter: has handed them out.
        copies: the outputs of the copies.
        outlets: where the outputs go.
    """

    def __init__(self, splitter: Splitter, copies: Sequence[Channel], outlets: Sequence[Outlet]) -> None:
        self._order = splitter.order
        self._copies = list(copies)
        self._outlets = list(outlets)

    def run(self) -> None:
        """Work until the order ends. The target of a thread."""
        try:
            while (got := self._order.take(1)) is not None:
                marker = self._send(got[0]) if isinstance(got, list) else self._at(got)
                if marker is not None:
                    for outlet in self._outlets:
                        outlet.mark(marker)
                    if isinstance(marker, (End, Failed)):
                        return
        except BaseException as error:
            for outlet in self._outlets:
                outlet.mark(Failed(error))
        finally:
            for copy in (*self._copies, self._order):
                copy.close()

    def _send(self, entry: Packet) -> Marker | None:
        number, chosen = entry
        outputs: list[Any] = []
        for copy in chosen:
            got = self._copies[copy].take(1)
            if got is None:
                return Failed(RuntimeError("a copy has stopped"))
            if not isinstance(got, list):
                return got
            outputs += got[0][1]
        for outlet in self._outlets:
            outlet.put([(number, outputs)])
        return None

    def _at(self, marker: Marker) -> Marker | None:
        """The marker, once all copies have passed it."""
        values: list[Any] = []
        for copy in self._copies:
            got = copy.take(1)
            if got is None or isinstance(got, list):
                return Failed(RuntimeError("a copy has lost its place"))
            if isinstance(got, Failed):
                return got
            if isinstance(got, End):
                values += got.values
        return End(values) if isinstance(marker, End) else marker


def _stable_hash(key: Any) -> int:
    """A hash that equal keys share, and that is the same in each process: a run that is resumed sends keys to the same copies.

    Raises:
        TypeError: there is none for a key of that type.
    """
    if key is None or key != key:  # NaN
        return 0
    if isinstance(key, Number):
        return hash(key)
    if isinstance(key, str):
        return crc32(key.encode("utf-8", "surrogatepass"))
    if isinstance(key, bytes):
        return crc32(key)
    if isinstance(key, tuple):
        return crc32(repr([_stable_hash(part) for part in key]).encode())
    raise TypeError(
        f"the key of an item is of type {type(key).__name__}: give a text, bytes, a number, None, or a tuple of those"
    )
