"""Guests that the build runs are gone when it is done with them."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from tests.image import modules


def test_a_dropped_guest_frees_its_store(abi: dict[str, Any]) -> None:
    """The build makes one for each module that it freezes; and a store that outlives Python's own end crashes there."""
    guest = modules.instantiate(modules.image(), abi)
    store = weakref.ref(guest.store)
    del guest
    gc.collect()
    assert store() is None
