"""logging, warnings and print as records: all of them, in order, plain and bounded."""

from __future__ import annotations

import io
import logging
import sys
import time

import pytest

from cloche_guest.plain import Budget, plain
from cloche_guest.streams import LineStream
from cloche_wire import Op, Reply
from tests.guest.logging_setups import SETUPS

RUN = "import logging, sys, warnings, io\nlog = logging.getLogger('L')\ndef N(code): exec(code, globals())"


@pytest.fixture
def say(load):
    """Runs a statement in a node; the records that it left."""
    bench = load(RUN)

    def run(code):
        bench.records.clear()
        bench.process(code)
        return bench.records

    run.bench = bench
    return run


def test_record_is_level_logger_message_extra_exception_time(say):
    """The six fields of docs/reference/wire.md."""
    before = time.time_ns()
    (record,) = say("log.warning('a %s', 1, extra={'k': [1, 'v']})")
    assert record[:5] == [30, "L", "a 1", {"k": [1, "v"]}, None]
    assert before - 10**9 < record[5] <= time.time_ns()


@pytest.mark.filterwarnings("default")
def test_logging_print_and_warnings_keep_their_order(say):
    """They share one way out."""
    records = say(
        "print('a'); log.info('b'); print('c', file=sys.stderr); warnings.warn('d'); sys.stdout.write('e\\nf\\n')"
    )
    assert [record[:3] for record in records] == [
        [20, "stdout", "a"], [20, "L", "b"], [30, "stderr", "c"], [30, "py.warnings", "UserWarning: d"], [20, "stdout", "e"], [20, "stdout", "f"],
    ]  # fmt: skip


@pytest.mark.filterwarnings("default")
def test_warning_names_category_file_and_line(say):
    """RemoteMemory its text; the node's own deprecations are shown."""
    (record,) = say("warnings.warn('old', DeprecationWarning)")
    assert record[2] == "DeprecationWarning: old"
    assert record[3] == {"category": "DeprecationWarning", "file": "<string>", "line": 1}


def test_exception_text(say):
    """The traceback as Python prints it, without frames of the runtime."""
    (record,) = say("try: 1 / 0\nexcept ZeroDivisionError: log.exception('failed')")
    lines = [
        line for line in record[4].splitlines() if not line.startswith("    ")
    ]  # 3.13 knows a source of "<string>"
    assert lines == [
        "Traceback (most recent call last):",
        '  File "<string>", line 1, in <module>',
        "ZeroDivisionError: division by zero",
    ]


def test_exception_text_of_a_hostile_exception(say):
    """Its str() is the node's code."""
    (record,) = say(
        "class E(Exception):\n def __str__(self): raise RuntimeError\ntry: raise E\nexcept E: log.exception('failed')"
    )
    assert record[4].endswith("node.E: <str() of it raised RuntimeError>")


def test_stack_info(say):
    """It goes where the exception's text goes."""
    (record,) = say("log.info('here', stack_info=True)")
    assert record[4].startswith("Stack (most recent call last):")


def test_records_below_the_threshold_are_never_formatted(bench):
    """Not even by a logger with a level of its own; print obeys too."""
    bench.load(RUN, log_level=30)
    bench.process(
        "class Loud:\n def __str__(self): raise AssertionError\nlog.setLevel(1)\nlog.info('%s', Loud())\nprint('quiet')\nlog.warning('kept')"
    )
    assert bench.messages() == [("L", "kept")]
    assert bench.process("assert not logging.getLogger('other').isEnabledFor(29)") is None


def test_debug_is_delivered_when_asked_for(bench):
    """The root logger's default would hide it."""
    bench.load(RUN, log_level=10)
    bench.process("log.debug('d')")
    assert bench.messages() == [("L", "d")]


def test_arguments_that_do_not_fit_leave_the_record(say):
    """As CPython goes on after a logging error."""
    (record,) = say("log.error('%d items', 'many')")
    assert record[2].startswith("%d items [arguments do not fit: TypeError")
    (record,) = say("class L:\n def __str__(self): raise ValueError('x')\nlog.error(L())")
    assert "ValueError" in record[2]


@pytest.mark.parametrize(
    ("extra", "expected"),
    [("{'o': object}", {"o": "<class 'object'>"}), ("{'d': {1: 2, 'k': None}}", {"d": {"1": 2, "k": None}}),
     ("{'t': (1, True, 1.5)}", {"t": [1, True, 1.5]}), ("{'i': 10**30}", {"i": str(10**30)}), ("{'b': b'x'}", {"b": "b'x'"}),
     ("{'deep': [[[[[[1]]]]]]}", {"deep": [[[["<list of 1>"]]]]}), ("{'s': '\\udc80'}", {"s": "\\udc80"}),
     ("{'bad': type('B', (), {'__repr__': lambda s: 1 / 0})()}", {"bad": "<repr() of it raised ZeroDivisionError>"}),
     ("{'bad': type('B', (), {'__repr__': lambda s: exit()})()}", {"bad": "<repr() of it raised SystemExit>"})],
    ids=["object", "dict", "tuple", "big int", "bytes", "deep", "surrogate", "bad repr", "exits"],
)  # fmt: skip
def test_extra_fields_become_plain(say, extra, expected):
    """So that emitting a record cannot fail."""
    (record,) = say(f"log.info('m', extra={extra})")
    assert record[2:4] == ["m", expected]


def test_extra_fields_are_capped(say):
    """In number, in size, and together."""
    (record,) = say("log.info('m', extra={f'k{i}': i for i in range(1000)})")
    assert len(record[3]) == 65
    assert record[3]["..."] == "<936 more>"
    (record,) = say("log.info('m', extra={'k': 'x' * 10**6, 'l': list(range(10**5))})")
    assert len(record[3]["k"]) < 2100
    assert len(record[3]["l"]) == 65


def test_record_is_capped_at_log_bytes(say):
    """Message, exception text and fields share the budget (4096 here)."""
    (record,) = say("log.info('m' * 10**6, extra={'k': 'x' * 10**6})")
    assert len(record[2]) + sum(map(len, record[3].values())) < 4300
    assert record[2].endswith("[995904 characters cut: log_bytes=4096]")


def test_plain_numbers_are_kept_and_others_described():
    """Exact types only: a subclass may do anything."""
    budget = Budget(1000)
    assert [plain(x, budget) for x in (None, True, -5, 2.5, 2**63 - 1)] == [None, True, -5, 2.5, 2**63 - 1]
    assert plain(2**63, budget) == "9223372036854775808"
    assert plain(type("I", (int,), {})(3), budget) == "3"


def test_partial_lines_are_joined_and_flushed_at_the_end_of_the_call(say):
    """A record is a line."""
    assert [record[2] for record in say("print('a', end=''); print('b'); print('c', end='')")] == ["ab", "c"]
    assert [record[2] for record in say("print('d')")] == ["d"]


def test_partial_line_of_a_failed_call_is_flushed(say):
    """What a node said before it raised matters most."""
    with pytest.raises(AssertionError):
        say("print('last words', end=''); 1 / 0")
    assert say.bench.messages() == [("stdout", "last words")]


def test_endless_line_is_sent_in_pieces(say):
    """It is not kept for ever."""
    records = say("for _ in range(100): print('x' * 1000, end='')")
    assert sum(len(record[2]) for record in records) == 100_000
    assert max(len(record[2]) for record in records) <= 9000 + 1000


def test_output_is_counted_in_bytes_before_anything_is_kept(say):
    """Empty lines, non-ASCII text and dropped records count as well."""
    say.bench.output = 0
    say("print('aé\\u20ac'); sys.stderr.write('\\n\\n'); sys.stdout.buffer.write(b'123')")
    assert say.bench.output == 1 + 2 + 3 + 1 + 2 + 3


def test_byte_stream_decodes_across_writes(say):
    """sys.stdout.buffer takes UTF-8 in any pieces, and anything else as escapes."""
    assert [
        record[2]
        for record in say("b = sys.stdout.buffer; b.write(b'\\xe2\\x82'); b.write(b'\\xac\\n'); b.write(b'\\xff\\n')")
    ] == ["€", "\\xff"]


def test_stdin_is_at_its_end(load):
    """input() says so."""
    bench = load("import sys\ndef N(x): return [sys.stdin.read(), sys.stdin.readline(), input()]")
    assert bench.failure(0)["type"] == "EOFError"


def test_streams_behave_like_text_files(bench):
    """What libraries ask of stdout."""
    stream = LineStream(bench, 1, logging.INFO, set())
    assert (stream.encoding, stream.isatty(), stream.writable(), stream.readable()) == ("utf-8", False, True, False)
    with pytest.raises(io.UnsupportedOperation):
        stream.fileno()
    with pytest.raises(TypeError, match="must be str, not bytes"):
        stream.write(b"x")
    stream.writelines(["a\n", "b"])
    stream.flush()
    stream.close()
    print("after", file=stream)
    assert bench.messages() == [("stdout", "a"), ("stdout", "b"), ("stdout", "after")]


def test_a_record_that_the_host_refuses_is_sent_once_more(say):
    """Logging never breaks a node."""
    emit, failed = say.bench.emit, []

    def flaky(record):
        if not failed:
            failed.append(record)
            raise TypeError("record: no")
        emit(record)

    say.bench.guest.logs.writer._host = type("H", (), {"emit": staticmethod(flaky)})()
    assert [record[:3] for record in say("log.info('m')")] == [[20, "L", "m"]]


RAISES = (
    "class Raises:\n def __str__(self): raise ValueError('no')\n __int__ = __float__ = __mul__ = __bool__ = __str__\n"
)


@pytest.mark.parametrize(
    ("attribute", "value", "index", "shown"),
    [
        ("name", "Raises()", 1, "<str() of it raised ValueError>"),
        ("levelno", "float('inf')", 0, 40),
        ("msg", "Raises()", 2, "<str() of it raised ValueError> [arguments do not fit: ValueError: no]"),
        ("args", "Raises()", 2, "m [arguments do not fit: ValueError: no]"),
        ("exc_text", "Raises()", 4, "<it raised ValueError: no>"),
        ("stack_info", "Raises()", 4, "<it raised ValueError: no>"),
        ("exc_info", "5", 4, "<it raised TypeError: 'int' object is not subscriptable>"),
    ],
)
def test_a_part_of_a_record_that_raises_costs_that_part_alone(say, attribute, value, index, shown):
    """Level, logger, message and extra fields arrive, and what is in place of the part says why."""
    expected = [30, "L", "m", {"k": 1}, None]
    expected[index] = shown
    code = f"{RAISES}record = log.makeRecord('L', 30, 'f', 1, 'm', (), None, extra={{'k': 1}})\nrecord.{attribute} = {value}\n"
    assert [record[:5] for record in say(f"{code}log.handle(record)")] == [expected]


def test_a_record_without_a_time_has_one(say):
    """The time of its sending."""
    (record,) = say(
        "record = log.makeRecord('L', 30, 'f', 1, 'm', (), None)\nrecord.created = 'now'\nlog.handle(record)"
    )
    assert record[:5] == [30, "L", "m", None, None]
    assert abs(time.time_ns() - record[5]) < 3600e9


def test_limits_reach_the_host_side(bench):
    """LOAD hands them on."""
    bench.load(RUN)
    assert bench.configured == (1 << 20, 1 << 20, 1000, 64, 1000)
    assert bench.send(Op.INVOKE, "cleanup") == (Reply.RESULT, None)


LEVELS = {40: "error", 30: "warning", 20: "info", 10: "debug"}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("case", [case for case, (_, expected) in SETUPS.items() if expected is not None])
def test_each_record_arrives_once_whatever_the_node_does_to_logging(say, case):
    """With level, logger and extra fields, and no text of a handler that says the same again."""
    program, expected = SETUPS[case]
    assert [(LEVELS[level], *rest) for level, *rest in (record[:4] for record in say(program))] == expected


@pytest.mark.filterwarnings("default")
def test_captured_warning_arrives_once(say):
    """As `logging.captureWarnings` words it."""
    (record,) = say(SETUPS["captureWarnings"][0])
    assert record[:2] == [30, "py.warnings"]
    assert "UserWarning: old" in record[2]


def test_stdout_around_its_own_bytes(say):
    """Nodes choose an encoding so. The stream is not ours any more, and a record in it still arrives once."""
    try:
        records = say(SETUPS["stdout in another encoding"][0])
    finally:
        sys.stdout = sys.__stdout__
    assert [record[:3] for record in records] == [[20, "stdout", "ä"], [30, "L", "a 1"]]


def test_logging_of_the_node_lasts_from_call_to_call_and_leaves_the_host_alone(load):
    """What a module configures at import holds in its calls; this process's logging is as it was."""
    host = logging.getLogger("of the host")
    before = (
        logging.root.level,
        logging.root.handlers,
        logging.Logger.callHandlers,
        logging.getLoggerClass(),
        host.disabled,
    )
    bench = load(
        "import logging, logging.config\nclass Mine(logging.Logger): pass\nlogging.setLoggerClass(Mine)\nlogging.config.dictConfig({'version': 1, 'root': {'level': 'ERROR'}})\n"
        "def N(x):\n logging.info('a')\n logging.error('b')\n return [type(logging.getLogger('n')).__name__, logging.root.level]"
    )
    assert (
        logging.root.level,
        logging.root.handlers,
        logging.Logger.callHandlers,
        logging.getLoggerClass(),
        host.disabled,
    ) == before
    assert [bench.process(0), bench.process(0)] == [["Mine", 40]] * 2
    assert bench.messages() == [("root", "b")] * 2
    assert logging.getLogger("of the host") is host


def test_flushed_line_without_an_end_is_held_for_the_host(say):
    """Should the sandbox break, it is there; the line that it becomes is one record."""
    bench = say.bench
    records = say("print('so', end='', flush=True); print(' far', end=''); print('!')")
    assert [record[2] for record in records] == ["so far!"]
    assert bench.held == {1: None}
    say("print('x', end='', file=sys.stderr, flush=True); log.info('between')")
    assert bench.messages() == [("L", "between"), ("stderr", "x")]
    assert bench.held == {1: None, 2: None}


def test_flushed_line_is_held_as_a_record(bench):
    """One record for each stream, replaced at each flush; the rest of the line that was not flushed is not in it."""
    stream = LineStream(bench, 1, logging.INFO, set())
    print("a", end="", file=stream, flush=True)
    print("b", end="", file=stream, flush=True)
    print("c", end="", file=stream)
    assert bench.held[1][:3] == [20, "stdout", "ab"]
    assert bench.messages() == []
    print(file=stream)
    assert (bench.held[1], bench.messages()) == (None, [("stdout", "abc")])
    print("y" * 5000, end="", file=stream, flush=True)
    assert bench.messages() == [("stdout", "y" * 5000)], "what is too long to be held is sent"


def test_what_another_text_stream_keeps_is_sent_when_the_call_ends(say):
    """Nodes put streams with another encoding around stdout's bytes; natively the end of the program flushes them."""
    try:
        records = say("sys.stdout = io.TextIOWrapper(sys.stdout.buffer, 'utf-8'); print('kept'); print('part', end='')")
    finally:
        sys.stdout = sys.__stdout__
    assert [record[:3] for record in records] == [[20, "stdout", "kept"], [20, "stdout", "part"]]
    assert [record[2] for record in say("print('next')")] == ["next"]
