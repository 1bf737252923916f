"""The request handlers of one instance: which there are follows from the node's grants."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from cloche._requests import RequestRouter, ServiceHandler

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloche._files import FileHandler
    from cloche._requests import RequestHandler
    from cloche._sandbox.sinks import Sink
    from cloche._wasm import CallState
    from cloche.grants import Grants
    from cloche.limits import Limits
    from cloche.mounts import Mount
    from cloche.services import Service

__all__ = ["go_on_with", "quotas", "request_handlers"]


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


def quotas(host: CallState) -> bytes:
    """What the node of `host` has added to its mounts, for `go_on_with`; empty if that is nothing."""
    handler = _files_of(host)
    return b"" if handler is None else handler.quotas()


def go_on_with(quotas: bytes, host: CallState) -> None:
    """Count what a node has added to its mounts in an earlier sandbox as added in this one.

    Args:
        quotas: from `quotas`; they may be a stranger's.
        host: state of the node's calls.

    Raises:
        ClocheError: they are malformed.
    """
    handler = _files_of(host)
    if handler is not None:
        handler.go_on_with(quotas)


def _files_of(host: CallState) -> FileHandler | None:
    if not isinstance(host.router, RequestRouter):
        return None
    from cloche._files import FileHandler  # as in `request_handlers`

    return next((handler for handler in host.router.handlers if isinstance(handler, FileHandler)), None)
