"""What a task is: a function of its own, whose source runs natively and in a node."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["TASKS", "Task", "package"]


@dataclass(frozen=True, slots=True)
class Task:
    """A package and what is tried with it.

    Attributes:
        package: its name in the index.
        source: a module with the task's function, named `process`; it takes an argument that it does not use.
        version: which versions, as pip writes them; "": the newest.
        reason: why not the newest version.
        needs: False: it needs nothing but numpy, which is in the image.
    """

    package: str
    source: str
    version: str = ""
    reason: str = ""
    needs: bool = True


TASKS: dict[str, Task] = {}
"""By the package's name. Filled when the modules `tasks_*` are imported."""


def package(
    name: str | None = None, *, version: str = "", reason: str = "", needs: bool = True
) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Register the decorated function as the task of a package. Without a name, it has the function's."""

    def register(function: Callable[[], Any]) -> Callable[[], Any]:
        lines = textwrap.dedent(inspect.getsource(function)).splitlines()
        start = next(number for number, line in enumerate(lines) if line.startswith("def "))
        body = "\n".join(lines[start:])
        source = f"{body}\n\ntask = {function.__name__}\ndef process(_): return task()\n"
        found = Task(name or function.__name__, source, version, reason, needs)
        assert TASKS.setdefault(found.package, found) is found, f"two tasks for {found.package}"
        return function

    return register
