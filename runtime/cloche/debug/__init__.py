"""A debugger for nodes: for editors (the Debug Adapter Protocol) and for a terminal. `Node.debug` and ``cloche debug`` open it."""

from cloche.debug._events import GuestError
from cloche.debug._open import Debugging, opened

__all__ = ["Debugging", "GuestError", "opened"]
