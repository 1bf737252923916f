"""What processes of this user say of their nodes: those that were asked to (``Runtime(inspectable=True)``). For ``cloche top``."""

from __future__ import annotations

from cloche._runtime.inspecting import VERSION, ask, processes

__all__ = ["VERSION", "ask", "processes"]
