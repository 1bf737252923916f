"""Every value arrives as it was sent, through both codecs and the validator."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings

from cloche import EncodeError
from cloche_wire.array import Array
from cloche_wire.record import Record
from cloche_wire.tagged import Opaque

from . import strategies as s

# the fixtures hold no state between examples
profile = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@profile
@given(s.values)
@example([float("nan"), -0.0, float("inf")])
@example({(1, 2): {frozenset({1}): ["\ud800", "\0", "x" * 4096, "é" * 2048]}})
@example({1: "a", "1": "b", None: "c", b"1": "d", 2.5: "e"})
def test_a_value_arrives_as_it_was_sent(crossing: Callable[[Any], Any], value: Any) -> None:
    """Types, order of keys, signs of zeros, layouts: there and back, nothing else may come of it."""
    arrived = crossing(value)
    assert s.same(arrived, s.arriving(value)), (value, arrived)


@profile
@given(s.arrays())
def test_an_array_arrives_as_it_was_sent(crossing: Callable[[Any], Any], array: np.ndarray) -> None:
    """And stays in the memory order it had: first index fastest only if it was so before."""
    arrived = crossing({"array": array})["array"]
    assert s.same(arrived, array)
    assert arrived.flags.f_contiguous == array.flags.f_contiguous or not array.flags.forc
    assert arrived.flags.aligned


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        pytest.param(s.Color.RED, "red", id="enum"),
        pytest.param(s.Text("x"), "x", id="str subclass"),
        pytest.param(s.Mapping(a=1), {"a": 1}, id="dict subclass"),
        pytest.param(OrderedDict([("b", 1), ("a", 2)]), {"b": 1, "a": 2}, id="OrderedDict"),
        pytest.param(defaultdict(list, {"a": [1]}), {"a": [1]}, id="defaultdict"),
        pytest.param(s.Items([1, s.Items([2])]), [1, [2]], id="list subclass"),
        pytest.param(bytearray(b"abc"), b"abc", id="bytearray"),
        pytest.param(bytearray(5000), bytes(5000), id="large bytearray"),
        pytest.param(s.Point(1, (2, 3)), Record("Point", ["x", "y"], [1, (2, 3)]), id="namedtuple"),
        pytest.param(
            s.Config("n", {"k": [1]}),
            Record("Config", ["name", "options", "count"], ["n", {"k": [1]}, 0]),
            id="dataclass",
        ),
        pytest.param({s.Color.RED: 1, s.Color.NUMBER: 2}, {"red": 1, 7: 2}, id="enum keys"),
        pytest.param({s.Color.RED, s.Color.NUMBER}, {"red", 7}, id="set of enums"),
        pytest.param({np.str_("a"): np.int64(3)}, {np.str_("a"): np.int64(3)}, id="numpy scalars"),
        pytest.param(np.str_(""), "", id="empty numpy str"),
        pytest.param(True, True, id="bool"),
        pytest.param(R := Record("P", ["x"], [[1, (2,)]]), R, id="record"),
        pytest.param(X := Opaque(b"d" * 32, bytes(5000)), X, id="opaque"),
        pytest.param(Array("<f4", (2, 3), bytes(24), "F"), np.zeros((2, 3), "f4", "F"), id="array without numpy"),
        pytest.param(np.zeros(2).view(np.recarray), np.zeros(2), id="ndarray subclass"),
        pytest.param(
            np.rec.array([(1, 2.0)], [("a", "i4"), ("b", "f8")])[0],
            np.void((1, 2.0), [("a", "i4"), ("b", "f8")]),
            id="numpy record",
        ),
    ],
)
def test_what_arrives_as_another_type(crossing: Callable[[Any], Any], sent: Any, arrives: Any) -> None:
    """docs/reference/types.md, row by row."""
    assert s.same(crossing(sent), arrives)


def test_a_buffer_arrives_as_an_array(crossing: Callable[[Any], Any]) -> None:
    """array.array, memoryview and their kin have no other common form."""
    from array import array

    arrived = crossing([array("f", [1, 2, 3]), memoryview(b"abc"), memoryview(bytearray(6)).cast("B", (2, 3))])
    assert s.same(arrived[0], np.array([1, 2, 3], "f4"))
    assert arrived[1].tolist() == [97, 98, 99]
    assert not arrived[1].flags.writeable
    assert arrived[2].shape == (2, 3)


class Exporter:
    """What other libraries' arrays look like."""

    def __init__(self, array: np.ndarray, protocol: str) -> None:
        self.array = array
        self.protocol = protocol


class WithInterface(Exporter):
    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self.array.__array_interface__


class WithDLPack(Exporter):
    def __dlpack__(self, **options: Any) -> Any:
        if self.protocol == "on a device":
            raise BufferError("the tensor lies on a device")
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("kind", [WithInterface, WithDLPack])
def test_arrays_of_other_libraries_arrive(crossing: Callable[[Any], Any], kind: type[Exporter]) -> None:
    """By the protocols that they share with numpy."""
    array = np.arange(6, dtype="f4").reshape(2, 3)
    arrived = crossing({"a": kind(array, "")})["a"]
    assert arrived.dtype == array.dtype
    assert arrived.tolist() == array.tolist()


def test_an_array_out_of_reach_is_refused(codec: Any) -> None:
    """With what its library says."""
    with pytest.raises(EncodeError, match=r"data\[0\]: cannot encode .*WithDLPack: the tensor lies on a device"):
        codec.encode([2, 7, [WithDLPack(np.zeros(2), "on a device")]], "data")


def test_an_array_in_a_request_is_the_guests_own_memory(native: Any, codec: Any) -> None:
    """Lowered once, then viewed: writable, and freed when the array dies."""
    inside = native.request(codec.encode([2, 7, np.arange(10_000.0)], "data"))[2]
    assert native.live() == 1
    assert type(inside.base).__name__ == "Block"
    inside += 1
    assert inside[-1] == 10_000
    part = inside[10:20]
    del inside
    assert native.live() == 1
    assert part[0] == 11
    del part
    assert native.live() == 0


def test_a_reply_points_at_the_value_itself(native: Any) -> None:
    """Large bodies are not copied inside the guest."""
    array = np.arange(4096, dtype="u2")
    text, data = "x" * 5000, bytes(5000)
    frame = native.reply([0, [array, text, data]])
    assert len(frame) < 64
    assert array.ctypes.data.to_bytes(8, "big").lstrip(b"\0") in frame


def test_what_a_reply_points_at_lives_until_the_next_call(native: Any) -> None:
    """A node may return a temporary."""
    array = np.arange(4096.0)
    native.reply([0, array])
    with pytest.raises(ValueError, match="cannot resize"):
        array.resize(8192)  # its buffer is exported
    native.release()
    array.resize(8192, refcheck=False)
