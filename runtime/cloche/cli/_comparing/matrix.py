"""Makes the matrix: runs each node on both sides, with the same inputs and seeds, and compares what it does there."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from cloche.cli._comparing import inputs, rows
from cloche.cli._comparing.life import MOST_STREAMED, Life, LoadedSide, Outcome, Way, lived
from cloche.cli._comparing.native import Native
from cloche.cli._comparing.rows import Cost, Difference, Row
from cloche.cli._comparing.values import Found, Unstable, compare, shown, where
from cloche.clock import Clock

if TYPE_CHECKING:
    from cloche import Grants, Limits, Node, Runtime, Snapshot
    from cloche.cli._comparing.targets import Target
    from cloche.clock import Mode

__all__ = ["MOST_GIVEN", "Settings", "Silent", "row"]

MOST_GIVEN: Final = 200
"""Items of an input that are compared."""
_BUDGET_S: Final = 10.0
"""Seconds in which one side takes inputs: after that, no further one is begun."""
_SLOW_S: Final = 2.0
_MADE_UP_S: Final = 10.0
"""Seconds that a native call may take with an input that was made up."""
_TIMED_S: Final = 0.1
_TIMED: Final = 8
_DROPS: Final = 3
_SHRINK_S: Final = 5.0
_SHRINK_TRIES: Final = 200
_SEED: Final = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How nodes are compared: options of ``cloche check``.

    Attributes:
        native: whether they run natively as well, with all rights of this user.
        items: what they are called with; None: inputs are made up.
        examples: how many are made up.
        limits: of the sandboxes.
    """

    native: bool
    items: Sequence[Any] | None
    examples: int
    limits: Limits


class Silent:
    """A logger for sandboxes whose records are compared, and not shown."""

    def debug(self, *_: Any, **__: Any) -> None:
        """Drop a record."""

    info = warning = error = critical = exception = debug


@dataclass(slots=True)
class _Trial:
    """A node under comparison, and what has been found."""

    target: Target
    items: list[Any]
    spread: bool
    made_up: bool
    params: dict[str, Any]
    alone: bool = False
    streams: bool = False
    notes: list[str] = field(default_factory=list)

    def row(self, verdict: rows.Verdict, why: str = "", workaround: str = "", **others: Any) -> Row:
        return Row(
            node=self.target.label, path=self.target.origin or self.target.path, entry=self.target.entry, verdict=verdict, why=why,
            workaround=workaround, params={key: shown(value) for key, value in self.params.items()},
            inputs="none" if self.alone or not self.items else "generated" if self.made_up else "given",
            notes=self.notes, **others,
        )  # fmt: skip


def row(target: Target, runtime: Runtime, settings: Settings) -> Row:
    """What the matrix says of a node.

    Args:
        target: the node.
        runtime: makes its sandboxes.
        settings: how it is compared.
    """
    if target.problem:
        return Row(node=target.label, path=target.path, entry=target.entry, verdict="unknown", why=target.problem)
    if target.limits is not None:
        settings = replace(settings, limits=target.limits)
    grants = target.grants if target.grants.seed is not None else replace(target.grants, seed=_SEED)
    grants = replace(grants, clock=_started(grants.clock))
    with ExitStack() as stack:
        trial = _prepared(target, settings)
        sandbox = LoadedSide(_Loader(runtime, target, trial.params, settings.limits, grants))
        stack.callback(sandbox.close)
        natives: list[Native] = []
        if settings.native:
            folder = (
                stack.enter_context(tempfile.TemporaryDirectory(prefix="cloche-check-", ignore_cleanup_errors=True))
                if trial.made_up
                else None
            )
            call_s = _MADE_UP_S if trial.made_up else settings.limits.deadline_s or 60.0
            for hash_seed in (0, 1):
                given = grants if hash_seed == 0 else replace(grants, clock=_with_other_steps(grants.clock))
                side = Native(
                    target.path, target.entry, trial.params, given, settings.limits,
                    folder=folder, call_s=call_s, hash_seed=hash_seed, made_up=trial.made_up,
                )  # fmt: skip
                natives.append(stack.enter_context(side))
            if grants.mounts:
                trial.notes.append("natively it sees the files of this machine, not the folders that are mounted")
        return _compared(trial, natives, sandbox)


def _started(clock: Clock | Mode) -> Clock:
    """The clock with a start, so that it is the same on both sides."""
    assert isinstance(clock, Clock)  # `Grants` makes one of a mode
    return clock if clock.mode == "real" or clock.start is not None else replace(clock, start=int(time.time()))


def _with_other_steps(clock: Clock | Mode) -> Clock:
    """A virtual clock that its readings advance by another length.

    How often Python itself reads a clock depends on its version and on the machine: what comes of it is thereby found unstable.
    """
    assert isinstance(clock, Clock)  # as in `_started`
    return replace(clock, step_ns=clock.step_ns // 2)


class _Loader:
    """Loads a node into a new sandbox: once from its source, then each time with the state that it had after loading."""

    def __init__(
        self, runtime: Runtime, target: Target, params: dict[str, Any], limits: Limits, grants: Grants
    ) -> None:
        self._runtime, self._target, self._params = runtime, target, params
        self._limits, self._grants = limits, grants
        self._loaded: tuple[str, Snapshot] | None = None

    def __call__(self) -> Node:
        key = repr(self._params)
        if self._loaded is not None and self._loaded[0] == key:
            return self._runtime.restore(self._loaded[1], limits=self._limits, grants=self._grants, reseed=False)
        target = self._target
        node = self._runtime.load(target.path, target.entry, self._params, limits=self._limits, grants=self._grants)
        self._loaded = key, node.snapshot()
        return node


def _prepared(target: Target, settings: Settings) -> _Trial:
    trial = _Trial(target, [], target.spread, settings.items is None, dict(target.params))
    if settings.items is not None:
        trial.items = list(settings.items)
        trial.spread = target.spread and all(type(item) is tuple for item in trial.items)
    elif any(getattr(mount, "writable", False) for mount in target.grants.mounts.values()):
        trial.notes.append(
            "no inputs are made up for a node that can write to a folder of yours: give some with --input"
        )
    elif settings.examples:
        if not inputs.has_hypothesis():
            trial.notes.append("inputs that fit the annotations need hypothesis: pip install 'cloche[check]'")
        trial.items = inputs.generated(target.items, settings.examples, spread=target.spread, numeric=target.numeric)
    return trial


def _begun(trial: _Trial, side: LoadedSide | Native) -> Outcome:
    """Load the node, with parameters that were made up if its ``__init__`` needs some."""
    outcome = side.begin()
    if outcome.kind == "value" or not trial.target.needs:
        return outcome
    for made in inputs.params_for(trial.target.needs):
        trial.params.clear()
        trial.params.update({**trial.target.params, **made})
        if isinstance(side, Native):
            side.close()
        if (found := side.begin()).kind == "value":
            told = ", ".join(f"{key}={shown(value)}" for key, value in made.items())
            trial.notes.append(f"made with {told}: give others with --param")
            return found
    trial.params.clear()
    trial.params.update(trial.target.params)
    return outcome


def _compared(trial: _Trial, natives: list[Native], sandbox: LoadedSide) -> Row:
    native_load = _begun(trial, natives[0]) if natives else None
    load = _begun(trial, sandbox) if native_load is None or native_load.kind != "value" else sandbox.begin()
    if load.kind != "value":
        if native_load is not None and native_load.kind != "value":
            trial.notes.append(f"natively it does not load here either: {native_load.told}")
        return trial.row("broken", f"does not load: {load.told}", load.remedy, compared=bool(natives), at=load.at)
    info = load.value if isinstance(load.value, dict) else {}
    trial.streams = bool(info.get("is_streaming"))
    trial.alone = bool(info.get("is_source")) and not (trial.items and not trial.made_up)
    if native_load is None or native_load.kind != "value":
        if native_load is not None:
            trial.notes.append(f"natively it does not load here: {native_load.told}")
        return _sandbox_alone(trial, sandbox)
    return _both(trial, natives, sandbox)


def _life(trial: _Trial, side: LoadedSide | Native, **options: Any) -> Life:
    until = time.monotonic() + _BUDGET_S
    return lived(side, trial.items, spread=trial.spread, alone=trial.alone, until=until, **options)


def _sandbox_alone(trial: _Trial, sandbox: LoadedSide) -> Row:
    """What can be said without the comparison: whether it loads, and whether it takes what it is given."""
    life = _life(trial, sandbox)
    good = [index for index, outcome in enumerate(life.calls) if outcome.kind == "value"]
    bad = [(index, outcome) for index, outcome in enumerate(life.calls) if outcome.kind != "value"]
    hopeless = [(index, one) for index, one in bad if not trial.made_up or one.kind in ("broken", "encode")]
    figures: dict[str, Any] = {"tried": len(life.calls), "accepted": len(good)}
    if life.stream is not None and life.stream.kind != "value" and (trial.alone or not bad):
        return trial.row("broken", f"its stream fails: {life.stream.told}", life.stream.remedy, **figures)
    if hopeless:
        index, outcome = hopeless[0]
        why = f"fails on {len(hopeless)} of {len(life.calls)} inputs, first on {shown(trial.items[index])}: {outcome.told}"
        return trial.row("broken", why, outcome.remedy, failed=len(hopeless), at=outcome.at, **figures)
    figures["cost"] = _cost(trial, None, sandbox, good)
    if not good and not trial.alone:
        remedy = next((outcome.remedy for _, outcome in bad if outcome.remedy), "give some with --input")
        what = f"no input that was made up is accepted: {bad[0][1].told}" if bad else "it loads, and was not called"
        return trial.row("unknown", what, remedy, **figures)
    if bad:
        trial.notes.append(f"{len(bad)} of {len(life.calls)} made-up inputs raise, such as {bad[0][1].told}")
    return trial.row("works", **figures)


def _both(trial: _Trial, natives: list[Native], sandbox: LoadedSide) -> Row:
    native = _native_life(trial, natives[0])
    broke = next((outcome for outcome in native.calls if outcome.kind == "broken"), None)
    if broke is not None or native.load.kind != "value":
        trial.notes.append(f"natively it cannot be compared: {(broke or native.load).told}")
        return _sandbox_alone(trial, sandbox)
    accepted = [index for index, outcome in enumerate(native.calls) if outcome.kind == "value"]
    options: dict[str, Any] = {"accepted": accepted[:MOST_STREAMED]}
    again = _life(trial, natives[1], **options)
    unstable = rows.unstable_paths(native, again)
    there = _life(trial, sandbox, names=list(native.state), **options)
    failed = rows.failures(native, there, given=not trial.made_up)
    found = rows.differences(native, there, unstable, trial.items, failed)
    wordings = [one for one in found if trial.made_up and rows.is_of_another_python(one[1])]
    if wordings:
        trial.notes.append(f"the wording of {len(wordings)} errors differs: {rows.python_of_both()}")
        found = [one for one in found if one not in wordings]
    if len(there.calls) < len(native.calls) and not failed:
        trial.notes.append(f"compared on the first {len(there.calls)} inputs only: there was no time for more")
    figures: dict[str, Any] = {
        "at": failed[0][1].at if failed else [], "compared": True, "tried": len(native.calls), "accepted": len(accepted),
        "failed": len(failed), "unstable": rows.told(unstable),
    }  # fmt: skip
    if not accepted and not trial.alone and not found and not failed:
        first = f": {native.calls[0].told}" if native.calls else ""
        return trial.row("unknown", f"no input is accepted natively{first}", "give some with --input", **figures)
    told = [one for one, _, _ in found]
    smaller: Difference | None = None
    if trial.made_up and (index := _first(found, failed)) is not None and inputs.has_hypothesis():
        smaller = _smallest(trial, natives[0], sandbox, unstable, trial.items[index])
        told = told if smaller is None else [smaller, *told]
    example = smaller.input if smaller is not None else shown(trial.items[failed[0][0]]) if failed else ""
    verdict, why, remedy = rows.judged(found, failed, len(accepted), example)
    if verdict == "differs" and not rows.SAME_PYTHON:
        trial.notes.append(f"{rows.python_of_both()}: that alone may be the reason")
    shown_first, more = rows.cut(told)
    figures["cost"] = _cost(trial, natives[0], sandbox, [one for one in options["accepted"] if one < len(there.calls)])
    return trial.row(verdict, why, remedy, **{**figures, "differences": shown_first, "more": more})


def _first(found: Sequence[tuple[Difference, Any, int | None]], failed: Sequence[tuple[int, Outcome]]) -> int | None:
    """The call whose input is worth making smaller."""
    if failed:
        return failed[0][0]
    return next((index for _, _, index in found if index is not None), None)


def _native_life(trial: _Trial, native: Native) -> Life:
    """The native life. Inputs that were made up, and on which the node hangs or crashes natively, are dropped."""
    drops = 0
    while True:
        life = _life(trial, native)
        if not trial.made_up:
            return life
        # the first call may be slow because it imports something
        bad = [
            index for index, one in enumerate(life.calls) if one.kind == "broken" or (index and one.seconds > _SLOW_S)
        ]
        if not bad:
            return life
        drops += 1
        trial.notes.append(f"left out: {shown(trial.items[bad[0]])}, on which it natively takes too long, or crashes")
        trial.items = trial.items[: bad[0]] if drops >= _DROPS else [
            item for index, item in enumerate(trial.items) if index not in bad
        ]  # fmt: skip
        if not trial.items:
            return Life(life.load)


def _smallest(trial: _Trial, native: Native, sandbox: LoadedSide, unstable: Unstable, item: Any) -> Difference | None:
    """The difference on the smallest input that shows it, if a new node shows it with one call."""
    end = time.monotonic() + _SHRINK_S
    last: list[tuple[Any, Outcome, Outcome]] = []

    def differs(value: Any) -> bool:
        if time.monotonic() > end or native.begin().kind != "value" or sandbox.begin().kind != "value":
            return False
        here, there = (side.call(value, spread=trial.spread) for side in (native, sandbox))
        if here.kind in ("value", "error") and _apart(here, there, unstable):
            last.append((value, here, there))
            return True
        return False

    if not differs(item):
        return None
    target = trial.target
    is_found, value = inputs.smallest(
        target.items, differs, spread=target.spread, numeric=target.numeric, tries=_SHRINK_TRIES
    )
    value, here, there = next((one for one in reversed(last) if is_found and one[0] is value), last[0])
    first = next(iter(_apart(here, there, unstable)), None)
    what = "error" if there.kind != "value" else "output"
    if first is None:
        return None
    if len(first.path) == 2 and here.kind == "error":
        return Difference(
            what="error", input=shown(value), where="", how="raises natively, and not in the sandbox", native=here.told,
            sandbox=shown(there.value), smallest=is_found,
        )  # fmt: skip
    if len(first.path) == 2:
        return Difference(
            what=what, input=shown(value), where="", how="fails in the sandbox alone",
            native=shown(here.value), sandbox=there.told, smallest=is_found,
        )  # fmt: skip
    return Difference(
        what={"logs": "log"}.get(first.path[2], str(first.path[2])), input=shown(value), where=where(first.path[3:]),
        how=first.how, native=first.native, sandbox=first.sandbox, smallest=is_found,
    )  # fmt: skip


def _apart(here: Outcome, there: Outcome, unstable: Unstable) -> list[Found]:
    found = compare({"call": [here.plain()]}, {"call": [there.plain()]}, unstable)
    return [one for one in found if not rows.is_of_another_python(one)]


def _cost(trial: _Trial, native: Native | None, sandbox: LoadedSide, accepted: Sequence[int]) -> Cost | None:
    items = [trial.items[index] for index in accepted[:_TIMED]]
    if not items or sandbox.begin().kind != "value":
        return None
    way: Way = "stream" if trial.streams else "spread" if trial.spread else "call"
    there = sandbox.seconds(items, _TIMED_S, way)
    if there is None:
        return None
    here = None
    if native is not None and native.begin().kind == "value":
        here = native.seconds(items, _TIMED_S, way)
    return Cost(
        native_s=here, sandbox_s=there, ratio=there / here if here else None, memory_bytes=sandbox.memory_bytes,
        native_memory_bytes=native.memory_bytes if native is not None and here is not None else None,
    )  # fmt: skip
