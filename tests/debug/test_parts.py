"""The parts of the debugger that need no node: frames of the protocol, paths, places, and what a guest's words may be."""

from __future__ import annotations

import io
from typing import Any

import pytest

from cloche.debug import _events, _framing
from cloche.debug._breakpoints import Breakpoints, FunctionPoint, LinePoint
from cloche.debug._paths import Paths, fits
from cloche.errors import ProtocolError


def test_frames_there_and_back() -> None:
    """Several in a row; headers besides the length are ignored, in any case of letters."""
    messages = [{"seq": 1, "text": "é\n\0"}, {"seq": 2}]
    data = b"".join(map(_framing.frame, messages)).replace(b"Content-Length", b"X-Other: 1\r\ncontent-length", 1)
    stream = io.BytesIO(data)
    assert [_framing.read_message(stream) for _ in range(3)] == [*messages, None]


@pytest.mark.parametrize(
    "data",
    [
        b"Content-Length: 5\r\n\r\n{}", b"Content-Length: x\r\n\r\n{}", b"Content-Length: \xb2\r\n\r\n{}", b"\r\n{}", b"nothing\r\n\r\n",
        b"Content-Length: 2", b"Content-Length: 4\r\n\r\nnull", b"A: " + b"x" * 5000, b"A: 1\r\n" * 2000,
        b"Content-Length: 100000\r\n\r\n" + b"[" * 100_000, b"Content-Length: 4\r\n\r\n\xff\xff\xff\xff",
    ],
)  # fmt: skip
def test_what_is_no_frame(data: bytes) -> None:
    """It is refused, with the same error whatever it is."""
    with pytest.raises(_framing.FramingError):
        _framing.read_message(io.BytesIO(data))


@pytest.mark.parametrize(
    ("path", "file", "does"),
    [
        ("/srv/u/nodes.py", "nodes.py", True),
        ("C:\\work\\pkg\\nodes.py", "pkg/nodes.py", True),
        ("/srv/u/my_nodes.py", "nodes.py", False),
        ("/srv/u/pkg/a.py", "pkg/b.py", False),
        ("/site/granted/mod.py", "/packages/granted/granted/mod.py", True),
        ("<node>", "<node>", True),
        ("/srv/u/<node>", "<node>", False),
        ("/srv/u/nodes.py", "", False),
    ],
)
def test_paths_fit(path: str, file: str, does: bool) -> None:
    assert fits(path, file) is does


def test_paths_of_an_editor() -> None:
    """Known ones, mapped ones, those of breakpoints; and numbers for sources without any."""
    paths = Paths({"known.py": "/k/known.py"})
    paths.map([("/local/src", "."), ("/other/", "/packages/p/")])
    assert paths.to_editor("known.py") == "/k/known.py"
    assert paths.to_guest("/local/src/pkg/a.py") == "pkg/a.py"
    assert paths.to_editor("pkg/a.py") == "/local/src/pkg/a.py"
    assert paths.to_guest("/other/x.py") == "/packages/p/x.py"
    assert paths.to_editor("/packages/p/y.py") == "/other/y.py"
    assert paths.to_editor("<node>") is None
    number = paths.number("<node>")
    assert (paths.number("<node>"), paths.numbered(number), paths.numbered(99)) == (number, "<node>", None)


def test_breakpoints_have_numbers_and_places() -> None:
    """A file's breakpoints are replaced as a whole, and new ones have new numbers."""
    points = Breakpoints()
    points.set_lines("a.py", [LinePoint(1), LinePoint(5, "x", "2", "m")])
    points.set_functions([FunctionPoint("f", "y")])
    assert points.to_guest() == {
        "lines": {"a.py": [[1, 1, "", "", ""], [2, 5, "x", "2", "m"]]},
        "functions": [[3, "f", "y", ""]],
        "raised": False,
        "uncaught": False,
    }
    points.place([_events.Placed(1, 2, ""), _events.Placed(2, 0, "no"), _events.Placed(9, 9, "")])
    assert [(row.placed, row.problem) for row in points.lines["a.py"]] == [(2, ""), (0, "no")]
    version = points.version
    points.set_lines("a.py", [])
    assert (points.lines, points.version > version) == ({}, True)


BAD: list[tuple[Any, Any]] = [
    (_events.read_stop, {"reason": "?", "text": "", "points": []}),
    (_events.read_stop, {"reason": "step", "text": b"", "points": []}),
    (_events.read_stop, {}),
    (_events.read_frames, [1, [["f", "x.py", "1", True]]]),
    (_events.read_frames, [1, [["f", "x.py", 1, 1]]]),
    (_events.read_frames, [1, [["f", "x.py", 1, True]] * 201]),
    (_events.read_frames, 7),
    (_events.read_scopes, [["Locals", 1]]),
    (_events.read_scopes, "Locals"),
    (_events.read_variables, [["a", "1", "int", 0, None]]),
    (_events.read_variables, [[1, "1", "int", 0, 0]]),
    (_events.read_variable, ["1", "int", 0]),
    (_events.read_names, None),
    (_events.read_placed, [[1, 2]]),
    (_events.read_placed, {"a": 1}),
    (_events.read_error, ["E"]),
]


@pytest.mark.parametrize(("read", "value"), BAD)
def test_malformed_words_of_a_guest(read: Any, value: Any) -> None:
    with pytest.raises(ProtocolError, match="malformed"):
        read(value)


def test_words_of_a_guest_are_cut_and_cleaned() -> None:
    """They end up on a terminal, or in an editor."""
    stop = _events.read_stop(
        {
            "reason": "step",
            "text": "\x1b[2J" + "x" * 10**6,
            "points": [-1, 10**30, "x", 3],
            "count": -5,
            "also": ["step"],
        }
    )
    assert "\x1b" not in stop.text
    assert len(stop.text) < 20_000
    assert (stop.points, stop.count, stop.also) == ((0, 0, 0, 3), 0, "")
    (_, (frame,)) = _events.read_frames([10**40, [["f\n\u202e", "x" * 10**5, -3, True]]])
    assert ("\n" in frame.name, "\u202e" in frame.name, len(frame.file), frame.line) == (False, False, 200, 0)
