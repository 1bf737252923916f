"""The time zones of PyPI's tzdata. Frozen modules have no data files, so the build puts them all into one blob."""

from __future__ import annotations

import io
import zlib
from functools import lru_cache

from cloche_tzblob import COMPRESSED, ZONES  # generated: zone -> (offset, size) in the decompressed blob


@lru_cache(1)
def _blob() -> bytes:
    return zlib.decompress(COMPRESSED)


def load_tzdata(key: str) -> io.BytesIO:
    """As `zoneinfo._common.load_tzdata`, which the C ZoneInfo looks up at every miss."""
    from zoneinfo import ZoneInfoNotFoundError

    if key not in ZONES:
        raise ZoneInfoNotFoundError(f"No time zone found with key {key}")
    offset, size = ZONES[key]
    return io.BytesIO(_blob()[offset : offset + size])


def install() -> None:
    """Make `zoneinfo` find these zones; there is no file system to search."""
    import zoneinfo
    from zoneinfo import _common, _tzpath

    def available_timezones() -> set[str]:
        return set(ZONES)

    _common.load_tzdata = load_tzdata
    zoneinfo.available_timezones = _tzpath.available_timezones = available_timezones
