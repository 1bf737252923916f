"""A guest's texts, log records and failures: cleaned and cut, at a cost that their size bounds, and never believed."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import cbor2
import pytest

from cloche import NodeLoadError, NodeRaisedError, ProtocolError
from cloche._sandbox.failures import raise_failure, read_failure
from cloche._sandbox.load_request import MAX_METHODS, read_info
from cloche._sandbox.logs import MAX_CHARACTERS as MAX_RECORD
from cloche._sandbox.logs import MAX_FIELDS, parse
from cloche.texts import MAX_NAME, MAX_TEXT, clean, clean_ends, line, name
from cloche_wire import Failure, Op
from cloche_wire.failure import MAX_CAUSES, MAX_CHARACTERS, MAX_FRAMES, MAX_MESSAGE, MAX_NOTES, MAX_NUMBER

NASTY = "\x1b\u202e\ud800\x9b\u2028\x00\u2066"


@pytest.mark.parametrize("character", NASTY)
@pytest.mark.parametrize("function", [clean, line, name])
def test_no_text_repaints_a_terminal(function: Callable[[str], str], character: str) -> None:
    """ANSI sequences, bidirectional overrides, line separators, surrogates."""
    cleaned = function(f"a{character}b")
    assert cleaned in (f"a\\x{ord(character):02x}b", f"a\\u{ord(character):04x}b")


@pytest.mark.parametrize("text", ["plain", "Zürich 中文 \u05d0", "a\tb\nc", "\U0001f600 \u00a0", ""])
def test_other_texts_stay(text: str) -> None:
    """Letters of every script, and in messages newlines and tabs."""
    assert clean(text) == text


def test_names_are_on_one_line() -> None:
    """A newline in a name would forge a line of the log."""
    assert name("Fine\n12:00:00 [critical ] forged\tx") == "Fine\\n12:00:00 [critical ] forged\\tx"


def test_long_texts_are_cut() -> None:
    """Names to their limit in all; messages say how much is missing."""
    assert len(name("q" * 30_000_000)) == len(name(NASTY * 1000)) == MAX_NAME
    assert name("q" * 300) == "q" * (MAX_NAME - 3) + "..."
    assert name("q" * MAX_NAME) == "q" * MAX_NAME
    assert clean("x" * (MAX_TEXT + 5)) == "x" * MAX_TEXT + "... [5 characters cut]"
    assert len(clean(NASTY * MAX_TEXT)) <= MAX_TEXT + 40


def one(**fields: Any) -> dict[str, Any]:
    return {
        "phase": "call", "type": "E", "message": "m", "frames": [], "omitted": 0, "cause": None, "explicit": False, "notes": [], **fields,
    }  # fmt: skip


def largest(text: str) -> dict[str, Any]:
    """The largest failure that passes the caps on its parts."""
    made: dict[str, Any] | None = None
    for _ in range(MAX_CAUSES + 1):
        made = one(
            type=text,
            message=text[: MAX_MESSAGE + 64],
            frames=[[text, 1 << 70, text, text]] * MAX_FRAMES,
            notes=[text] * MAX_NOTES,
            omitted=1 << 400_000,
            cause=made,
        )
    assert made is not None
    return made


def test_a_forged_failure_costs_little() -> None:
    """One of megabytes, each character of which has to be escaped, took seconds: now so many characters are looked at, and no more."""
    forged = largest(NASTY * 10_000)
    calls = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    tracemalloc.start()
    sys.setprofile(count)
    try:
        failure = read_failure(forged, loading=False)
    finally:
        sys.setprofile(None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert calls < 100 * (MAX_CAUSES + 1) * (MAX_FRAMES + MAX_NOTES)
    assert peak < 40 * MAX_CHARACTERS
    assert len(failure.format()) < 8 * MAX_CHARACTERS


def test_numbers_of_a_failure_are_bounded() -> None:
    """Printing a number of a million digits takes longer than anybody waits."""
    failure = Failure.from_wire(
        one(frames=[["f", 1 << 80, "g", "t"], ["f", -5, "g", "t"], ["f", True, "g", "t"]], omitted=1 << 80)
    )
    assert [frame.line for frame in failure.frames] == [MAX_NUMBER, 0, 1]
    assert type(failure.frames[2].line) is int
    assert failure.omitted == MAX_NUMBER


@pytest.mark.parametrize(
    "value",
    [
        None, [], {}, "text", one(cause=[]), one(frames=[[1, 2, 3, 4]]), one(frames=[[]] * (MAX_FRAMES + 1)), one(notes=[b"n"]),
        one(notes=["n"] * (MAX_NOTES + 1)), one(message="m" * (MAX_MESSAGE + 65)), one(omitted=1.5), one(explicit=1), one(phase=None),
        one(cause=one(cause=one(notes=[None]))),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_is_no_failure_breaks_the_protocol(value: Any) -> None:
    """The guest's runtime makes none of these."""
    with pytest.raises(ProtocolError, match="malformed failure"):
        raise_failure(value, "n")


def test_a_chain_without_end_is_refused() -> None:
    """Deeper than any that the guest sends."""
    value = None
    for _ in range(10_000):
        value = one(cause=value)
    with pytest.raises(ProtocolError, match="MAX_CAUSES"):
        raise_failure(value, "n")


@pytest.mark.parametrize("phase", ["compile", "init", "call", "encode", "nonsense", "x" * 100_000])
def test_the_operation_decides_the_error(phase: str) -> None:
    """A guest that lies about what it was doing makes neither a load error of a call nor the reverse."""
    with pytest.raises(NodeRaisedError) as raised:
        raise_failure(one(phase=phase, cause=one(phase=phase)), "n", Op.PROCESS)
    assert raised.value.failure.phase in ("call", "encode")
    with pytest.raises(NodeLoadError) as failed:
        raise_failure(one(phase=phase), "n", Op.LOAD)
    assert failed.value.phase in ("compile", "import", "entry", "init")


def record(extra: Any, message: str = "m", logger: str = "l") -> Any:
    records, refused = parse([cbor2.dumps([20, logger, message, extra, None, 0])], 1)
    return None if refused else records[0]


def test_fields_of_a_log_record_are_bounded_together() -> None:
    """So many keys, so deep, so many characters, escapes included."""
    fields = record({f"{NASTY[:2]}{i}" * 100: ["\x1b" * 1000] * 10 for i in range(100)}).fields
    assert len(fields) <= MAX_FIELDS
    assert len(str(fields)) < 4 * MAX_RECORD
    deep: Any = "bottom"
    for _ in range(6):
        deep = [deep]
    assert "bottom" in str(record({"k": deep}).fields)


def test_a_loggers_name_is_a_name() -> None:
    """It stands in front of each line."""
    assert record({}, logger="a\nb" + "c" * 1000).logger == name("a\nb" + "c" * 1000)


def output(*pieces: tuple[int, bytes]) -> list[tuple[str, str]]:
    records, refused = parse([cbor2.dumps(list(piece)) for piece in pieces], 1)
    assert not refused
    return [(one.logger, one.message) for one in records]


def test_what_is_written_in_pieces_is_lines() -> None:
    """C prints a line word by word. The two streams do not mix, and a line without an end arrives as well."""
    assert output((2, b"Fatal "), (1, b"so"), (2, b"error: "), (2, b"x\n"), (1, b" far"), (2, b"\n"), (2, b"end")) == [
        ("stderr", "Fatal error: x"),
        ("stderr", ""),
        ("stdout", "so far"),
        ("stderr", "end"),
    ]
    assert output((1, b"a\nb\nc"), (1, b"d\n")) == [("stdout", "a\nb"), ("stdout", "cd")]
    assert output((1, "\u00e9".encode()[:1]), (1, "\u00e9".encode()[1:] + b"\n")) == [("stdout", "\u00e9")]


def test_a_line_without_an_end_makes_no_more_records_than_pieces() -> None:
    """And loses nothing of them."""
    found = output(*[(1, b"x" * 1000)] * 100)
    assert len(found) <= 100
    assert "".join(message for _, message in found) == "x" * 100_000
    assert len(output(*[(1, b"\n" * 4096)] * 10)) == 10


INFO = {
    "entry": "N",
    "kind": "class",
    "is_streaming": False,
    "is_source": False,
    "is_sink": False,
    "methods": ["process"],
}


def test_what_a_guest_says_of_its_entry_is_cut() -> None:
    """`Node.info` and `Node.name` are kept as long as the node, and printed with every record."""
    assert read_info(INFO) == INFO
    info = read_info({**INFO, "entry": "q\x1b" * 30_000_000, "methods": ["m" * 10_000], "more": bytes(1000)})
    assert info is not None
    assert (len(info["entry"]), len(info["methods"][0])) == (MAX_NAME, MAX_NAME)
    assert set(info) == set(INFO)


@pytest.mark.parametrize(
    "changes",
    [{"entry": b"N"}, {"kind": "module"}, {"methods": [1]}, {"methods": ["m"] * (MAX_METHODS + 1)}, {"is_sink": 1}],
)
def test_what_describes_no_entry_is_refused(changes: dict[str, Any]) -> None:
    """Types are checked, and the number of methods."""
    assert read_info({**INFO, **changes}) is None


def test_of_a_long_traceback_the_beginning_and_the_end_are_kept() -> None:
    """What was called, and what was raised."""
    text = "first\n" + "middle\n" * 1000 + "last\x1b\n"
    assert clean_ends(text, 40) == "first\nmidd\n  [6974 characters left out]\n\nmiddle\nmiddle\nmiddle\nlast\\x1b"
    assert clean_ends("short\x1b\n", 40) == "short\\x1b"
