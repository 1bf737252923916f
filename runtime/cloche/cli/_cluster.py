"""``--on``: the cluster on which ``cloche run`` runs a pipeline."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal

import typer

from cloche.cli._console import InputError, say

if TYPE_CHECKING:
    from cloche.cluster import Cluster

__all__ = ["FORMS", "Chosen", "chosen", "opened"]

FORMS: Final = "local-cluster[:N], dask[://HOST:PORT], ray[://HOST:PORT]"
_LOCAL: Final = re.compile(r"local-cluster(?::([1-9][0-9]{0,3}))?")
_AT: Final = re.compile(r"(dask|ray)(?:://(\[[0-9a-fA-F:.]+\]|[^\s\[\]:/]+):([0-9]{1,5}))?")
_SLOW_S: Final = 1.0
"""Seconds after which somebody who waits is told for what."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A cluster, as ``--on`` names it.

    Attributes:
        kind: the engine.
        address: HOST:PORT; None: the engine's usual way to find one.
        hosts: how many processes a local cluster has; None: one for each core.
    """

    kind: Literal["local-cluster", "dask", "ray"]
    address: str | None = None
    hosts: int | None = None


def chosen(text: str | None) -> Chosen | None:
    """What ``--on`` names.

    Raises:
        typer.BadParameter: it has none of the forms.
    """
    if text is None:
        return None
    if found := _LOCAL.fullmatch(text):
        return Chosen("local-cluster", hosts=None if found[1] is None else int(found[1]))
    if found := _AT.fullmatch(text):
        if found[3] is not None and not 0 < int(found[3]) < 1 << 16:
            raise typer.BadParameter(f"{found[3]} is no port: give one from 1 to 65535", param_hint="--on")
        return Chosen("ray" if found[1] == "ray" else "dask", None if found[2] is None else f"{found[2]}:{found[3]}")
    raise typer.BadParameter(f"{text!r} is no cluster: give one of {FORMS}", param_hint="--on")


def _made(on: Chosen) -> Cluster:
    if on.kind == "local-cluster":
        from cloche.cluster import LocalCluster

        return LocalCluster(on.hosts)
    try:
        engine: Any = import_module(f"cloche.{on.kind}")
    except ImportError as error:
        raise InputError(f"--on {on.kind}: {error}") from error
    if on.kind == "dask":
        made: Cluster = engine.Cluster(None if on.address is None else f"tcp://{on.address}")
    else:
        made = engine.Cluster(on.address or "auto")
    return made


@contextmanager
def opened(on: Chosen) -> Iterator[Cluster]:
    """The cluster, with its hosts started; closed with the block. If they take more than a second, stderr says so.

    Raises:
        ClocheError: it cannot be reached, or what it needs is not installed.
    """
    with _made(on) as cluster:
        waiting = threading.Timer(_SLOW_S, say, [f"starting the hosts of the cluster ({on.kind}) ..."])
        waiting.daemon = True
        waiting.start()
        try:
            cluster.open()
        finally:
            waiting.cancel()
        yield cluster
