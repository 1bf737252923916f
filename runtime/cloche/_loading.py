"""What LOAD carries (docs/reference/wire.md): a node's code, its parameters, and what it may use; and what the guest answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from cloche._arguments import checked_params
from cloche._texts import name as cleaned

if TYPE_CHECKING:
    from cloche._source import Modules
    from cloche.grants import Grants
    from cloche.limits import Limits

__all__ = ["MAX_METHODS", "operand", "read_info"]

MAX_METHODS: Final = 64
"""Methods that a guest may name: it tells which of the dozen known ones its entry has."""


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
        TypeError: `params` are no keyword arguments.
    """
    return {
        "name": name,
        "modules": {key: list(value) for key, value in modules.files.items()},
        "data": modules.data,
        "main": modules.main,
        "entry": entry,
        "params": checked_params(params),
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


def read_info(value: Any) -> dict[str, Any] | None:
    """What a guest says of its entry (`Node.info`), its texts cleaned and cut; None if it is something else.

    Args:
        value: untrusted: the answer to LOAD, or what a snapshot carries of it.
    """
    match value:
        case {
            "entry": str(entry),
            "kind": ("class" | "function") as kind,
            "is_streaming": bool(streaming),
            "is_source": bool(source),
            "is_sink": bool(sink),
            "methods": list(methods),
        } if len(methods) <= MAX_METHODS and all(isinstance(method, str) for method in methods):
            return {
                "entry": cleaned(entry),
                "kind": kind,
                "is_streaming": streaming,
                "is_source": source,
                "is_sink": sink,
                "methods": list(map(cleaned, methods)),
            }
        case _:
            return None
