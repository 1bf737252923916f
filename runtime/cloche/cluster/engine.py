"""What an engine of a cluster is to Cloche: hosts, which are processes on machines, and bundles, which are lists of values.

Ray, Dask and processes of this machine are engines. Each implements `Host`, and `cloche.cluster.Cluster`; nothing else differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from cloche.errors import ClocheError

__all__ = ["Bundle", "Host", "HostLost", "Pending"]

Bundle: TypeAlias = Any
"""A list of values, or what stands for one at an engine that keeps it elsewhere, such as a reference to an object store."""


class HostLost(ClocheError):
    """A host has died, or its machine cannot be reached. Nothing is known of what was under way there."""


class Pending(Protocol):
    """An answer that may not have come yet. A `concurrent.futures.Future` is one."""

    def done(self) -> bool:
        """Whether it has come."""

    def add_done_callback(self, function: Callable[[Any], object], /) -> None:
        """Have a function called with this object once the answer has come, on any thread; at once if it has."""

    def result(self) -> Any:
        """The answer, once it has come.

        Raises:
            HostLost: there will be none.
            Exception: the answer could not be sent.
        """


class Host(Protocol):
    """The driver's end of a host: a process that serves with a `cloche.cluster.Server`.

    Attributes:
        name: its name for people.
        machine: id of its machine, which it may share with other hosts.
        labels: names by which `NodeSpec.host` may ask for it: the machine's name, its address, what the engine calls it.
    """

    name: str
    machine: str
    labels: frozenset[str]

    def ask(self, verb: str, *arguments: Any) -> Pending:
        """Have `Server.do` called. The answer is what it returns.

        Raises:
            Exception: the arguments cannot be sent.
        """

    def call(self, head: Any, bundles: Sequence[Bundle]) -> tuple[Pending, Bundle]:
        """Have `Server.call` called, with the values of the bundles. Calls begin in the order in which they are made.

        Returns:
            what it returns: the answer, and the bundle of the outputs, which is there once the answer has come.

        Raises:
            Exception: the bundles cannot be sent.
        """
