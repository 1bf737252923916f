"""What a caller asks for when a node is made: checked once, here, for `Runtime.load`, `restore` and `pool` and for `LocalGuest`.

Those spell out their keywords, so that editors, type checkers and ``help()`` show them with their defaults, and make one
`LoadOptions` of them. From there on nothing else is passed around.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self, TypedDict

from cloche._arguments import check_text, checked_grants, checked_limits
from cloche._runtime.recovery import RecoveryPolicy
from cloche._sandbox import load_request
from cloche._wasm.clocks import clone_seed
from cloche.grants import Grants
from cloche.limits import Limits

if TYPE_CHECKING:
    from cloche.source import Modules

__all__ = ["LoadOptions", "PoolKeywords"]


class PoolKeywords(TypedDict, total=False):
    """The keywords of `Runtime.load` that `Runtime.pool` passes on. Of the others a pool takes none: it replaces broken clones."""

    name: str | None
    limits: Limits | None
    grants: Grants | None
    session_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How to make one node. `Runtime.load` describes each field.

    Raises:
        TypeError: a value is of the wrong class; the message names the argument.
    """

    entry: str | None = None
    params: Mapping[str, Any] | None = None
    name: str | None = None
    limits: Limits = field(default_factory=Limits)
    grants: Grants = field(default_factory=Grants)
    session_id: str | None = None
    policy: RecoveryPolicy = field(default_factory=RecoveryPolicy)

    def __post_init__(self) -> None:
        checked_limits(self.limits)
        checked_grants(self.grants)
        check_text("entry", self.entry, "the name of a class or function")
        check_text("name", self.name, "a name for logs and errors")

    @property
    def is_named(self) -> bool:
        """Whether the caller has said what the node is called; otherwise the guest reports the name of its only entry."""
        return bool(self.name or self.entry)

    def label(self, fallback: str) -> str:
        """What to call the node in logs and errors, from the start; `fallback` if the caller has not said it."""
        return self.name or self.entry or fallback

    def request(self, modules: Modules, seed: bytes) -> dict[str, Any]:
        """What LOAD sends for these options.

        Args:
            modules: the node's code.
            seed: of the guest's random generators.

        Raises:
            FileNotFoundError: there is no such package.
            ClocheError: a package is too large, or is no package.
            TypeError: `params` is no mapping from names to values.
        """
        return load_request.operand(
            modules,
            self.grants,
            self.limits,
            name=self.label(modules.main),
            entry=self.entry,
            params=self.params,
            session_id=self.session_id,
            seed=seed,
        )

    def of_clone(self, number: int) -> Self:
        """The options of a clone: the same, but with a seed of its own if there is one, so that clones draw different numbers.

        Args:
            number: which clone it is, from 1.
        """
        seed = self.grants.seed
        return self if seed is None else replace(self, grants=replace(self.grants, seed=clone_seed(seed, number)))
