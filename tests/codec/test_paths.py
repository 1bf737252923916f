"""A value that cannot be sent is named, on both sides alike: where it is, and what it is."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cloche import EncodeError
from cloche._codec.codec import Codec

from . import strategies as s


def function() -> None:
    pass


def cycle_of(make: Callable[[], Any], close: Callable[[Any, Any], None]) -> Any:
    outer = make()
    close(outer, [1, {"back": outer}])
    return outer


LOCK = threading.Lock()
ARRAY_OF = "cannot encode an array of dtype"
MASKED = "cannot encode a masked array: send .filled(), or .data and .mask"
DOUBLES = "two keys would be the same on the other side: an enum arrives as its value"
CALLED = "cannot encode function: pass its result: x(...)"
MORE = ", an object as its fields, a subclass as its base"
"""The host compares what arrives, whatever the kind; the guest looks at enums, and leaves the rest to the host."""
BAD = {
    "bare": (function, "", CALLED),
    "issue's example": ({"filters": [0, 1, 2, {"fn": function}]}, ".filters[3].fn", CALLED),
    "key with a space": ({"a b": [function]}, "['a b'][0]", CALLED),
    "long key": ({"k" * 100: function}, f"['{'k' * 40}'...]", CALLED),
    "int key": ({3: function}, "[3]", CALLED),
    "tuple key": ({(1, 2): function}, "[tuple]", CALLED),
    "set": ({"s": {function}}, ".s{}", CALLED),
    "namedtuple": ([s.Point(1, {"deep": function})], "[0].y.deep", CALLED),
    "dataclass": (s.Config("n", [function]), ".options[0]", CALLED),
    "enum key beside": ({s.Color.RED: 1, "x": [function]}, ".x[0]", CALLED),
    "dict subclass": (s.Mapping(a=function), ".a", CALLED),
    "class": ([int], "[0]", "cannot encode type: pass x.__name__"),
    "foreign type": ([LOCK], "[0]", "cannot encode _thread.lock"),
    "generator": ((x for x in ()), "", "cannot encode generator: pass list(x)"),
    "range": ([range(3)], "[0]", "cannot encode range: pass list(x)"),
    "object array": ({"a": np.array([None])}, ".a", f"{ARRAY_OF} object: pass x.tolist()"),
    "longdouble array": (
        {"a": np.zeros(2, np.longdouble)},
        ".a",
        f'{ARRAY_OF} {np.dtype(np.longdouble)}: pass x.astype("f8")',
    ),
    "object in a structure": (np.zeros(1, [("f", object)]), "", f"{ARRAY_OF} object: pass x.tolist()"),
    "masked array": (
        [np.ma.masked_array([1, 2], [0, 1])],
        "[0]",
        MASKED,
    ),
    "enum beside its value": (
        [{s.Color.RED: 1, "red": 2}],
        "[0]",
        DOUBLES,
    ),
    "list in itself": (cycle_of(list, list.append), "[0][1].back", "a cycle: this list contains itself"),
    "dict in itself": (cycle_of(dict, lambda d, v: d.update(a=v)), ".a[1].back", "a cycle: this dict contains itself"),
    "cycle behind a large part": (
        (lambda outer: outer.append({"all": [[0] * 9] * 999, "back": (outer,)}) or outer)([]),
        "[0].back[0]",
        "a cycle: this list contains itself",
    ),
}


@pytest.mark.parametrize(("value", "path", "text"), [pytest.param(*row, id=name) for name, row in BAD.items()])
def test_both_sides_name_what_they_refuse(native: Any, codec: Codec, value: Any, path: str, text: str) -> None:
    """Word for word the same, whichever way the value was to go."""
    with pytest.raises(EncodeError) as host:
        codec.encode([2, 7, value], "data")
    assert host.value.path == "data" + path
    assert str(host.value).removesuffix(MORE) == f"data{path}: {text}"
    with pytest.raises((TypeError, ValueError)) as guest:
        native.reply([0, value])
    assert str(guest.value) == f"result{path}: {text}"


def test_an_object_that_leads_to_itself_is_a_cycle(native: Any, codec: Codec) -> None:
    """Also through types that only the hook knows."""
    config = s.Config("n", None)
    config.options = [config]
    items = s.Items()
    items.append(items)
    for value, path in ((config, ".options[0]"), (items, "[0]")):
        with pytest.raises(EncodeError, match="a cycle: this .* contains itself") as host:
            codec.encode([2, 7, value], "data")
        assert host.value.path == f"data{path}"
        with pytest.raises(ValueError, match="a cycle: this .* contains itself"):
            native.reply([0, value])


def test_several_operands_are_counted(codec: Codec) -> None:
    """``process(a, b)``: the second argument is data[1]."""
    with pytest.raises(EncodeError) as caught:
        codec.encode([2, 7, 1, {"f": function}], "data")
    assert caught.value.path == "data[1].f"


def test_without_a_root_the_path_starts_at_the_key(codec: Codec) -> None:
    """LOAD's operand is a map: ``params.filters``."""
    with pytest.raises(EncodeError) as caught:
        codec.encode([1, 7, {"params": {"filters": [function]}}], "")
    assert caught.value.path == "params.filters[0]"


def test_a_long_path_is_cut_in_the_middle(native: Any, codec: Codec) -> None:
    """Both ends tell something."""
    value: Any = function
    for i in range(60):
        value = {f"k{i}": value}
    with pytest.raises(EncodeError) as host:
        codec.encode([2, 7, value], "data")
    assert host.value.path.startswith("data.k59.k58")
    assert host.value.path.endswith(".k1.k0")
    assert " ... " in host.value.path
    with pytest.raises(TypeError) as guest:
        native.reply([0, value])
    assert str(guest.value) == str(host.value).replace("data", "result")


def test_many_substitutes_are_not_taken_for_one(crossing: Callable[[Any], Any]) -> None:
    """What the hook makes on the way dies at once, and its address comes again."""
    value = [s.Mapping(a=s.Items([i])) for i in range(500)]
    shared = (s.Config("n", [np.full((2, 2), i) for i in range(50)]),)
    rows, (record,) = crossing([value, shared])
    assert rows == [{"a": [i]} for i in range(500)]
    assert [array.tolist() for array in record.options] == [[[i, i], [i, i]] for i in range(50)]


def test_what_the_nodes_own_code_raises_stays_what_it_is(native: Any) -> None:
    """With a note where it happened."""

    @dataclasses.dataclass
    class Lazy:
        x: int = 0

        def __getattribute__(self, name: str) -> Any:
            if name == "x":
                raise RuntimeError("not yet")
            return super().__getattribute__(name)

    lazy = object.__new__(Lazy)
    with pytest.raises(RuntimeError, match="not yet") as caught:
        native.reply([0, {"a": [lazy]}])
    assert caught.value.__notes__ == ["while encoding result.a[0]"]


def test_a_container_that_changes_while_it_is_encoded(native: Any) -> None:
    """The hook runs the node's code, which may do anything to a container that C is walking through."""

    @dataclasses.dataclass
    class Meddler:
        target: Any = dataclasses.field(repr=False)
        do: Any = dataclasses.field(repr=False)

        def __getattribute__(self, name: str) -> Any:
            if name == "target":
                fields = object.__getattribute__(self, "__dict__")
                fields["do"](fields["target"])
                return None
            return None if name == "do" else super().__getattribute__(name)

    for make, do in (
        (lambda m: [m, *range(100)], list.clear),
        (lambda m: [m, 1], lambda items: items.extend(range(1000))),
    ):
        items: Any = []
        items.extend(make(Meddler(items, do)))
        with pytest.raises(ValueError, match="changed while it was encoded"):
            native.reply([0, items])
    for do in (dict.clear, lambda d: d.update({str(i): i for i in range(1000)}), lambda d: d.pop("z")):
        mapping: Any = {}
        mapping.update(a=Meddler(mapping, do), z=1)
        with pytest.raises(ValueError, match="changed while it was encoded"):
            native.reply([0, mapping])


def test_an_encode_inside_an_encode_has_its_own_buffer(native: Any) -> None:
    """A property that logs: `emit` encodes a record while the reply is being encoded."""

    @dataclasses.dataclass
    class Logs:
        x: int = 0

        def __getattribute__(self, name: str) -> Any:
            if name == "x":
                assert native.loads(native.dumps(["inner"] * 2000)) == ["inner"] * 2000
                return 5
            return super().__getattribute__(name)

    frame = native.reply([0, ["before" * 100, Logs(), "after"]])
    reply = native.loads(frame)
    assert reply[1][0] == "before" * 100
    assert reply[1][1].x == 5
    assert reply[1][2] == "after"
