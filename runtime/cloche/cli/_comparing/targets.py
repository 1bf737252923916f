"""`Target`: a node that is checked. Nodes are found in files, packages and pipelines without running their code in this process."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cloche.source as sources
from cloche import Grants, Runtime
from cloche.cli._console import InputError
from cloche.errors import ClocheError
from cloche.texts import clean, name

if TYPE_CHECKING:
    from cloche import Limits
    from cloche.cli._options import NodeOptions

__all__ = ["Target", "in_manifest", "in_source"]

_LONG: Final = 200
_MOST_NODES: Final = 200
_MOST_PARAMETERS: Final = 50
_MOST_TYPES: Final = 5000
"""Of all parameters of a node, with the types in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A node.

    Attributes:
        label: what the report calls it.
        path: its file or folder, or the dotted name of its module; "" if its code is not known.
        entry: its class or function; None: the only one.
        params: keyword arguments of its ``__init__``.
        grants: what it may use.
        items: types of the values that it takes, as `describe` names them.
        spread: whether it takes several arguments.
        needs: types of the parameters of ``__init__`` without a default.
        numeric: whether its module uses numpy.
        problem: why it cannot be tried at all; "" if it can.
        limits: of its sandbox; None: those of the command.
        origin: where its code is from, if `path` is a copy of it.
    """

    label: str
    path: str
    entry: str | None
    params: dict[str, Any]
    grants: Grants
    items: tuple[Any, ...] = ({"kind": "any"},)
    spread: bool = False
    needs: dict[str, Any] = field(default_factory=dict)
    numeric: bool = False
    problem: str = ""
    limits: Limits | None = None
    origin: str = ""


def with_own(path: str, grants: Grants) -> Grants:
    """The grants, and a package folder as one more, so that each of its modules can be imported."""
    folder = Path(path)
    if not folder.is_dir() or folder.resolve().name in {Path(one).resolve().name for one in grants.packages}:
        return grants
    return replace(grants, packages=(*grants.packages, folder.resolve()))


def in_source(node: NodeOptions, runtime: Runtime, limits: Limits) -> list[Target]:
    """The nodes of a file or a package, or the one that is named.

    Args:
        node: file or package, parameters and grants; if it names an entry, this one alone is returned.
        runtime: makes the sandbox in which the code is imported.
        limits: of the sandbox.
    """
    entries = [] if node.entry is None else [node.entry]
    listed = _listed(node.path, entries, node.grants, runtime, limits)
    return list(_found(node.path, node.entry, node.params, node.grants, listed))


def in_manifest(path: str, node: NodeOptions, runtime: Runtime, limits: Limits, copies: Path) -> list[Target]:
    """The nodes of a pipeline.

    Args:
        path: the manifest.
        node: parameters that all of them get, and what they may use.
        runtime: as for `in_source`.
        limits: likewise; what the manifest says of a node comes first.
        copies: folder for the text of nodes that are classes of installed packages. It has to stay as long as the targets are used.

    Raises:
        ClocheError: the manifest is malformed.
    """
    try:
        from cloche.pipeline import manifest
        from cloche.pipeline.registry import Registry
    except ImportError as error:
        raise InputError(f"a pipeline needs {error.name}: pip install 'cloche[pipeline]'") from None
    found: list[Target] = []
    for one in manifest.load(path).nodes:
        entry, params, origin = one.entry, one.params, ""
        if one.source is not None:
            file, entry = str(Path(path).parent / one.source), entry or one.node_type
        else:
            try:
                kind = Registry().find(one.node_type)
                file, own, origin = _copied(kind.source, copies / f"{one.id}.py")
            except (ClocheError, TypeError) as error:
                found.append(
                    Target(
                        label=one.id,
                        path="",
                        entry=None,
                        params={},
                        grants=node.grants,
                        problem=clean(str(error), _LONG),
                    )
                )
                continue
            entry, params = entry or kind.entry or own, {**(kind.params or {}), **params}
        listed = _listed(file, [] if entry is None else [entry], node.grants, runtime, limits)
        made = next(_found(file, entry, {**node.params, **params}, node.grants, listed))
        given = None if one.limits is None else replace(limits, **(one.limits.model_extra or {}))
        found.append(replace(made, label=one.id, limits=given, origin=origin))
    return found


def _copied(source: Any, file: Path) -> tuple[str, str | None, str]:
    """The path of a node's code, the entry in it if that is clear, and where the code is from if `file` is now a copy of it.

    Raises:
        ClocheError, TypeError: its text cannot be read.
    """
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source), None, ""
    text = source if isinstance(source, sources.Source) else sources.Source.of(source)
    file.write_text(text.text, "utf-8")
    own = None if source is text else source.__name__
    return str(file), own, text.filename if source is text else f"{source.__module__}.{source.__qualname__}"


def _listed(path: str, entries: list[str], grants: Grants, runtime: Runtime, limits: Limits) -> list[dict[str, Any]]:
    """What `describe` says of a source; nothing if it cannot be imported, which loading it will say."""
    modules = sources.read(path, packages=bool(grants.packages))
    is_folder = not modules.files or any(package for _, _, package in modules.files.values())
    file, text, _ = modules.files.get(modules.main, ("", "", False))
    try:
        with runtime.load(
            Path(__file__).with_name("describe.py"),
            "describe",
            name="describe",
            limits=limits,
            grants=with_own(path, grants),
        ) as node:
            answer = node.process(modules.main, None if is_folder else text, file, entries)
    except ClocheError:
        return []
    return [one for one in answer[:_MOST_NODES] if _is_sound(one)] if isinstance(answer, list) else []


def _is_sound(one: Any) -> bool:
    """Whether it can be what `describe` returns: the code that it has imported may have tampered with it."""
    match one:
        case {
            "module": str(module), "entry": str(entry), "items": list(items), "spread": bool(), "needs": dict(needs),
            "numpy": bool(),
        }:  # fmt: skip
            parts = module.split(".")
            return (
                all(part.isidentifier() for part in parts)
                and entry.isidentifier()
                and len(module) + len(entry) < _LONG
                and len(items) + len(needs) < _MOST_PARAMETERS
                and all(isinstance(key, str) and key.isidentifier() and len(key) < _LONG for key in needs)
                and _size([items, needs]) < _MOST_TYPES
            )
    return False


def _size(value: Any) -> int:
    """How many containers and values it has in it."""
    count, todo = 0, [value]
    while todo and count < _MOST_TYPES:
        one = todo.pop()
        count += 1
        todo += one if isinstance(one, list) else [*one.values()] if isinstance(one, dict) else []
    return count


def _found(
    path: str, entry: str | None, params: dict[str, Any], grants: Grants, listed: Iterable[dict[str, Any]]
) -> Iterator[Target]:
    everything = list(listed)
    shown = name(Path(path).name)
    main = Path(path).resolve().name if Path(path).is_dir() else Path(path).stem if path.endswith(".py") else path
    chosen = [one for one in everything if entry is None or (one["entry"] == entry and _is_main(one, main, path))]
    if entry is not None or not chosen:
        label = shown if entry is None else f"{shown}:{name(entry)}"
        yield _target(label, path, entry, params, grants, chosen[0] if chosen else None)
        return
    for one in chosen:
        if _is_main(one, main, path):
            yield _target(f"{shown}:{one['entry']}", path, one["entry"], params, grants, one)
        else:
            label = f"{one['module']}:{one['entry']}"
            yield _target(label, one["module"], one["entry"], params, with_own(path, grants), one)


def _is_main(one: dict[str, Any], main: str, path: str) -> bool:
    return bool(one["module"] == main) or path.endswith(".py")


def _target(
    label: str, path: str, entry: str | None, params: dict[str, Any], grants: Grants, one: dict[str, Any] | None
) -> Target:
    if one is None:
        return Target(label=clean(label, _LONG), path=path, entry=entry, params=params, grants=grants)
    needs = {key: kind for key, kind in one["needs"].items() if key not in params}
    return Target(
        label=clean(label, _LONG), path=path, entry=entry, params=params, grants=grants, items=tuple(one["items"]),
        spread=one["spread"], needs=needs, numeric=one["numpy"],
    )  # fmt: skip
