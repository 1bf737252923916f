"""Limits of nodes whose tests are not about time: no outcome depends on how fast the machine is."""

from __future__ import annotations

from typing import Any

from cloche import Limits

__all__ = ["DEADLINE_S", "patient"]

DEADLINE_S = 120.0
"""A hang still ends, by this or by pytest's own timeout; a machine under load never gets here."""


def patient(**fields: Any) -> Limits:
    """Those limits, and time enough for each call and each load."""
    return Limits(**{"deadline_s": DEADLINE_S, "load_s": DEADLINE_S, **fields})
