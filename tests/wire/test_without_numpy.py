"""Arrays where numpy is not installed, on either side."""

from __future__ import annotations

import subprocess
import sys
from array import array
from typing import Any

import numpy as np
import pytest

from cloche_wire import arrays, dtypes, tags, values
from cloche_wire.array import Array
from cloche_wire.tagged import Tagged


@pytest.fixture
def no_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)


def flat(tag: int, content: Any) -> tuple[int, Any]:
    """Tag and content as they are after the wire: no Tagged, no view."""

    def plain(part: Any) -> Any:
        if isinstance(part, Tagged):
            return arrays.lift(part.tag, plain(part.content))
        if isinstance(part, list):
            return [plain(item) for item in part]
        return part if isinstance(part, (str, int)) else bytes(part)

    return tag, plain(content)


def arrive(value: Any) -> Any:
    tag, content = values.lower(value)
    assert tag is not None
    return values.lift(*flat(tag, content))


def test_an_array_arrives_as_an_array_of_ours(no_numpy: None) -> None:
    """With everything that is known of it."""
    made = values.lift(85, np.float32([1, 2, 3]).tobytes())
    assert type(made) is Array
    assert (made.dtype, made.shape, made.order, made.readonly, made.strides) == ("<f4", (3,), "C", False, (4,))
    assert made.tolist() == [1.0, 2.0, 3.0]
    assert len(made) == 3
    made.view()[0] = 9.0
    assert made.tolist()[0] == 9.0


def test_it_goes_on_as_it_came(no_numpy: None) -> None:
    """A node without numpy may pass an array through."""
    for dtype, shape, order, size in (
        ("<f4", (2, 3), "C", 24),
        (">i2", (2, 3), "F", 12),
        ("|b1", (4,), "C", 4),
        ("<M8[s]", (), "C", 8),
    ):
        sent = Array(dtype, shape, bytes(range(size)), order, readonly=True)
        back = arrive(sent)
        assert (back.dtype, back.shape, back.readonly, bytes(back.data)) == (dtype, shape, True, bytes(sent.data))
        assert back.order == order


def test_buffers_need_no_numpy(no_numpy: None) -> None:
    """Of native types."""
    assert arrive(array("i", [1, -2])).tolist() == [1, -2]
    assert arrive(memoryview(b"ab")).readonly
    grid = memoryview(bytearray(12)).cast("H", (2, 3))
    assert arrive(grid).shape == (2, 3)
    assert arrive(memoryview(bytearray(b"abcdef"))[::2]).tolist() == [97, 99, 101]
    with pytest.raises(TypeError, match="without numpy"):
        values.lower(memoryview(b"ab").cast("c"))


@pytest.mark.parametrize(
    ("dtype", "data", "value"),
    [("<f8", np.float64(2.5).tobytes(), 2.5), ("|b1", b"\1", True), ("<i2", b"\xff\xff", -1), ("<u4", b"\1\0\0\0", 1)],
)
def test_a_scalar_becomes_a_python_value(no_numpy: None, dtype: str, data: bytes, value: Any) -> None:
    """Where the dtype has one."""
    lifted = values.lift(tags.SCALAR, [dtype, data])
    assert lifted == value
    assert type(lifted) is type(value)


def test_a_scalar_without_python_type_is_an_array(no_numpy: None) -> None:
    """Such as a moment of datetime64."""
    lifted = values.lift(tags.SCALAR, ["<M8[s]", bytes(8)])
    assert (lifted.dtype, lifted.shape) == ("<M8[s]", ())


def test_numpy_can_take_it_over() -> None:
    """Without a copy, whatever the dtype: the array may have come before numpy was loaded."""
    structured = np.dtype([("a", "<f4"), ("b", "<i2", (2,))], align=True)
    for dtype in (np.dtype("f4"), np.dtype(">c8"), np.dtype("M8[ms]"), np.dtype("U3"), structured):
        for order in "CF":
            size = 6 * dtype.itemsize
            ours = Array(dtypes.to_wire(dtype), (2, 3), bytearray(size), order)
            theirs = np.asarray(ours)
            assert theirs.dtype == dtype
            assert theirs.shape == (2, 3)
            assert theirs.strides == ours.strides
            assert theirs.nbytes == size


def test_an_array_checks_its_bytes() -> None:
    """A shape that lies would be read beyond the end."""
    with pytest.raises(ValueError, match="do not make an array"):
        Array("<f4", (3,), bytes(11))
    with pytest.raises(ValueError, match="do not make an array"):
        Array("<f4", (1,), bytes(4), "K")
    with pytest.raises(ValueError, match="not a dtype"):
        Array("|O", (1,), bytes(8))


def test_an_array_says_what_it_cannot(no_numpy: None) -> None:
    """Rather than hand out bytes as numbers."""
    with pytest.raises(TypeError, match="no list without numpy"):
        Array("<c8", (1,), bytes(8)).tolist()
    with pytest.raises(TypeError, match="no length"):
        len(Array("<f4", (), bytes(4)))
    assert Array("<f4", (0, 3), b"").tolist() == []
    assert Array("<f4", (), bytes(4)).tolist() == 0.0
    assert "dtype='<f4'" in repr(Array("<f4", (), bytes(4)))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="PEP 688")
def test_an_array_is_a_buffer() -> None:
    """From Python 3.12 on, a class can be one."""
    assert memoryview(Array("<f4", (2,), bytes(8))).format == "f"


def test_importing_cloche_does_not_import_numpy() -> None:
    """It takes longer than everything else together."""
    code = "import sys, cloche, cloche._codec.codec; sys.exit('numpy' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, env={"PYTHONPATH": ":".join(sys.path)}).returncode
        == 0
    )
