"""`Host`: the functions that the guest runtime needs from outside, provided by the C module ``_cloche`` or by `cloche.testing`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Host(Protocol):
    """The functions of ``_cloche`` that dispatch, logs, streams and requests use."""

    def emit(self, record: list[Any], /) -> None:
        """Append one log record to the log ring; if the ring is full, the oldest records are dropped."""

    def hold(self, stream: int, record: list[Any] | None, /) -> bool:
        """Keep the record of a line without an end, of stdout (1) or stderr (2), for a host whose sandbox breaks; None: keep none.

        Returns:
            False if the record is too long to be kept, or if the host wants the records of this call at once.
        """

    def count_output(self, size: int, /) -> None:
        """Charge `size` bytes to the call's ``output_bytes``. Once that is exceeded, the instance ends and this does not return."""

    def begin_item(self, number: int, /) -> None:
        """Note that work on that item of a batch begins: it has its own deadline and ``output_bytes``, and log records name it."""

    def written(self, output: Any, /) -> Any:
        """Encode an output of a batch as it is now.

        Returns:
            what stands for it in the reply, whatever becomes of `output` meanwhile.

        Raises:
            TypeError, ValueError: it cannot be sent.
        """

    def configure(
        self, reply_bytes: int, output_bytes: int, value_nodes: int, value_depth: int, stack_depth: int, /
    ) -> None:
        """Set the limits that the C code enforces. `stack_depth` becomes the interpreter's recursion limit, too."""

    def call(self, request: list[Any], /) -> list[Any] | None:
        """Make a request ``[ask, *operands]``; the answer is ``[granted, value or failure]``, or None if the node has no grants."""

    def on_pause(self, function: Callable[[], object] | None, /) -> None:
        """Set what is called, between any two instructions, when the host wants the node to pause; None: nothing is."""

    def scratch(self, size: int, /) -> None:
        """Give /tmp and /home/node room for `size` bytes, in the instance's own memory; with 0 neither exists."""

    def tree(self, place: str, block: bytes, /) -> str:
        """Show a tree (`cloche_wire.tree`) as a read-only folder, and return the folder's path.

        Args:
            place: where the sandbox shows it: one or two components, without the leading slash.
            block: the tree.
        """
