"""Makes asyncio use the guest's `Loop`, whatever event loop policy the node sets. Installed only in the image, not natively."""

from __future__ import annotations

import asyncio
from asyncio import unix_events
from typing import Any, Final

from cloche_guest.loop import Loop

_NAMES: Final = ("SelectorEventLoop", "EventLoop")
"""Names that asyncio has for the loop with a selector, in itself and in `asyncio.unix_events`."""


def install(loop: Loop) -> None:
    """Make all of asyncio's ways to a new loop give a `Loop`: ``run``, ``Runner``, ``new_event_loop``, the class itself.

    Outside of ``run``, `loop` is the current one. The default policy's class is changed, not replaced, so that a policy of the
    node's that is derived from it, or the default one set again, gives the same loops.
    """
    for module in (asyncio, unix_events):
        for name in _NAMES:
            setattr(module, name, Loop)
    policy: Any = asyncio.DefaultEventLoopPolicy
    policy._loop_factory = Loop

    def get_event_loop(self: Any) -> asyncio.AbstractEventLoop:
        """The loop that was set last; the guest's own loop if that is closed or None, as after `asyncio.run`."""
        current: Any = getattr(self._local, "_loop", None)
        return loop if current is None or current.is_closed() else current

    policy.get_event_loop = get_event_loop
    asyncio.set_event_loop_policy(None)
