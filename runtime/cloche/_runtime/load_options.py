"""`LoadOptions`: the options of a new node, checked in one place for `Runtime.load`, `restore`, `pool` and `LocalGuest`.

These functions spell out their keywords, so that editors, type checkers and ``help()`` show them with their defaults, and make one
`LoadOptions` of them. All further code passes that object along.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Self, TypedDict

from cloche._arguments import check_text, checked, checked_grants, checked_limits
from cloche._runtime.recovery import RecoveryPolicy
from cloche._sandbox import load_request
from cloche._wasm.clocks import clone_seed
from cloche.budget import Budget
from cloche.grants import Grants
from cloche.limits import Limits

if TYPE_CHECKING:
    from cloche._recording import Record
    from cloche._sandbox import CheckedSandbox, Recorder
    from cloche.source import Modules

__all__ = ["ELSEWHERE", "ELSEWHERE_FOR_POOL", "LoadOptions", "Origin", "PoolKeywords"]

ELSEWHERE: Final[Mapping[str, str]] = {
    **{name: f"it is a limit: give limits=cloche.Limits({name}=...)" for name in Limits.__dataclass_fields__},
    **{name: f"it is a grant: give grants=cloche.Grants({name}=...)" for name in Grants.__dataclass_fields__},
}
"""What to say about options that belong to `Limits` and `Grants`."""
ELSEWHERE_FOR_POOL: Final[Mapping[str, str]] = {
    **ELSEWHERE,
    **dict.fromkeys(("on_break", "checkpoint_every", "max_restarts"), "a pool always replaces a clone that breaks"),
}


class PoolKeywords(TypedDict, total=False):
    """Keywords that `Runtime.pool` passes on to `Runtime.load`. Those about breaks are missing: a pool replaces broken clones."""

    name: str | None
    limits: Limits | None
    grants: Grants | None
    session_id: str | None
    budget: Budget | None
    record: Record | str | os.PathLike[str] | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How to make one node. `Runtime.load` describes each field.

    Raises:
        TypeError: a value has the wrong class; the message names the argument.
    """

    entry: str | None = None
    params: Mapping[str, Any] | None = None
    name: str | None = None
    limits: Limits = field(default_factory=Limits)
    grants: Grants = field(default_factory=Grants)
    session_id: str | None = None
    policy: RecoveryPolicy = field(default_factory=RecoveryPolicy)
    budget: Budget | None = None
    record: Record | None = None
    recorder: Recorder | None = None
    """Of the node that is brought back after a break; None: of a new node."""
    is_own: bool = False
    """Whether Cloche makes the node for itself: it is not listed, counted or reported."""
    in_pool: bool = False
    """Whether the node is one of a pool's."""
    on_sandbox: Callable[[CheckedSandbox], None] | None = None
    """Called with each sandbox of the node before its first call, or after it was restored; see `Runtime.follow_loads`."""

    def __post_init__(self) -> None:
        checked_limits(self.limits)
        checked_grants(self.grants)
        if self.budget is not None:
            checked("budget", self.budget, Budget, "a cloche.Budget(...), or None")
        check_text("entry", self.entry, "the name of a class or function")
        check_text("name", self.name, "a name for logs and errors")

    @property
    def is_named(self) -> bool:
        """Whether the caller has named the node or its entry; otherwise the guest reports the name of its only entry."""
        return bool(self.name or self.entry)

    def label(self, fallback: str) -> str:
        """The node's name in logs and errors, before the guest has reported one; `fallback` if the caller gave no name."""
        return self.name or self.entry or fallback

    def request(self, modules: Modules, packages: Mapping[str, bytes], seed: bytes) -> dict[str, Any]:
        """The operand of the LOAD message for these options.

        Args:
            modules: the node's code.
            packages: name of each granted package -> a wheel, a zip or a tree.
            seed: 32 bytes that seed the guest's random generators.

        Raises:
            TypeError: `params` is not a mapping from names to values.
        """
        return load_request.operand(
            modules,
            self.grants,
            self.limits,
            packages,
            name=self.label(modules.main),
            entry=self.entry,
            params=self.params,
            session_id=self.session_id,
            seed=seed,
        )

    def of_clone(self, number: int) -> Self:
        """The options of a clone: the same, but with a seed derived from `Grants.seed`, so that clones draw different numbers.

        Args:
            number: number of the clone, from 1.
        """
        seed = self.grants.seed
        return self if seed is None else replace(self, grants=replace(self.grants, seed=clone_seed(seed, number)))


@dataclass(frozen=True, slots=True)
class Origin:
    """How `Runtime.load` has made a node, so that another one can take its place.

    Attributes:
        runtime: its `Runtime`, which imports this module.
        options: its options.
        seed: 32 bytes that seed the random generators inside the guest.
    """

    runtime: Any
    options: LoadOptions
    seed: bytes
