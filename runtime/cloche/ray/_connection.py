"""`Connection`: the driver's connection to a Ray cluster."""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import suppress
from typing import Final

import ray

from cloche.errors import ClocheError
from cloche.texts import line

__all__ = ["Connection"]

_CONNECT_S: Final = 10.0
"""Seconds that a Ray cluster may take to accept a connection. `ray.init` would try for three minutes."""
_CLIENT: Final = (
    "a connection of Ray's client (ray://) does not tell when a machine is lost: run the driver on a machine of the cluster, with "
    'Cluster("auto") or the address "host:6379" of its head'
)


class Connection:
    """The connection to Ray: the one that there is, or one that is made, and ended when no `Cluster` has it any more.

    Args:
        address: as for `Cluster`.

    Raises:
        ClocheError: there is no such cluster, or the connection is one to another cluster.
    """

    _lock: Final = threading.Lock()
    _made_for = 0
    """Clusters that have the connection that was made here."""

    def __init__(self, address: str | None) -> None:
        if address is not None and "://" in address:
            raise ClocheError(_CLIENT)
        with Connection._lock:
            if not ray.is_initialized():
                _connect(address)
                self._is_ours = True
            else:
                _check_connected(address)
                self._is_ours = Connection._made_for > 0
            Connection._made_for += self._is_ours

    def close(self) -> None:
        """Give it up."""
        with Connection._lock:
            if not self._is_ours:
                return
            self._is_ours = False
            Connection._made_for -= 1
            if not Connection._made_for:
                ray.shutdown()


def _connect(address: str | None) -> None:
    if address is not None and ":" in address:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
        except (OSError, ValueError) as error:
            raise ClocheError(
                f"there is no Ray cluster at {address} ({error}): give the address of its head, with the port of `ray start --head`"
            ) from error
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except Exception as error:
        raise ClocheError(f"no connection to Ray: {line(str(error), 500)}") from error


def _check_connected(address: str | None) -> None:
    if ray.util.client.ray.is_connected():
        raise ClocheError(_CLIENT)
    there = ray.get_runtime_context().gcs_address
    if address is not None and ":" in address and _resolved(address) != _resolved(there):
        raise ClocheError(
            f"Ray is connected to {there} already, and not to {address}: leave the address out, or call ray.shutdown()"
        )


def _resolved(address: str) -> tuple[str, str]:
    host, _, port = address.rpartition(":")
    with suppress(OSError):
        host = socket.gethostbyname(host)
    return "here" if host.startswith("127.") or host == ray.util.get_node_ip_address() else host, port
