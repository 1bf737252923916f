"""What ``cloche check`` compares with and on: values, places that change from run to run, and inputs that are made up. Nothing is run."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from cloche.cli._comparing import inputs
from cloche.cli._comparing.values import MOST, Unstable, compare, where
from cloche_wire.record import Record

NAN = float("nan")


@pytest.mark.parametrize(
    "value",
    [
        1, 2**80, NAN, [NAN, {"a": (NAN, -0.0)}], "text", {1, 2}, Decimal("NaN"), Record("P", ["x"], [NAN]), complex(NAN, 1),
        np.array([1.0, NAN]), np.arange(4, dtype="i2"), np.array(["a", "b"]), np.array([], "f4"), np.datetime64("NaT"), None, b"x",
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_equal_values_do_not_differ(value: Any) -> None:
    """NaN equals NaN: both sides have computed the same."""
    import copy

    assert compare(value, copy.deepcopy(value)) == []


@pytest.mark.parametrize(
    ("native", "sandbox", "place", "how"),
    [
        (1, 1.0, "", "int natively, float in the sandbox"),
        (True, 1, "", "bool natively, int in the sandbox"),
        ([1], (1,), "", "list natively, tuple in the sandbox"),
        ([1, 2], [1, 3], "[1]", "another value"),
        ([1, 2], [1], "", "2 items natively, 1 in the sandbox"),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "['a']['b']", "another value"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "", "its keys are in another order"),
        ({"a": 1}, {"b": 1}, "", "in the sandbox it lacks the key 'a' and has the key 'b' more"),
        (0.0, -0.0, "", "the sign of zero"),
        (NAN, 1.0, "", "another value"),
        ({1, 2}, {2, 3}, "", "1 items are natively alone in it, 1 in the sandbox alone"),
        (np.zeros(2, "i8"), np.zeros(2, "i4"), "", "dtype int64 natively, int32 in the sandbox"),
        (np.zeros(2), np.zeros(3), "", "shape (2,) natively, (3,) in the sandbox"),
        (np.array([0.0]), np.array([-0.0]), "", "the sign of zeros"),
        (
            np.array([1.0, NAN]),
            np.array([1.0, 2.0]),
            "",
            "1 of 2 items differ, some of them NaN or infinite on one side alone",
        ),
        (Record("P", ["x"], [1]), Record("P", ["x"], [2]), "['x']", "another value"),
        (Record("P", ["x"], [1]), Record("P", ["y"], [1]), "", "another class, or other fields"),
    ],
)
def test_what_differs_is_said_with_its_place(native: Any, sandbox: Any, place: str, how: str) -> None:
    [found] = compare(native, sandbox)
    assert (where(found.path), found.how) == (place, how)


def test_floats_differ_by_the_last_bit_and_by_how_much() -> None:
    """Exactly, and else with the size: whoever can bear a rounding can see that it is one."""
    [one] = compare(1.0, math.nextafter(1.0, 2.0))
    assert one.relative == pytest.approx(2.2e-16, rel=0.1)
    [array] = compare(np.array([1e3, 1.0]), np.array([1e3, 1.0 + 2**-52]))
    assert array.how == "1 of 2 items differ, by 2.22e-16 at most, which is 2.2e-19 of the largest item"


def test_a_difference_of_everything_ends() -> None:
    """A stranger's value is as large as it may be."""
    assert len(compare(list(range(10**5)), list(range(1, 10**5 + 1)))) == MOST
    deep: Any = []
    for _ in range(256):  # the most that Limits.value_depth can be
        deep = [deep]
    assert compare(deep, deep) == []


def test_a_number_too_long_to_write_is_no_obstacle() -> None:
    """Python refuses to write whole numbers of more than some thousand digits."""
    [found] = compare([10**9000], [10**9001])
    assert (found.how, found.native) == ("another value", "<int>")


def test_zeros_against_something() -> None:
    [found] = compare(np.zeros(2), np.array([0.0, 1.0]))
    assert found.relative == 1.0


def lives(*outputs: Any) -> dict[str, Any]:
    return {"call": [{"output": output, "logs": []} for output in outputs]}


def test_what_changes_from_run_to_run_is_compared_by_type() -> None:
    first, second = lives({"at": 1.5, "x": 1}, {"at": 2.5, "x": 2}), lives({"at": 3.5, "x": 1}, {"at": 2.5, "x": 2})
    unstable = Unstable(found.path for found in compare(first, second))
    assert compare(first, lives({"at": 9.0, "x": 1}, {"at": 8.0, "x": 2}), unstable) == []
    [found] = compare(first, lives({"at": 9.0, "x": 7}, {"at": 8.0, "x": 2}), unstable)
    assert where(found.path) == "['call'][0]['output']['x']"
    [kind] = compare(first, lives({"at": "now", "x": 1}, {"at": 8.0, "x": 2}), unstable)
    assert kind.how == "float natively, str in the sandbox"


def test_an_order_that_changes_is_no_order() -> None:
    """Two runs show two of the orders of a set: the sandbox may have a third one. One item that changes is one item."""
    order = Unstable(found.path for found in compare(lives(["a", "b", "c"]), lives(["b", "a", "c"])))
    assert compare(lives(["a", "b", "c"]), lives(["c", "b", "a"]), order) == []
    item = Unstable(found.path for found in compare(lives(["a", "b", "c"]), lives(["x", "b", "c"])))
    assert len(compare(lives(["a", "b", "c"]), lives(["y", "z", "c"]), item)) == 1


def test_a_call_that_raises_in_one_run_says_nothing_of_the_others() -> None:
    raised = {"call": [{"error": ["E", "m"], "logs": []}, {"output": 1, "logs": []}]}
    unstable = Unstable(found.path for found in compare(raised, lives(1, 1)))
    assert [where(found.path) for found in compare(lives(1, 1), lives(2, 2), unstable)] == ["['call'][1]['output']"]


# ---- inputs

KINDS = [
    {"kind": "int"}, {"kind": "float"}, {"kind": "str"}, {"kind": "bytes"}, {"kind": "bool"}, {"kind": "none"}, {"kind": "complex"},
    {"kind": "list", "of": [{"kind": "int"}]}, {"kind": "set", "of": [{"kind": "list", "of": []}]},
    {"kind": "dict", "of": [{"kind": "str"}, {"kind": "any"}]}, {"kind": "tuple", "of": [{"kind": "int"}, {"kind": "str"}]},
    {"kind": "tuples", "of": [{"kind": "float"}]}, {"kind": "union", "of": [{"kind": "int"}, {"kind": "none"}]},
    {"kind": "literal", "of": ["a", 1]}, {"kind": "fixed", "names": ["a"], "of": [{"kind": "uuid"}]}, {"kind": "datetime"},
    {"kind": "date"}, {"kind": "time"}, {"kind": "timedelta"}, {"kind": "decimal"}, {"kind": "fraction"},
    {"kind": "array", "dtype": "float32"}, {"kind": "array", "dtype": ""}, {"kind": "scalar", "dtype": "int16"}, {"kind": "any"},
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind["kind"])
def test_the_same_inputs_each_time(kind: Any) -> None:
    """A check that fails can be repeated, and none is made of more than was asked for."""
    made = inputs.generated([kind], 20, spread=False, numeric=False)
    assert 1 <= len(made) <= 20
    assert repr(made) == repr(inputs.generated([kind], 20, spread=False, numeric=False))


def texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for one in pair for text in texts(one)]
    return [text for one in value for text in texts(one)] if isinstance(value, (list, tuple, set)) else []


def test_no_text_leads_anywhere() -> None:
    """Natively a node may remove the folder that it is given."""
    kinds = [*KINDS, {"kind": "dict", "of": [{"kind": "str"}, {"kind": "list", "of": [{"kind": "str"}]}]}]
    made = [value for kind in kinds for value in inputs.generated([kind], 40, spread=False, numeric=True)]
    found = [text for value in made for text in texts(value)]
    assert len(found) > 100
    leads = [text for text in found if {"/", "\\", "~", "\0"} & {*text} or text.strip() in (".", "..")]
    assert leads == []


@pytest.mark.parametrize(
    "kind",
    [
        None, [], "int", {}, {"kind": []}, {"kind": "x" * 1000}, {"kind": "list"}, {"kind": "list", "of": 5}, {"kind": "fixed", "of": []},
        {"kind": "literal", "of": [[], {}]}, {"kind": "union", "of": []}, {"kind": "tuple", "of": [{}] * 1000},
        {"kind": "array", "dtype": "O"}, {"kind": "scalar", "dtype": "../../x"},
    ],
    ids=repr,
)  # fmt: skip
def test_a_type_that_is_none_is_any(kind: Any) -> None:
    """Types come from the sandbox, where the stranger's code may have tampered with them."""
    assert inputs.generated([kind], 5, spread=False, numeric=False)


def test_a_type_that_is_nested_without_end_ends() -> None:
    kind: Any = {"kind": "int"}
    for _ in range(500):
        kind = {"kind": "list", "of": [kind]}
    assert inputs.generated([kind], 5, spread=False, numeric=False)


def test_the_smallest_input_that_fails() -> None:
    found, value = inputs.smallest([{"kind": "int"}], lambda x: x > 17, spread=False, numeric=False, tries=200)
    assert (found, value) == (True, 18)
    assert inputs.smallest([{"kind": "int"}], lambda _: False, spread=False, numeric=False, tries=20) == (False, None)


def test_parameters_without_a_default_get_usual_values() -> None:
    assert inputs.params_for({}) == [{}]
    assert inputs.params_for({"a": {"kind": "int"}, "b": {"kind": "str"}}) == [{"a": 4, "b": "a"}]
    assert len(inputs.params_for({"a": {"kind": "any"}})) > 3


def test_without_hypothesis_there_are_still_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "has_hypothesis", lambda: False)
    assert len(inputs.generated([{"kind": "int"}], 10, spread=False, numeric=False)) == 10
    assert all(len(pair) == 2 for pair in inputs.generated([{"kind": "int"}] * 2, 10, spread=True, numeric=False))
