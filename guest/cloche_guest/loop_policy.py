"""The event loop policy that makes asyncio use the guest's `Loop`. Installed only in the image, not natively."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from cloche_guest.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Callable


def install(loop: Loop) -> None:
    """Make `asyncio.run` and `asyncio.new_event_loop` create `Loop`s; outside of `asyncio.run`, `loop` is the current one."""
    asyncio.set_event_loop_policy(_Policy(loop))


class _Policy(asyncio.DefaultEventLoopPolicy):
    _loop_factory: Callable[[], asyncio.AbstractEventLoop] = Loop

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._own = loop

    def get_event_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that was set last; the guest's own loop if that is closed or None, as after `asyncio.run`."""
        current: Any = getattr(self._local, "_loop", None)  # type: ignore[attr-defined]
        return self._own if current is None or current.is_closed() else current
