"""`Checkpoint`: the states of all nodes of a pipeline at one place of its input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from cloche import _container
from cloche._sandbox import Snapshot
from cloche.errors import ClocheError
from cloche.pipeline.placement import State

__all__ = ["Checkpoint"]

_KIND: Final = "checkpoint"
_VERSION: Final = 2
_MAX_ABOUT: Final = 16 << 20
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

    def to_bytes(self, *, key: bytes = b"") -> bytes:
        """The checkpoint as bytes, with a digest at their end that shows damage. See docs/reference/recordings.md.

        Args:
            key: up to 64 bytes. With a key the digest also proves that the bytes were made by a holder of the key.
        """
        about = {
            "pipeline": self.pipeline,
            "items": self.items,
            "outputs": self.outputs,
            "states": [[name, isinstance(state, Snapshot)] for name, state in self.states.items()],
        }
        sections = {"about": _container.json_bytes(about)}
        for number, state in enumerate(self.states.values()):
            sections[f"state {number}"] = state.to_bytes() if isinstance(state, Snapshot) else state
        return _container.write(_KIND, _VERSION, sections, key=key)

    @classmethod
    def from_bytes(cls, data: bytes, *, key: bytes = b"", max_bytes: int = _MOST_BYTES) -> Self:
        """Check and read the bytes of `to_bytes`.

        The states of sandboxed nodes are data that a sandbox contains. Those of native nodes are pickles, which `Pipeline.resume`
        loads: they have to come from somebody whom you trust as much as the nodes' code. A key proves that they do.

        Args:
            data: the bytes.
            key: the key that was given to `to_bytes`.
            max_bytes: bytes that the states may take, decompressed.

        Raises:
            ClocheError: the bytes are truncated, altered, made with another key or by another version, or too large.
        """
        content = _container.read(data, _KIND, _VERSION, key=key, max_bytes=max_bytes)
        about = _container.json_map(content.section("about", _MAX_ABOUT), "the checkpoint's description")
        match about:
            case {"pipeline": str(pipeline), "items": int(items), "outputs": int(outputs), "states": [*listed]} if (
                items >= 0 and outputs >= 0
            ):
                states: dict[str, State] = {}
                for number, one in enumerate(listed):
                    name, state = _state(content, number, one, max_bytes)
                    states[name] = state
                    max_bytes -= state.size_bytes if isinstance(state, Snapshot) else len(state)
                return cls(pipeline, items, outputs, states)
            case _:
                raise ClocheError("the checkpoint cannot be read: fields are missing")


def _state(content: _container.Container, number: int, listed: Any, max_bytes: int) -> tuple[str, State]:
    match listed:
        case [str(name), bool(is_snapshot)]:
            data = content.section(f"state {number}")
            return name, Snapshot.from_bytes(data, max_bytes=max(0, max_bytes)) if is_snapshot else data
        case _:
            raise ClocheError("the checkpoint cannot be read: a state is malformed")
