"""How a guest's time is bounded while it computes: ``Runtime(metering=...)``."""

from __future__ import annotations

import os
import sys
from typing import Final, Literal

__all__ = ["DEFAULT_METERING", "Metering"]

Metering = Literal["epoch", "guard", "fuel", "none"]
"""What stops a guest that computes for too long.

- "guard": at the deadline the host makes one page of the guest's memory inaccessible, which the compiled code reads in every loop;
  the fastest code that can be stopped, on Linux.
- "epoch": compiled code compares a counter in every loop and at every function's entry; on every platform.
- "fuel": compiled code counts instructions, so the same call always ends at the same place; the slowest. A guest that computes
  is not stopped at its deadline.
- "none": no checks at all: a guest that computes is never stopped. For code that you trust.

A guest that sleeps is woken at its deadline under each of them.
"""

DEFAULT_METERING: Final[Metering] = "guard" if sys.platform == "linux" and os.uname().machine == "x86_64" else "epoch"
"""What `Runtime` uses unless told otherwise: "guard" on Linux on x86-64, where it is tested the most, "epoch" elsewhere."""
