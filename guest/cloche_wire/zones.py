"""Finds time zones by the keys that a peer sends, without letting the peer cause any number of searches on disk."""

from __future__ import annotations

import re
from datetime import tzinfo
from typing import Final

MAX_SEARCHES: Final = 64
"""Keys that are looked up on disk one by one. After that, keys are checked against a list of all zones, made once in some 50 ms."""

_KEY: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]{0,31}(/[A-Za-z0-9_+\-]{1,32}){0,3}")

_found: Final[dict[str, tzinfo | None]] = {}
_listed: frozenset[str] | None = None


def is_key(key: str) -> bool:
    """Whether a text can be the key of a time zone. Paths that leave the zones' folder and long texts are refused."""
    return len(key) <= 132 and _KEY.fullmatch(key) is not None


def find(key: str) -> tzinfo | None:
    """Find the time zone of a key; None if this machine does not know the zone.

    Results are cached here, because `zoneinfo` caches only eight zones and no failures: each unknown key would search the disk
    again.

    Raises:
        ValueError: the text cannot be the key of a time zone.
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
    except (KeyError, ValueError, OSError):  # no such zone, or the file is not a zone's
        zone = None
    _found[key] = zone
    return zone


def _all() -> frozenset[str]:
    """The keys of all zones of this machine."""
    global _listed
    if _listed is None:
        import zoneinfo

        _listed = frozenset(zoneinfo.available_timezones())
    return _listed
