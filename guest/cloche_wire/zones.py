"""Time zones by the keys that a peer sends. A process searches its disk for a bounded number of unknown keys, then never again."""

from __future__ import annotations

import re
from datetime import tzinfo
from typing import Final

MAX_SEARCHES: Final = 64
"""Keys looked for on disk one by one. From then on a list of all zones decides, which takes some 50 ms to make, once."""

_KEY: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]{0,31}(/[A-Za-z0-9_+\-]{1,32}){0,3}")

_found: Final[dict[str, tzinfo | None]] = {}
_listed: frozenset[str] | None = None


def is_key(key: str) -> bool:
    """Whether it can be the key of a time zone: no path out of the zones' folder is one, and nothing is that is long."""
    return len(key) <= 132 and _KEY.fullmatch(key) is not None


def find(key: str) -> tzinfo | None:
    """The time zone; None if this machine does not know it.

    `zoneinfo` keeps eight zones and no failures: without this memory each unknown key would search the disk anew.

    Raises:
        ValueError: it is not the key of a time zone.
    """
    zone = _found.get(key)
    if zone is not None or key in _found:
        return zone
    if not is_key(key):
        raise ValueError("not a time zone's key")
    if len(_found) >= MAX_SEARCHES and key not in _all():
        return None
    from zoneinfo import ZoneInfo

    try:
        zone = ZoneInfo(key)
    except (KeyError, ValueError, OSError):  # no such zone, or a file of another kind at its place
        zone = None
    _found[key] = zone
    return zone


def _all() -> frozenset[str]:
    global _listed
    if _listed is None:
        import zoneinfo

        _listed = frozenset(zoneinfo.available_timezones())
    return _listed
