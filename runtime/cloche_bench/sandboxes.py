"""Nodes in Cloche: under each metering, in this process or in a worker process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from cloche.metering import DEFAULT_METERING, Metering
from cloche_bench import nodes
from cloche_bench.contender import Contender

if TYPE_CHECKING:
    from pathlib import Path

    from cloche.grants import Grants
    from cloche.limits import Limits

__all__ = ["ClocheContender", "main_sandbox"]

MEMORY_BYTES: Final = 1 << 30
DEADLINE_S: Final = 120.0


class ClocheContender(Contender):
    """Cloche under one metering.

    Args:
        metering: how the guest's time is bounded.
        tell: called with a line of text before something that takes more than a second.
        isolated: whether the nodes run in a worker process rather than in this one.
    """

    def __init__(
        self, metering: Metering, tell: Callable[[str], None] | None = None, *, isolated: bool = False
    ) -> None:
        super().__init__()
        from cloche import Limits, Runtime

        self.isolated = isolated
        self.id = "process" if isolated else metering
        self.label = f"cloche {self.id}"
        self.note = _PROCESS if isolated else _METERINGS.get(metering, "")
        self.runtime = Runtime(
            metering=metering,
            limits=Limits(deadline_s=DEADLINE_S, memory_bytes=MEMORY_BYTES),
            logger=_Discard(),
            isolation="process" if isolated else "none",
            progress=tell,
        )
        self._pools: list[Any] = []

    def _load(self, source: str, filename: str, entry: str, params: dict[str, Any]) -> Any:
        from cloche import Source

        return self.runtime.load(Source(source, filename), entry, params)

    def load_own(
        self, path: Path, entry: str | None, params: dict[str, Any], grants: Grants, limits: Limits | None
    ) -> Any:
        node = self.runtime.load(path, entry, params, grants=grants, limits=limits)
        self._nodes.append(node)
        return node

    def first_result(self, module: str, entry: str, value: Any) -> Callable[[], Any]:
        def run() -> Any:
            with self.load_once(module, entry) as node:
                return node.process(value)

        return run

    def pool(self, module: str, entry: str, workers: int) -> Callable[[list[Any]], list[Any]]:
        from cloche import Source

        made = self.runtime.pool(Source(nodes.text(module), f"{module}.py"), entry, size=workers)
        self._pools.append(made)
        return lambda jobs: list(made.map(jobs))

    def release(self) -> None:
        super().release()
        while self._pools:
            self._pools.pop().close()

    def close(self) -> None:
        super().close()
        self.runtime.close()


def main_sandbox(contenders: Iterable[Contender]) -> ClocheContender | None:
    """The sandbox that headlines, the timeline and a user's own node are about: in this process, and under the default metering if
    that takes part.
    """
    inside = [each for each in contenders if isinstance(each, ClocheContender) and not each.isolated]
    return next((each for each in inside if each.id == DEFAULT_METERING), inside[0] if inside else None)


_METERINGS: Final = {
    "epoch": "the deadline is checked in every loop and at every function entry",
    "guard": "the default on Linux on x86-64: at the deadline a page that every loop reads becomes inaccessible",
    "fuel": "every instruction is counted: deterministic, and the slowest",
    "none": "no deadline while the guest computes: for trusted code",
}


_PROCESS: Final = f'isolation="process": under {DEFAULT_METERING}, in a confined worker process'


class _Discard:
    """A logger that discards. The bench's nodes log nothing; what is timed includes the look whether they did."""

    def __getattr__(self, _level: str) -> Callable[..., None]:
        return lambda *_, **__: None
