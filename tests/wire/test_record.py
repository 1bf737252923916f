"""What a dataclass or namedtuple becomes."""

from __future__ import annotations

import copy
import pickle

import pytest

from cloche_wire.record import Record

POINT = Record("Point", ["x", "count"], [1, [2]])


def test_its_fields_are_attributes_keys_and_positions() -> None:
    """Whatever they are called: the class has no public names that could hide one."""
    assert POINT.x == POINT["x"] == POINT[0] == 1
    assert POINT.count == [2]
    x, count = POINT
    assert (x, count) == (1, [2])
    assert len(POINT) == 2
    assert POINT[:1] == (1,)
    assert POINT._asdict() == {"x": 1, "count": [2]}
    assert repr(POINT) == "Point(x=1, count=[2])"
    match POINT:
        case Record(x=1):
            pass
        case _:
            raise AssertionError


def test_what_it_lacks_it_says() -> None:
    """As an object, a dict and a tuple would."""
    with pytest.raises(AttributeError, match="record Point has no field 'y'"):
        _ = POINT.y
    with pytest.raises(KeyError):
        _ = POINT["y"]
    with pytest.raises(IndexError):
        _ = POINT[2]


def test_it_does_not_change() -> None:
    """It is a message, not an object of the sender's."""
    with pytest.raises(AttributeError, match="immutable"):
        POINT.x = 2
    with pytest.raises(AttributeError, match="immutable"):
        del POINT.x


def test_equality_asks_for_name_fields_and_values() -> None:
    """And equal records have equal hashes, so that they can be keys."""
    same, key = Record("P", ["x"], [(1,)]), Record("P", ["x"], [(1,)])
    assert same == key
    assert {same: 1}[key] == 1
    assert same != Record("Q", ["x"], [(1,)])
    assert same != Record("P", ["y"], [(1,)])
    assert same != ((1,),)


def test_it_can_be_copied_and_pickled() -> None:
    """By those who hold it; nothing of that crosses the boundary."""
    for twin in (copy.copy(POINT), copy.deepcopy(POINT), pickle.loads(pickle.dumps(POINT))):
        assert twin == POINT
        assert twin is not POINT


@pytest.mark.parametrize(
    ("name", "fields", "values"),
    [
        pytest.param("P", ["x"], [], id="too few values"),
        pytest.param("P", ["x", "x"], [1, 2], id="a field twice"),
        pytest.param("P", ["x y"], [1], id="no identifier"),
        pytest.param("P", [1], [1], id="no text"),
        pytest.param("P" * 257, [], [], id="long name"),
        pytest.param("\x1b[31m", [], [], id="control character"),
    ],
)
def test_a_forged_record_is_refused(name: str, fields: list[str], values: list[int]) -> None:
    """Its repr is printed by whoever gets it."""
    with pytest.raises(ValueError, match="record"):
        Record(name, fields, values)
