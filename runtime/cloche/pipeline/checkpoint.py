"""`Checkpoint`: the states of all nodes of a pipeline at one place of its input."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

import cbor2

from cloche._codec import write_cbor
from cloche._sandbox import Snapshot
from cloche.errors import ClocheError
from cloche.pipeline.placement import State

__all__ = ["Checkpoint"]

_MAGIC: Final = b"cloche pipeline 1\n"
_DIGEST_BYTES: Final = 32
_MOST_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The states of all nodes of a pipeline at one place of its input, from which `Pipeline.resume` goes on.

    Attributes:
        pipeline: digest of the pipeline's nodes and connections.
        items: items of the input before that place.
        outputs: outputs that were made of them.
        states: id of each node, or of each copy -> its state.
    """

    pipeline: str
    items: int
    outputs: int
    states: Mapping[str, State] = field(repr=False, hash=False)

    def to_bytes(self) -> bytes:
        """The checkpoint as bytes, with a digest of SHA-256 at their end that shows damage."""
        states = {
            name: [True, state.to_bytes()] if isinstance(state, Snapshot) else [False, state]
            for name, state in self.states.items()
        }
        body = _MAGIC + write_cbor([self.pipeline, self.items, self.outputs, states])
        return body + hashlib.sha256(body).digest()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Check and read the bytes of `to_bytes`.

        The states of sandboxed nodes are data that a sandbox contains. Those of native nodes are pickles, which `Pipeline.resume`
        loads: they have to come from somebody whom you trust as much as the nodes' code.

        Raises:
            ClocheError: the bytes are truncated, altered or of another version.
        """
        body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
        if not body.startswith(_MAGIC) or hashlib.sha256(body).digest() != digest or len(data) > _MOST_BYTES:
            raise ClocheError(
                "these bytes are no checkpoint of a pipeline, or are damaged: take them from Checkpoint.to_bytes"
            )
        try:
            return cls(*_checked(cbor2.loads(body[len(_MAGIC) :])))
        except (ValueError, TypeError, cbor2.CBORError) as error:
            raise ClocheError(f"these bytes are no checkpoint of a pipeline: {error}") from None


def _checked(content: Any) -> tuple[str, int, int, dict[str, State]]:
    match content:
        case [str(pipeline), int(items), int(outputs), dict(states)] if items >= 0 and outputs >= 0:
            return pipeline, items, outputs, {str(name): _state(state) for name, state in states.items()}
        case _:
            raise ValueError("fields are missing")


def _state(content: Any) -> State:
    match content:
        case [True, bytes(data)]:
            return Snapshot.from_bytes(data)
        case [False, bytes(data)]:
            return data
        case _:
            raise ValueError("a state is malformed")
