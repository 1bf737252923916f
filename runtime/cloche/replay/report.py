"""`replay`: makes all calls of a recording again, and says whether all is the same, and where it is not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cloche._recording import Difference, Recording, changed_words
from cloche.replay.session import DEADLINE_S, Session

if TYPE_CHECKING:
    from cloche._runtime import Runtime
    from cloche.errors import ClocheError

__all__ = ["Report", "replay"]

_COMPARED: Final = {
    "results": ("result", "outcome"),
    "logs": ("logs",),
    "requests": ("request", "imports"),
}
"""What a report names -> kinds of `Difference`."""


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What a replay has come to. True if everything that could be compared is the same.

    Attributes:
        recording: the recording.
        calls: number of calls that were made.
        differences: all places where the replay parts from the recording, in order. After the first one the node is in another
            state, so the others may follow from it.
        memory: whether guest memory was equal to the byte after the last call; None: not comparable, because the node broke, or
            because a call was interrupted in the middle of its code.
        digest: digest of guest memory after the last call; "" if the node broke.
        error: the error in which the last call ended now; None: none.
        inexact: indexes of the calls that were interrupted in the middle of their code: only the kind of their end is compared.
        seconds: how long it took.
    """

    recording: Recording
    calls: int
    differences: tuple[Difference, ...]
    memory: bool | None
    digest: str
    error: ClocheError | None
    inexact: tuple[int, ...]
    seconds: float

    def __bool__(self) -> bool:
        return not self.differences

    def __str__(self) -> str:
        recorded = self.recording
        same = {True: "equal", False: "different", None: "not comparable"}
        found = {one.what for one in self.differences}
        lines = [
            f"{recorded.name}: {self.calls} of {len(recorded.calls)} calls replayed in {self.seconds:.2f} s",
            *(f"  {what}: {same[found.isdisjoint(kinds)]}" for what, kinds in _COMPARED.items()),
            f"  memory: {same[self.memory]}" + (f" ({self.digest[:16]})" if self.digest else ""),
        ]
        if self.inexact:
            count = len(self.inexact)
            lines.append(
                f"  interrupted in the middle of their code, so that only their end is compared: {count} calls"
            )
        if recorded.error:
            ended = type(self.error).__name__ if self.error is not None else "no error"
            lines.append(f"  the last call was recorded as {recorded.error}, and ended now with {ended}")
        lines += [f"  {difference}" for difference in self.differences[:20]]
        if len(self.differences) > 20:
            lines.append(f"  and {len(self.differences) - 20} more")
        return "\n".join(lines)


def replay(
    recording: Recording | str | os.PathLike[str],
    *,
    runtime: Runtime | None = None,
    deadline_s: float | None = DEADLINE_S,
    progress: Callable[[int, int], object] | None = None,
) -> Report:
    """Make all calls of a recording again, in a sandbox without grants, and compare.

    Args:
        recording: the recording, or the path of its file. It may be a stranger's.
        runtime: where it runs; None: a runtime of its own.
        deadline_s: seconds that each call may take; None: as long as it takes.
        progress: called after each call with the number of calls made, and of all calls.

    Raises:
        ImageError: the recording was made with another image.
        ClocheError: the file is no recording, is damaged, or cannot be replayed.
        OSError: the file cannot be read.
    """
    found = recording if isinstance(recording, Recording) else Recording.open(recording)
    began = time.monotonic()
    differences: list[Difference] = []
    error: ClocheError | None = None
    with Session(found, runtime=runtime, deadline_s=deadline_s) as session:
        while (step := session.step()) is not None:
            error = step.error
            differences += step.differences
            if progress is not None:
                progress(session.at, len(found.calls))
        made = session.at
        if made < len(found.calls) and not differences:
            call = found.calls[made]
            differences.append(Difference(made, call.number, "outcome", "", "a call", "the guest had broken before"))
        is_exact = all(call.is_exact for call in found.calls[:made])
        digest, memory = "", None
        if not session.sandbox.closed:
            now = session.run(lambda sandbox: sandbox.state_now())
            digest = now.memory_digest
            if found.after is not None and made == len(found.calls) and is_exact:
                memory = digest == found.digest
                if not memory:
                    number = found.calls[-1].number if found.calls else 0
                    places = changed_words(found.after, now)
                    differences.append(Difference(made - 1, number, "memory", places, found.digest[:16], digest[:16]))
    inexact = tuple(index for index, call in enumerate(found.calls) if not call.is_exact)
    return Report(found, made, tuple(differences), memory, digest, error, inexact, time.monotonic() - began)
