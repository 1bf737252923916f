"""What LOAD carries (docs/wire.md): a node's code, its parameters, and what it may use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloche._source import Modules
    from cloche.grants import Grants
    from cloche.limits import Limits

__all__ = ["operand"]


def operand(
    modules: Modules,
    grants: Grants,
    limits: Limits,
    *,
    name: str,
    entry: str | None,
    params: Mapping[str, Any] | None,
    session_id: str | None,
    seed: bytes,
) -> dict[str, Any]:
    """The map that LOAD sends. Reads the granted packages.

    Raises:
        FileNotFoundError: there is no such package.
        ClocheError: a package is too large or none.
    """
    return {
        "name": name,
        "modules": {key: list(value) for key, value in modules.files.items()},
        "data": modules.data,
        "main": modules.main,
        "entry": entry,
        "params": dict(params or {}),
        "session_id": session_id,
        "log_level": limits.log_level,
        "seed": seed,
        "limits": {
            "reply_bytes": limits.reply_bytes,
            "output_bytes": limits.output_bytes,
            "value_depth": limits.value_depth,
            "value_nodes": limits.value_nodes,
            "log_bytes": limits.log_bytes,
            "stack_depth": limits.stack_depth,
        },
        "packages": grants.archives(),
        "opaque": grants.opaque,
        "scratch_bytes": grants.scratch_bytes,
        **({"env": dict(grants.env)} if grants.env else {}),
    }
