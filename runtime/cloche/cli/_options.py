"""Parses the values of options. An invalid value raises `typer.BadParameter`, which is shown as a usage error."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import typer
from typer.core import TyperCommand, TyperOption

if TYPE_CHECKING:
    from cloche.clock import Clock
    from cloche.grants import Grants
    from cloche.limits import Limits
    from cloche.mounts import Mount
    from cloche.pipeline import Place

__all__ = [
    "Address",
    "Command",
    "NodeOptions",
    "address",
    "given",
    "grants",
    "level",
    "limits",
    "method",
    "node",
    "params",
    "places",
    "refuse",
    "size",
]

V = TypeVar("V")
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SIZE = re.compile(r"([0-9]+)(?:([kmg])(?:ib)?)?", re.IGNORECASE)


class Command(TyperCommand):
    """A command whose options of one value are given once: of two, one would be ignored."""

    def parse_args(
        self, ctx: Any, args: list[str]
    ) -> list[str]:  # the types are those of click, which Typer may bring itself
        """Read the command line.

        Raises:
            typer.BadParameter: an option is there twice.
        """
        if not ctx.resilient_parsing:  # completion
            _, _, found = self.make_parser(ctx).parse_args(args=list(args))
            seen: set[str | None] = set()
            for option in found:
                if isinstance(option, TyperOption) and not option.multiple and not option.is_flag:
                    if option.name in seen:
                        raise typer.BadParameter(f"{option.opts[0]} is given twice", ctx)
                    seen.add(option.name)
        return super().parse_args(ctx, args)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """The node that a command is about: its code, its parameters, and what it is granted."""

    path: str
    entry: str | None
    params: dict[str, Any]
    grants: Grants


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens.

    Attributes:
        host: a name or an address.
        port: 0: one that is free.
    """

    host: str
    port: int


def address(text: str | None, option: str = "--serve") -> Address | None:
    """``[HOST:]PORT``; without HOST the loopback's address, so that nobody elsewhere can connect."""
    if text is None:
        return None
    host, colon, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 1 << 16) or (colon and not host):
        raise typer.BadParameter(f"{text!r} is not PORT or HOST:PORT, with a port from 0 to 65535", param_hint=option)
    return Address(host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port))


def given(context: typer.Context) -> frozenset[str]:
    """Names of the parameters that are on the command line, rather than at their defaults."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return frozenset(name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE")


def refuse(context: typer.Context, names: Iterable[str], why: str) -> None:
    """Refuse options that would have no effect: whoever gives one expects something of it.

    Args:
        context: of the command.
        names: of its parameters.
        why: what the options are for; completes the sentence that begins with the option.

    Raises:
        typer.BadParameter: one of them is on the command line.
    """
    found = given(context).intersection(names)
    for parameter in context.command.params:
        if parameter.name in found:
            raise typer.BadParameter(f"{parameter.opts[0]} {why}")


def node(text: str) -> tuple[str, str | None]:
    """``path[:Entry]`` as path and entry."""
    path, colon, entry = text.rpartition(":")
    if colon and entry.isidentifier() and path:
        return path, entry
    if colon and path.endswith(".py"):
        raise typer.BadParameter(f"{entry!r} is no name of a class or function", param_hint="NODES.py:Entry")
    return text, None


def method(text: str | None) -> str | None:
    """The name of a public method; None if none was given."""
    if text is not None and (not text.isidentifier() or text.startswith("_")):
        raise typer.BadParameter(f"{text!r} is no name of a method without a leading underscore", param_hint="--method")
    return text


def params(items: Iterable[str]) -> dict[str, Any]:
    """``KEY=JSON`` pairs as a dict. A value that is no JSON is an error, so that a typo does not become a string."""
    result: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key.isidentifier():
            raise typer.BadParameter(f"{item!r} is not KEY=JSON", param_hint="--param")
        if key in result:
            raise typer.BadParameter(f"{key} is given twice", param_hint="--param")
        try:
            result[key] = json.loads(value)
        except ValueError as error:
            raise typer.BadParameter(
                f"the value of {key} is not JSON ({error}); a string needs quotes: --param '{key}=\"{value}\"'",
                param_hint="--param",
            ) from None
    return result


def places(names: Iterable[str]) -> tuple[Place, ...]:
    """Places of nodes."""
    from cloche.pipeline import Place

    known = get_args(Place)
    for one in names:
        if one not in known:
            raise typer.BadParameter(f"{one!r} is no place: give one of {', '.join(known)}", param_hint="--fallback")
    return tuple(names)  # type: ignore[arg-type]  # each is one


def size(text: str, option: str = "--memory") -> int:
    """A number of bytes: ``512M``, ``16MiB``, ``1g``, ``65536``."""
    number = _SIZE.fullmatch(text)
    if number is None:
        raise typer.BadParameter(
            f"{text!r} is no size: give a number of bytes, or one with K, M or G", param_hint=option
        )
    return int(number[1]) * _UNITS.get((number[2] or "").lower(), 1)


def grants(
    packages: Iterable[str],
    mounts: Iterable[str] = (),
    scratch: str | None = None,
    *,
    env: Iterable[str] = (),
    clock: str = "real",
    seed: int | None = None,
) -> Grants:
    """The grants that the options stand for.

    Args:
        packages: paths.
        mounts: ``HOST:GUEST`` or ``HOST:GUEST:rw`` each.
        scratch: a size; None: the usual one.
        env: ``NAME=VALUE`` each.
        clock: a mode, or a mode, ``@`` and the ISO date and time at which the clock starts.
        seed: of all randomness.
    """
    from cloche.grants import Grants

    try:
        return Grants(
            packages=tuple(packages),
            mounts=_unique(map(_mount, mounts), "--mount"),
            scratch_bytes=None if scratch is None else size(scratch, "--scratch"),
            env=_unique(map(_variable, env), "--env"),
            clock=_clock(clock),
            seed=seed,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _unique(pairs: Iterable[tuple[str, V]], option: str) -> dict[str, V]:
    result: dict[str, V] = {}
    for name, value in pairs:
        if name in result:
            raise typer.BadParameter(f"{name} is given twice", param_hint=option)
        result[name] = value
    return result


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--env")
    return name, value


def _clock(text: str) -> Clock:
    from datetime import UTC, datetime

    from cloche.clock import Clock

    mode, at, start = text.partition("@")
    try:
        began = datetime.fromisoformat(start) if at else None
        return Clock(mode, start=began if began is None or began.tzinfo else began.replace(tzinfo=UTC))  # type: ignore[arg-type]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--clock") from None


def _mount(text: str) -> tuple[str, Mount]:
    from cloche.mounts import Mount

    place, _, mode = text.rpartition(":")
    if mode not in ("ro", "rw"):
        place, mode = text, "ro"
    folder, colon, point = place.rpartition(":")
    if not colon or not folder or not point.startswith("/"):
        raise typer.BadParameter(
            f"{text!r} is not HOST:GUEST or HOST:GUEST:rw, where GUEST is an absolute path in the node, such as models:/models",
            param_hint="--mount",
        )
    return point, Mount(folder, writable=mode == "rw")


def level(text: str) -> int:
    """A level of log records as `logging` numbers it."""
    return logging.getLevelNamesMapping()[text.upper()]


def limits(deadline: str, memory: str, fuel: int | None, log_level: str) -> Limits:
    """The limits that the options set; the other limits have their defaults."""
    from cloche.limits import Limits

    try:
        deadline_s = None if deadline == "none" else float(deadline)
    except ValueError:
        raise typer.BadParameter(f"{deadline!r} is neither seconds nor none", param_hint="--deadline") from None
    try:
        return Limits(deadline_s=deadline_s, memory_bytes=size(memory), fuel=fuel, log_level=level(log_level))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
