"""`Parked`: an idle node as bytes. `Runtime.park` makes one, `Runtime.unpark` makes the node of it again.

Between two calls a node is the state of its guest (`Snapshot`), what it has used so far (`Carried`), and what the host has decided
about it (`LoadOptions`). The first two are the bytes, a container of kind ``parked node`` (docs/reference/recordings.md). The last
one stays in this process: limits and grants never come out of bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cloche import _container
from cloche._requests import NodeLock
from cloche._sandbox import (
    Base,
    Carried,
    Difference,
    Snapshot,
    described,
    read_sections,
    sections,
    with_generators,
    without_generators,
)
from cloche.errors import ClocheError
from cloche.texts import name as cleaned

if TYPE_CHECKING:
    from cloche._records import StreamPosition
    from cloche._runtime.load_options import LoadOptions, Origin

__all__ = ["How", "Parked", "State", "packed", "unpacked"]

_KIND: Final = "parked node"
_VERSION: Final = 1
_MOST_BYTES: Final = 256 << 20
_MOST_QUOTAS: Final = 4 << 20
_HEX64: Final = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class How:
    """What the host has decided about a node, which never comes out of bytes.

    Attributes:
        options: how it was made.
        origin: see `NodeCalls`.
        numbers: numbers of its clones that are still to come.
    """

    options: LoadOptions
    origin: Origin | None = None
    numbers: Iterator[int] | None = None


@dataclass(frozen=True, slots=True)
class State:
    """What a parked node's bytes hold.

    Attributes:
        snapshot: state of its guest.
        carried: what it has used.
        checkpoint: the state that ``on_break="restart"`` returns to; None: `snapshot`.
        session_id: see `Runtime.load`.
        key: key of its session, see `cloche.parking.Sessions`; None: it is none of a session's.
    """

    snapshot: Snapshot
    carried: Carried
    checkpoint: Snapshot | None = None
    session_id: str | None = None
    key: str | None = None


def packed(state: State, *, key: bytes = b"") -> bytes:
    """The bytes of a parked node. `unpacked` reads them."""
    snapshot = state.snapshot
    about: dict[str, Any] = {
        "base": snapshot.base.digest if isinstance(snapshot, Difference) else None,
        "carried": state.carried.as_list(),
        "session_id": state.session_id,
        "key": state.key,
    }
    words = snapshot.words
    if seed := state.carried.seed:
        words, cuts = without_generators(words, seed)
        if cuts:
            about["generators"] = [seed.hex(), cuts]
    content = {**sections(snapshot, **about), "words": words}
    if state.checkpoint is not None:
        content["checkpoint"] = state.checkpoint.to_bytes()
    if len(state.carried.quotas) > _MOST_QUOTAS:
        raise ClocheError(f"node {snapshot.name!r} cannot be parked: it has made too many files in its mounts")
    if state.carried.quotas:
        content["quotas"] = state.carried.quotas
    return _container.write(_KIND, _VERSION, content, key=key)


def unpacked(
    data: bytes,
    *,
    key: bytes = b"",
    max_bytes: int = _MOST_BYTES,
    base_of: Callable[[str], Base] | None = None,
) -> State:
    """Check and read the bytes of a parked node, which may be a stranger's.

    Args:
        data: from `packed`.
        key: the key that was given to it.
        max_bytes: see `Snapshot.from_bytes`. The checkpoint may take as much again.
        base_of: finds a base by its digest; None: there are none.

    Raises:
        ClocheError: the bytes are truncated, altered, made with another key or by another version, or too large.
    """
    most = 3 * max_bytes + _MOST_QUOTAS + (1 << 20)
    content = _container.read(data, _KIND, _VERSION, key=key, max_bytes=most)
    about = described(content)
    digest, session_id, session = (about.pop(name, None) for name in ("base", "session_id", "key"))
    seed = b""
    match about.pop("generators", None):
        case None:
            pass
        case [str(text), cuts] if _HEX64.fullmatch(text):
            seed = bytes.fromhex(text)
            words = content.section("words", max_bytes)
            content.replace("words", with_generators(words, seed, cuts))
        case _:
            raise ClocheError("the random generators of a parked node are malformed")
    # the digest becomes a key in a store, which may have folders
    is_base = digest is None or (type(digest) is str and _HEX64.fullmatch(digest))
    if not is_base or any(text is not None and type(text) is not str for text in (session_id, session)):
        raise ClocheError("the description of the parked node is malformed")
    quotas = content.section("quotas", _MOST_QUOTAS) if "quotas" in content.names else b""
    carried = Carried.of(about.pop("carried", None), quotas, seed)
    kind: Callable[..., Snapshot] = Snapshot
    if digest is not None:
        if base_of is None:
            raise ClocheError("the parked node is a session's: it is a difference from the sessions' template")
        kind = partial(Difference, base=base_of(digest))
    snapshot = read_sections(content, about, max_bytes, kind)
    checkpoint = None
    if "checkpoint" in content.names:
        checkpoint = Snapshot.from_bytes(content.section("checkpoint", most), max_bytes=max_bytes)
    return State(snapshot, carried, checkpoint, session_id, session)


class Parked:
    """A node that `Runtime.park` has put aside, as bytes. `Runtime.unpark` brings it back, once.

    It can be pickled and written to a file (`to_bytes`). What the host has decided about the node (limits, grants, recovery,
    budget, record) stays in this process, and is given to `Runtime.unpark` anew where the bytes come from elsewhere.

    Attributes:
        name: the node's name.
        calls: number of calls that it had answered.
        session_id: see `Runtime.load`.
        stream_position: position of its open stream, for `Node.resume`; None without an open stream.
    """

    __slots__ = ("__weakref__", "_data", "_how", "_node", "_turns", "calls", "name", "session_id", "stream_position")

    def __init__(self, data: bytes, state: State, how: How | None) -> None:
        self.name = state.snapshot.name
        self.calls = state.snapshot.calls
        self.session_id = state.session_id
        self.stream_position: StreamPosition | None = state.snapshot.stream
        self._data = data
        self._how = how
        self._node: Any = None  # a `Node`, whose module imports this one
        self._turns: list[NodeLock] = []

    @property
    def size_bytes(self) -> int:
        """Bytes that the node takes now; 0 when it has been brought back."""
        return len(self._data)

    def to_bytes(self, *, key: bytes = b"") -> bytes:
        """The node as bytes: versioned, compressed, with a digest at its end. See docs/reference/recordings.md.

        Bring each back once: two nodes of the same bytes draw the same random numbers.

        Args:
            key: up to 64 bytes. With a key the digest also proves that the bytes were made by a holder of the key.

        Raises:
            ClocheError: it has been brought back.
        """
        if not self._data:
            raise ClocheError(f"node {self.name!r} has been brought back: park it again")
        return _container.sealed(self._data, key) if key else self._data

    @classmethod
    def from_bytes(cls, data: bytes, *, key: bytes = b"", max_bytes: int = _MOST_BYTES) -> Parked:
        """Check the bytes of `to_bytes`. What they cost at most is as for `Snapshot.from_bytes`.

        Args:
            data: the bytes.
            key: the key that was given to `to_bytes`.
            max_bytes: bytes that the node's state may take, decompressed.

        Raises:
            ClocheError: the bytes are truncated, altered, made with another key or by another version, or too large.
        """
        state = unpacked(data, key=key, max_bytes=max_bytes)
        return cls(_container.sealed(bytes(data), b""), state, None)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.to_bytes(),)

    def __repr__(self) -> str:
        size = f"{self.size_bytes / 1e3:.1f} kB" if self._data else "brought back"
        return f"<cloche.parking.Parked {cleaned(self.name)!r} after {self.calls} calls, {size}>"

    def brought_back(self, make: Callable[[State, How | None, NodeLock], Any]) -> Any:
        """The node that this one has become, made now if there is none yet. Cloche's own: see `Runtime.unpark`.

        Args:
            make: makes a node of the state, which it may trust as this process's own, and of the lock.

        Raises:
            ClosedError: the node has been closed since.
        """
        if not self._turns:
            self._turns.append(NodeLock(self.name))  # in one step: of two threads that come here, both take the first
        turn = self._turns[0]
        return turn.run(self._brought_back, make, turn)

    def _brought_back(self, make: Callable[[State, How | None, NodeLock], Any], turn: NodeLock) -> Any:
        node = self._node
        if node is None:
            state = unpacked(self._data, max_bytes=1 << 32)
            node = make(state, self._how, turn)
            try:
                self._node = node  # from here on it is there: if an interrupt comes now, the next call returns it
            except BaseException:
                node.__cloche__.discard()
                raise
        self._data, self._how = b"", None
        return node


def _unpickled(data: bytes) -> Parked:
    """Unpickle a `Parked`, of any size."""
    return Parked.from_bytes(data, max_bytes=1 << 32)
