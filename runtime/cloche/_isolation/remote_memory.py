"""`RemoteMemory`: reads ranges of a guest's memory in a worker process, and knows the buffers that the two processes share."""

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
    """The codec's access to the memory of a guest in a worker process.

    Args:
        channel: channel to the worker.

    Attributes:
        ranges: ranges of guest memory that came with the last answer.
        buffers: for each shared buffer its number, its address in this process, its shared memory, and its address in the guest.
        uses: parts of buffers to which the current message refers: number, offset, length.
    """

    __slots__ = ("_channel", "_count", "buffers", "ranges", "uses")

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._count = 0
        self.ranges = NO_RANGES
        self.buffers: list[tuple[int, int, SharedMemory, int]] = []
        self.uses: list[tuple[int, int, int]] = []

    def number(self) -> int:
        """A new number for a buffer. If making the buffer is interrupted, the number is not used again."""
        self._count += 1
        return self._count

    def add(self, number: int, area: SharedMemory, address: int) -> None:
        """Register a buffer that the worker shares."""
        self.buffers.append((number, address_of(area.view), area, address))

    def lift(self, address: int, length: int) -> memoryview:
        """The contents of a range of guest memory. If the range did not come with the answer, it is requested now.

        Raises:
            ProtocolError: the range is outside of the guest's memory.
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
        """The address in the guest of a contiguous view in a shared buffer; 0 if it is in none."""
        if not self.buffers or not view.nbytes:
            return 0
        start = address_of(view)
        for number, base, area, address in self.buffers:
            if base <= start and start + view.nbytes <= base + area.size:
                self.uses.append((number, start - base, view.nbytes))
                return address + start - base
        return 0
