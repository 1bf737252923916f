"""Everything a node says reaches the host's logger: in order, tied to node and call, and harmless."""

from __future__ import annotations

import logging

import pytest

import cloche
from tests.guest.logging_setups import SETUPS
from tests.limits import patient

TALKER = """
import logging, warnings, sys
log = logging.getLogger("Talker")

class N:
    def __init__(self):
        self.logger = logging.getLogger(type(self).__name__)
        self.logger.info("made")
    def process(self, what):
        exec(what)
        return what
"""


@pytest.fixture
def talk(load, logs):
    """Run a statement in a node; the events that it logged."""
    node = load(TALKER, name="talker")
    assert [event[:2] for event in logs.take()] == [("info", "made")]

    def run(statement):
        node.process(statement)
        return logs.take()

    run.node = node
    return run


def test_levels_order_and_names(talk):
    """Level, logger, message, node and call of each record."""
    events = talk("log.warning('one %s', 1)\nself.logger.info('two')\nlog.error('three')\nlogging.critical('four')")
    assert events == [
        ("warning", "one 1", {"node": "talker", "call": 2, "logger": "Talker"}),
        ("info", "two", {"node": "talker", "call": 2, "logger": "N"}),
        ("error", "three", {"node": "talker", "call": 2, "logger": "Talker"}),
        ("critical", "four", {"node": "talker", "call": 2, "logger": "root"}),
    ]


def test_print_and_logging_keep_their_order(talk):
    """Both go through the same ring."""
    events = talk("print('a'); log.info('b'); print('c', file=sys.stderr); log.info('d'); print('e', end='')")
    assert [(message, fields["logger"]) for _, message, fields in events] == [
        ("a", "stdout"), ("b", "Talker"), ("c", "stderr"), ("d", "Talker"), ("e", "stdout"),
    ]  # fmt: skip


def test_warnings_arrive(talk):
    """With category and message."""
    (event,) = talk("warnings.warn('old style', DeprecationWarning)")
    assert event[0] == "warning"
    assert "DeprecationWarning" in event[1]
    assert "old style" in event[1]


def test_extra_fields_nest_so_that_they_forge_nothing(talk):
    """A guest's `event`, `level` or `node` is only the guest's."""
    (event,) = talk(
        "log.info('x', extra={'event': 'forged', 'level': 'critical', 'node': 'other', 'size': 3, 'deep': {'a': [1]}})"
    )
    assert event[:2] == ("info", "x")
    assert event[2]["node"] == "talker"
    assert event[2]["guest"] == {"event": "forged", "level": "critical", "node": "other", "size": 3, "deep": {"a": [1]}}


def test_exception_text(talk):
    """log.exception carries the traceback."""
    (event,) = talk("try:\n    1 / 0\nexcept ZeroDivisionError:\n    log.exception('failed')")
    assert event[0] == "error"
    assert event[2]["exception"].endswith("ZeroDivisionError: division by zero")


def test_records_below_the_level_stay_in_the_guest(load, logs):
    """Filtered before they are formatted."""
    node = load(TALKER, limits=patient(log_level=logging.WARNING))
    node.process(
        "class Loud:\n    def __str__(self): raise RuntimeError('formatted')\nlog.info('%s', Loud())\nlog.warning('kept')"
    )
    assert [event[:2] for event in logs.take()] == [("warning", "kept")]


def test_records_are_delivered_after_a_failure(load, logs):
    """What a node said before it raised matters most."""
    node = load(TALKER)
    logs.take()
    with pytest.raises(cloche.NodeRaisedError):
        node.process("log.info('before'); raise ValueError")
    assert [event[1] for event in logs.take()] == ["before"]


@pytest.mark.parametrize(
    "end", ["import os; os.abort()", "import os; os._exit(1)", "while True: pass"], ids=["trap", "exit", "deadline"]
)
def test_records_are_delivered_after_the_instance_broke(load, logs, end):
    """The ring lies in linear memory, which outlives a trap; the error has them too."""
    node = load(TALKER, limits=cloche.Limits(deadline_s=1.0 if "while" in end else 20, grace_s=0))
    logs.take()
    with pytest.raises(cloche.BrokenInstanceError) as caught:
        node.process(
            f"log.info('last words'); print('and print'); {end}"
            if "while" not in end
            else f"log.info('last words'); print('and print')\n{end}"
        )
    assert [event[1] for event in logs.take()] == ["last words", "and print"]
    assert [record.message for record in caught.value.last_logs] == ["last words", "and print"]


def test_control_and_bidi_characters_are_shown_not_sent(talk):
    """A log line cannot repaint the terminal or reorder itself."""
    (event,) = talk(r"log.info('a\x1b[31mred\x07\u202eback\r')")
    assert event[1] == r"a\x1b[31mred\x07\u202eback\x0d"


def test_formatting_errors_do_not_break_the_node(talk):
    """As in CPython: the node goes on."""
    talk("log.info('%d', 'text')")
    assert talk.node.process("pass") == "pass"


def test_flood_is_cut_counted_and_leaves_the_node_usable(load, logs):
    """The newest are kept; the count of the rest arrives."""
    node = load(TALKER, limits=patient(log_records=10))
    logs.take()
    node.process("for i in range(5000): log.info('line %d', i)")
    events = logs.take()
    assert [event[1] for event in events[:-1]] == [f"line {i}" for i in range(4990, 5000)]
    assert "4990 of 5000 log records dropped (log_records=10" in events[-1][1]
    assert node.stats.dropped_records == 4990


def test_huge_record_is_cut(talk):
    """log_bytes bounds one record."""
    (event,) = talk("log.info('x' * 10**7)")
    assert len(event[1]) < 70_000


@pytest.mark.parametrize(
    "extra",
    ["{f'k{i}': i for i in range(10_000)}", "{'o': object()}", "{'n': (lambda f: f(f, 200))(lambda f, n: [f(f, n-1)] if n else 0)}",
     "{'big': 10**3000}", "{'b': b'x' * 10**6}", "{1: 2}", "{'sur\\udc80': '\\udc80'}"],
    ids=["many", "object", "deep", "bigint", "bytes", "int key", "surrogate"],
)  # fmt: skip
def test_odd_extras_never_lose_the_record(talk, extra):
    """They are cut or shown by repr; the message arrives."""
    events = talk(
        f"log.info('kept', extra={extra})"
        if not extra.startswith("{1")
        else f"log.handle(logging.makeLogRecord({{'msg': 'kept', 'levelno': 20, **{{'x': {extra}}}}}))"
    )
    assert [event[1] for event in events] == ["kept"]


def test_print_of_partial_lines_joins_them(talk):
    """One record a line, however it was written."""
    events = talk("print('a', end=''); print('b', end=''); print('c')")
    assert [event[1] for event in events] == ["abc"]


@pytest.mark.isolation("none", reason="a worker has the same image")
@pytest.mark.parametrize("case", [case for case, (_, expected) in SETUPS.items() if expected is not None])
def test_each_record_arrives_once_whatever_the_node_does_to_logging(load, logs, case):
    """With level, logger and extra fields, and no text of a handler that says the same again."""
    program, expected = SETUPS[case]
    load("import logging, sys, warnings, io\nlog = logging.getLogger('L')\ndef N(code): exec(code, globals())").process(
        program
    )
    assert [(level, keys["logger"], message, keys.get("guest")) for level, message, keys in logs.take()] == expected


FLUSHED = (
    "print('said', end='', flush=True); print(' more', end='', file=sys.stderr, flush=True); print('lost', end='')"
)


@pytest.mark.parametrize(
    ("end", "limits"),
    [("import os; os._exit(1)", {}), ("import os; os.abort()", {}), ("while True: pass", {"deadline_s": 0.3, "grace_s": 0}),
     ("print('x' * 10**6)", {"output_bytes": 10_000})],
    ids=["exit", "trap", "deadline", "output"],
)  # fmt: skip
def test_flushed_line_without_an_end_is_delivered_after_a_break(load, logs, end, limits):
    """And what was not flushed is lost, as natively."""
    node = load(TALKER, limits=patient(**limits))
    logs.take()
    with pytest.raises(cloche.BrokenInstanceError) as caught:
        node.process(f"log.info('first'); {FLUSHED}\n{end}")
    said = [(keys["logger"], message) for _, message, keys in logs.take()]
    assert said == [("Talker", "first"), ("stdout", "said"), ("stderr", " more")]
    assert [(record.logger, record.message) for record in caught.value.last_logs] == said


def test_flushed_line_is_one_record_while_the_node_lives(talk):
    """However often it is flushed, and after an exception as well."""
    events = talk("for c in 'abc': print(c, end='', flush=True)\nprint()")
    assert [event[1] for event in events] == ["abc"]
    with pytest.raises(cloche.NodeRaisedError):
        talk("print('half', end='', flush=True); 1 / 0")
    assert [event[1] for event in talk("print('next')")] == ["half", "next"]


def test_flushed_line_before_a_deadline_comes_once(load, logs):
    """The interrupted call ends it, and the next call begins a new one."""
    node = load(TALKER, limits=patient(deadline_s=0.3))
    logs.take()
    with pytest.raises(cloche.DeadlineError):
        node.process("print('half', end='', flush=True)\nwhile True: pass")
    node.process("print('next')")
    assert [event[1] for event in logs.take()] == ["half", "next"]
