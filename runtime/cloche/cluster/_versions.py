"""`check_versions`: whether a host has the same versions as the driver: they send each other pickles, which differ otherwise."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

from cloche._recording.recorder import version
from cloche.errors import ClocheError

__all__ = ["check_versions"]


def check_versions(host: str, theirs: Mapping[str, Any]) -> None:
    """Check what a host has answered to "hello". Whether the images are the same is seen when a node is sent there.

    Args:
        host: its name.
        theirs: the answer.

    Raises:
        ClocheError: its version of Cloche or Python is another one than here.
    """
    ours = version()
    if theirs["cloche"] != ours:
        raise ClocheError(
            f"the host {host} has Cloche {theirs['cloche']}, and this process has {ours}: install the same version in both "
            "places"
        )
    if _minor(theirs["python"]) != _minor(platform.python_version()):
        raise ClocheError(
            f"the host {host} runs on Python {theirs['python']}, and this process on {platform.python_version()}: nodes and items "
            "need the same Python, such as 3.12, in both places"
        )


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
