"""Who answers what one node asks, by its grants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloche._asks import Desk
    from cloche.grants import Grants
    from cloche.limits import Limits

__all__ = ["desks"]


def desks(grants: Grants, limits: Limits, name: str, logger: Any) -> list[Desk]:
    """Made anew for each instance, because they keep its state; empty if nothing is granted that has to be asked for.

    Args:
        grants: the node's.
        limits: the node's.
        name: the node's, for logs.
        logger: where the host's own records of it go.
    """
    return []
