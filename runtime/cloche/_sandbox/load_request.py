"""The operand of LOAD (docs/reference/wire.md): a node's code, parameters and grants; and the guest's answer to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from cloche._arguments import checked_params
from cloche.mounts import checked_scratch
from cloche.texts import name as cleaned

if TYPE_CHECKING:
    from cloche.grants import Grants
    from cloche.limits import Limits
    from cloche.source import Modules

__all__ = ["MAX_METHODS", "operand", "read_info"]

MAX_METHODS: Final = 64
"""Method names accepted from a guest, which reports the known methods (a dozen) that its entry has."""


def operand(
    modules: Modules,
    grants: Grants,
    limits: Limits,
    packages: Mapping[str, bytes],
    *,
    name: str,
    entry: str | None,
    params: Mapping[str, Any] | None,
    session_id: str | None,
    seed: bytes,
) -> dict[str, Any]:
    """The operand of LOAD.

    Raises:
        TypeError: `params` is not a mapping with text keys.
    """
    scratch = checked_scratch(grants.scratch_bytes, grants.mounts)
    return {
        "name": name,
        "modules": {} if modules.folder else {key: [file, text] for key, (file, text, _) in modules.files.items()},
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
        "packages": dict(packages),
        "opaque": grants.opaque,
        **({} if scratch is None else {"scratch_bytes": scratch}),
        **({"tree": modules.folder} if modules.folder else {}),
        **({"env": dict(grants.env)} if grants.env else {}),
    }


def read_info(value: Any) -> dict[str, Any] | None:
    """The guest's description of its entry (`Node.info`), with texts cleaned and cut; None if the value is malformed.

    Args:
        value: untrusted: the answer to LOAD, or its copy in a snapshot.
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
