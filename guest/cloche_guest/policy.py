"""Makes the guest's loop the one that asyncio uses. Only the image does; natively asyncio stays as it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from cloche_guest.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Callable


def install(loop: Loop) -> None:
    """Make `asyncio.run` and `asyncio.new_event_loop` use `Loop`; outside of them `loop` is the current one."""
    asyncio.set_event_loop_policy(_Policy(loop))


class _Policy(asyncio.DefaultEventLoopPolicy):
    _loop_factory: Callable[[], asyncio.AbstractEventLoop] = Loop

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._own = loop

    def get_event_loop(self) -> asyncio.AbstractEventLoop:
        """The loop set last, or the guest's own: `asyncio.run` leaves none behind."""
        current: Any = getattr(self._local, "_loop", None)  # type: ignore[attr-defined]
        return self._own if current is None or current.is_closed() else current
