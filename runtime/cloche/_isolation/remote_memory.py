"""What travels beside an instance's messages: bodies that its replies name, and the buffers that it shares with the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloche._isolation.address_ranges import NO_RANGES
from cloche._isolation.protocol import Answer, Request
from cloche._isolation.shared_memory import SharedMemory, create
from cloche._wasm import address_of
from cloche.errors import ProtocolError

if TYPE_CHECKING:
    from cloche._isolation.channel import Channel

__all__ = ["RemoteMemory"]


class RemoteMemory:
    """The memory of a guest that is out of reach, as far as the codec needs it.

    Args:
        channel: to its worker.

    Attributes:
        ranges: what lies in the guest's memory where the last answer points to, as far as it came along.
        buffers: number, address in this process, the shared memory there, the guest's address.
        uses: the buffers that the message under way names: number, offset, length.
    """

    __slots__ = ("_channel", "_count", "buffers", "ranges", "uses")

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._count = 0
        self.ranges = NO_RANGES
        self.buffers: list[tuple[int, int, SharedMemory, int]] = []
        self.uses: list[tuple[int, int, int]] = []

    def number(self) -> int:
        """A number for a new buffer. The worker knows buffers by it: one whose making was interrupted shifts no other."""
        self._count += 1
        return self._count

    def add(self, number: int, area: SharedMemory, address: int) -> None:
        """A buffer is shared from now on."""
        self.buffers.append((number, address_of(area.view), area, address))

    def lift(self, address: int, length: int) -> memoryview:
        """What lies in the guest's memory: sent along with the answer, as a rule, or asked for now.

        Raises:
            ProtocolError: it is outside of the guest's memory.
            BrokenInstanceError: the worker has died.
        """
        view = self.ranges.find(address, length)
        if view is None:
            area, descriptor = create(max(1, length), exact=True)
            self._channel.ask(Request.READ, b"", address, length, descriptor)
            received = self._channel.receive(0)
            if received.kind != Answer.DONE:
                raise ProtocolError(f"guest range [{address}, +{length}) refused by its worker")
            view = area.view[:length]
        return view

    def shared(self, view: memoryview) -> int:
        """The guest's address of a contiguous view, if it lies in a buffer; else 0."""
        if not self.buffers or not view.nbytes:
            return 0
        start = address_of(view)
        for number, base, area, address in self.buffers:
            if base <= start and start + view.nbytes <= base + area.size:
                self.uses.append((number, start - base, view.nbytes))
                return address + start - base
        return 0
