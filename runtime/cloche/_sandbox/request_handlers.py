"""The request handlers of one instance: which there are follows from the node's grants."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from cloche._requests import ServiceHandler

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloche._requests import RequestHandler
    from cloche._sandbox.sinks import Sink
    from cloche._wasm import CallState
    from cloche.grants import Grants
    from cloche.limits import Limits
    from cloche.mounts import Mount
    from cloche.services import Service

__all__ = ["request_handlers"]


def request_handlers(grants: Grants, limits: Limits, host: CallState, logger: Sink) -> list[RequestHandler]:
    """New request handlers for one instance, whose state they keep; empty if the grants have neither services nor mounts.

    Args:
        grants: the node's.
        limits: the node's.
        host: state of the call under way: handlers end their waits by its deadline.
        logger: takes the host's own records, of failed and (at debug level) of all service calls.

    Raises:
        OSError: a mounted folder does not exist, or is not a folder.
    """
    found: list[RequestHandler] = []
    if grants.services:
        services = cast("Mapping[str, Service]", grants.services)  # Grants.__post_init__ has converted them
        # the default logger shows every level, and would print a line for each service call
        logged = 0 if logger.is_default else limits.log_records
        found.append(ServiceHandler(services, host, logger, logged))
    if grants.mounts:
        from cloche._files import FileHandler  # takes milliseconds to import: only nodes with mounts need it

        mounts = cast("Mapping[str, Mount]", grants.mounts)  # converted as well
        # must be last: it opens descriptors, which leak if a later constructor raises
        found.append(FileHandler(mounts, limits))
    return found
