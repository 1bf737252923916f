"""Who answers what one node asks, by its grants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from cloche._requests.service_handler import ServiceHandler
from cloche._sandbox.logs import DefaultLogger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloche._requests.router import RequestHandler
    from cloche._wasm.call_state import CallState
    from cloche.grants import Grants
    from cloche.limits import Limits
    from cloche.mounts import Mount
    from cloche.services import Service

__all__ = ["request_handlers"]


def request_handlers(grants: Grants, limits: Limits, host: CallState, logger: Any) -> list[RequestHandler]:
    """Made anew for each instance, because they keep its state; empty if nothing is granted that has to be asked for.

    Args:
        grants: the node's.
        limits: the node's.
        host: the outside as the node sees it.
        logger: where the host's own records of it go.

    Raises:
        OSError: a mounted folder does not exist, or is none.
    """
    found: list[RequestHandler] = []
    if grants.services:
        services = cast("Mapping[str, Service]", grants.services)  # Grants has made them so
        # the default logger shows every level: a record of each call would be more than anybody asked for
        logged = 0 if isinstance(logger, DefaultLogger) else limits.log_records
        found.append(ServiceHandler(services, host, logger, logged))
    if grants.mounts:
        from cloche._files.handler import FileHandler  # only who mounts pays for its import

        mounts = cast("Mapping[str, Mount]", grants.mounts)  # so has it these
        found.append(FileHandler(mounts, limits))  # the last one: it opens files, and there is nobody yet to close them
    return found
