"""What a caller gets wrong is refused where it is passed; the message names the argument, and says what to give."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cloche
from cloche._runtime.load_options import LoadOptions, PoolKeywords
from cloche.replay import Record
from cloche.testing import LocalGuest

pytestmark = pytest.mark.isolation("none", reason="arguments are checked before anything goes to a worker")

FUNCTION = cloche.Source("def f(x): return x\n")
KEEPING = cloche.Source(
    "class N:\n    def __init__(self, **k):\n        self.k = k\n    def process(self, x):\n        return self.k\n"
)
Wrong = Callable[[cloche.Runtime], object]
WRONG: dict[str, tuple[Wrong, str]] = {
    "params": (
        lambda runtime: runtime.load(FUNCTION, params=5),
        "params is of type int: give a dict of keyword arguments, or None",
    ),
    "no params": (
        lambda runtime: runtime.load(FUNCTION, params=[]),
        "params is of type list: give a dict of keyword arguments, or None",
    ),
    "a key": (
        lambda runtime: runtime.load(FUNCTION, params={1: 2}),
        "params has the key 1: give keyword arguments by name, so that each key is a text",
    ),
    "entry": (
        lambda runtime: runtime.load(FUNCTION, 5),
        "entry is 5: give the name of a class or function as a text, or None",
    ),
    "name": (
        lambda runtime: runtime.load(FUNCTION, name=5),
        "name is 5: give a name for logs and errors as a text, or None",
    ),
    "limits": (
        lambda runtime: runtime.load(FUNCTION, limits={"deadline_s": 1}),
        "limits is a dict: give cloche.Limits(deadline_s=1)",
    ),
    "no limits": (lambda runtime: runtime.load(FUNCTION, limits={}), "limits is a dict: give cloche.Limits()"),
    "grants": (
        lambda runtime: runtime.load(FUNCTION, grants={}),
        "grants is of type dict: give cloche.Grants(), or None",
    ),
    "a pool's": (
        lambda runtime: runtime.pool(FUNCTION, grants=5),
        "grants is of type int: give cloche.Grants(...), or None",
    ),
    "the runtime's": (lambda _: cloche.Runtime(limits=5), "limits is 5: give cloche.Limits(...), or None"),
    "no runtime's": (lambda _: cloche.Runtime(limits={}), "limits is a dict: give cloche.Limits()"),
    "snapshot": (
        lambda runtime: runtime.restore("x"),
        "snapshot is 'x': give one from Node.snapshot or Snapshot.from_bytes(data)",
    ),
    "local limits": (lambda _: LocalGuest(FUNCTION, limits={}), "limits is a dict: give cloche.Limits()"),
    "local entry": (
        lambda _: LocalGuest(FUNCTION, 5),
        "entry is 5: give the name of a class or function as a text, or None",
    ),
}


@pytest.mark.parametrize(("wrong", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_argument_is_named_at_once(runtime: cloche.Runtime, wrong: Wrong, message: str) -> None:
    """Not by an AttributeError of whatever meets it first, nor taken for None because it is empty."""
    with pytest.raises(TypeError) as caught:
        wrong(runtime)
    assert str(caught.value) == message


NUMBERS: dict[str, tuple[str, dict[str, Any], type[Exception], str]] = {
    "restarts": ("load", {"max_restarts": "3"}, TypeError, "max_restarts is '3': give a whole number"),
    "no restarts": ("load", {"max_restarts": None}, TypeError, "max_restarts is None: give a whole number"),
    "few restarts": ("load", {"max_restarts": 0}, ValueError, "max_restarts is 0: give 1 or more"),
    "checkpoints": (
        "load",
        {"on_break": "restore", "checkpoint_every": 1.5},
        TypeError,
        "checkpoint_every is 1.5: give a whole number",
    ),
    "size": ("pool", {"size": 1.5}, TypeError, "size is 1.5: give a whole number"),
    "true": ("pool", {"size": True}, TypeError, "size is True: give a whole number"),
    "no size": ("pool", {"size": 0}, ValueError, "size is 0: give 1 or more"),
    "warm": ("pool", {"warm": -1}, ValueError, "warm is -1: give 0 or more"),
    "calls": ("pool", {"max_calls": 0}, ValueError, "max_calls is 0: give 1 or more"),
    "age": ("pool", {"max_age_s": "1"}, TypeError, "max_age_s is '1': give a number of seconds, or None"),
    "no age": ("pool", {"max_age_s": float("nan")}, ValueError, "max_age_s is nan: give 0 or more"),
}


@pytest.mark.parametrize(("function", "given", "kind", "message"), NUMBERS.values(), ids=NUMBERS)
def test_a_wrong_number_is_named_before_anything_is_loaded(
    runtime: cloche.Runtime, function: str, given: dict[str, Any], kind: type[Exception], message: str
) -> None:
    """A float that is compared with counts would pass, and be off by one later; a text would fail in the middle."""
    with pytest.raises(kind) as caught:
        getattr(runtime, function)("missing.py", **given)
    assert str(caught.value) == message


UNUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "fuel, load": ("load", {"limits": cloche.Limits(fuel=9)}, "Limits.fuel is 9, and metering='{metering}' counts no instructions: "),
    "fuel, pool": ("pool", {"limits": cloche.Limits(fuel=9)}, "Limits.fuel is 9, and metering='{metering}' counts no instructions: "),
    "restarts": ("load", {"max_restarts": 5}, "max_restarts is for on_break='restart' or 'restore', not 'raise'"),
    "checkpoints": ("load", {"checkpoint_every": 2}, "checkpoint_every is for on_break='restore', not 'raise'"),
    "checkpoints of a restart": (
        "load", {"on_break": "restart", "checkpoint_every": 2}, "checkpoint_every is for on_break='restore', not 'restart'"
    ),
    "warm": ("pool", {"size": 2, "warm": 3}, "warm is 3, and the pool has 2 nodes at most: give size=3, or less"),
    "calls of a reset": ("pool", {"reset": True, "max_calls": 5}, "max_calls has no effect with reset=True, which makes "),
    "age of a reset": ("pool", {"reset": True, "max_age_s": 5.0}, "max_age_s has no effect with reset=True, which makes "),
    "queue without a bound": ("pool", {"queue_timeout_s": 1.0}, "queue_timeout_s is for max_queue: "),
}  # fmt: skip
"""Options without an effect, each with the option that it would need."""


@pytest.mark.parametrize(("function", "given", "message"), UNUSED.values(), ids=UNUSED)
def test_an_option_without_an_effect_is_refused(
    runtime: cloche.Runtime, tmp_path: Path, function: str, given: dict[str, Any], message: str
) -> None:
    """Whoever gives it expects something of it."""
    (tmp_path / "n.py").write_text("def f(x): return x\n")
    with pytest.raises(ValueError, match="^" + re.escape(message.format(metering=runtime.metering))):
        getattr(runtime, function)(tmp_path / "n.py", **given)


def test_fuel_that_nothing_counts_is_refused_everywhere(runtime: cloche.Runtime) -> None:
    """By a runtime as its own limit, and for a node that is restored."""
    with pytest.raises(
        ValueError, match=r"^Limits\.fuel is 9, and metering='none' counts no instructions: make the runtime with"
    ):
        cloche.Runtime(limits=cloche.Limits(fuel=9), metering="none")
    with runtime.load(FUNCTION) as node:
        snapshot = node.snapshot()
    with pytest.raises(ValueError, match=r"^Limits\.fuel is 9, and metering="):
        runtime.restore(snapshot, limits=cloche.Limits(fuel=9))


def test_a_view_of_a_pool_has_no_timeout_of_a_queue_without_a_bound(runtime: cloche.Runtime) -> None:
    with (
        runtime.pool(FUNCTION, size=1) as pool,
        pytest.raises(ValueError, match=r"^queue_timeout_s is for a pool with max_queue"),
    ):
        pool.with_options(queue_timeout_s=1)


def test_a_quota_of_a_folder_that_is_only_read_is_refused(tmp_path: Path) -> None:
    for name in ("quota_bytes", "max_files"):
        with pytest.raises(ValueError, match=rf"^Mount\.{name} is for writable=True: "):
            cloche.Mount(tmp_path, **{name: 5})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"a": print}, "params.a: cannot encode builtin_function_or_method: pass its result: x(...)"),
        ({"a": [{"b": print}]}, "params.a[0].b: cannot encode builtin_function_or_method: pass its result: x(...)"),
    ],
)
def test_the_path_of_a_parameter_begins_with_params_once(runtime: cloche.Runtime, params: Any, message: str) -> None:
    for load in (runtime.load, LocalGuest):
        with pytest.raises(cloche.EncodeError) as caught:
            load(KEEPING, params=params)
        assert str(caught.value) == message


def test_the_path_of_another_argument_has_its_name(runtime: cloche.Runtime) -> None:
    """All arguments are sent in one map, which the caller does not know."""
    with pytest.raises(cloche.EncodeError, match="^session_id: cannot encode"):
        runtime.load(FUNCTION, session_id=print)


@pytest.mark.parametrize(
    ("field", "given", "kept"),
    [
        ("deadline_s", np.float32(0.5), 0.5),
        ("deadline_s", np.float64(0.5), 0.5),
        ("deadline_s", np.int64(2), 2),
        ("deadline_s", Fraction(1, 2), 0.5),
        ("memory_bytes", np.int64(64 << 20), 64 << 20),
        ("value_nodes", np.uint8(90), 90),
    ],
    ids=repr,
)
def test_a_limit_is_any_number_and_kept_as_a_plain_one(field: str, given: Any, kept: Any) -> None:
    """They come out of computations; and they are sent to workers, and printed."""
    found = getattr(cloche.Limits(**{field: given}), field)
    assert found == kept
    assert type(found) is type(kept)


@pytest.mark.parametrize(
    ("field", "given", "what"),
    [
        ("deadline_s", True, "a number or None"),
        ("deadline_s", np.bool_(1), "a number or None"),
        ("deadline_s", "1", "a number or None"),
        ("deadline_s", 1j, "a number or None"),
        ("deadline_s", np.array([1.0, 2.0]), "a number or None"),
        ("grace_s", None, "a number"),
        ("memory_bytes", 1e8, "a whole number"),
        ("memory_bytes", np.array([1]), "a whole number"),
        ("fuel", False, "a whole number or None"),
    ],
    ids=repr,
)
def test_a_limit_that_is_no_number_is_refused(field: str, given: Any, what: str) -> None:
    with pytest.raises(TypeError) as caught:
        cloche.Limits(**{field: given})
    assert str(caught.value) == f"Limits.{field} is {given!r}: give {what}"


def test_a_load_that_takes_too_long_says_that_there_is_no_node(runtime: cloche.Runtime) -> None:
    with pytest.raises(cloche.DeadlineError) as caught:
        runtime.load(cloche.Source("while True: pass", "node.py"), "f", limits=cloche.Limits(load_s=0.1, grace_s=60))
    assert str(caught.value) == (
        "node 'f' was still loading after 0.1 s (its imports and __init__ count) (Limits.load_s=0.1); "
        "it was interrupted, so there is no node to use: raise Limits.load_s"
    )


def keywords(function: Callable[..., object]) -> dict[str, inspect.Parameter]:
    """The parameters that a caller sees, but for `self` and ``**options``."""
    found = inspect.signature(function).parameters.values()
    return {each.name: each for each in found if each.name != "self" and each.kind is not each.VAR_KEYWORD}


def test_keywords_of_one_name_mean_the_same_everywhere() -> None:
    """`load`, `restore`, `pool` and `LocalGuest` spell out their keywords, for editors and type checkers: none may drift apart."""
    load = keywords(cloche.Runtime.load)
    for other in (cloche.Runtime.restore, cloche.Runtime.pool, LocalGuest):
        for name, parameter in keywords(other).items():
            if name in load:
                expected = load[name]
                assert (parameter.annotation, parameter.default) == (expected.annotation, expected.default), name
    assert {*keywords(cloche.Runtime.restore)} - {*load} == {"snapshot", "reseed"}
    assert {*keywords(LocalGuest)} - {*load} == {"seed", "capture"}


def test_a_pool_takes_the_keywords_of_load_that_make_sense_for_clones(runtime: cloche.Runtime) -> None:
    """They are typed, so a type checker knows them; one that recovers a broken node is refused by name."""
    load = typing.get_type_hints(cloche.Runtime.load, localns={"Budget": cloche.Budget, "Record": Record})
    assert typing.get_type_hints(PoolKeywords, localns={"Record": Record}) == {
        name: load[name] for name in ("name", "limits", "grants", "session_id", "budget", "record")
    }
    with pytest.raises(
        TypeError, match=r"^Runtime\.pool has no option 'max_restarts': a pool always replaces.*option 'on_break'"
    ):
        runtime.pool(FUNCTION, on_break="restart", max_restarts=1)  # type: ignore[call-arg]


def test_options_are_checked_when_they_are_made() -> None:
    """Whoever holds a `LoadOptions` needs no checks of its own; a clone's differ in the seed alone."""
    with pytest.raises(TypeError, match=r"^limits is 5: give cloche\.Limits\(\.\.\.\), or None$"):
        LoadOptions(limits=5)  # type: ignore[arg-type]
    options = LoadOptions(entry="f", grants=cloche.Grants(seed=7, env={"A": "1"}))
    assert (options.label("else"), options.is_named, LoadOptions().label("else")) == ("f", True, "else")
    first, second = options.of_clone(1), options.of_clone(2)
    assert len({options.grants.seed, first.grants.seed, second.grants.seed}) == 3
    assert dataclasses.replace(first, grants=options.grants) == options
    assert LoadOptions(entry="f").of_clone(1) == LoadOptions(entry="f")
