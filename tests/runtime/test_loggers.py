"""Where log records go: loggers of `logging` and structlog, stderr; and nothing that they do costs an answer."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

import cloche
from cloche._runtime.runtime import Isolation
from tests.limits import patient

TALKING = """
import logging
log = logging.getLogger("Talker")
class N:
    count = 0
    def process(self, what):
        self.count += 1
        exec(what)
        return self.count
"""
SAYING = "log.warning('hello %s', 'Ada', extra={'length': 3})"

Talk = Callable[..., Any]


@pytest.fixture
def talk(isolation: Isolation) -> Iterator[Talk]:
    """Run a statement in a node of a runtime with that logger; the node's answer."""

    def run(logger: Any, what: str) -> Any:
        with (
            cloche.Runtime(logger=logger, limits=patient(), isolation=isolation) as runtime,
            runtime.load(cloche.Source(TALKING, "node.py"), name="talker") as node,
        ):
            return node.process(what)

    return run


class Kept(logging.Handler):
    """Keeps its records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.records.append(record)


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def standard(kept: Kept) -> logging.Logger:
    """A logger of its own, which is in no tree."""
    logger = logging.getLogger("service.nodes")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.handlers, logger.filters = [], []
    logger.addHandler(kept)
    return logger


# ---- logging
def test_a_standard_logger_gets_the_records(talk: Talk, standard: logging.Logger, kept: Kept) -> None:
    """With their level, and with everything of the guest below one attribute."""
    talk(standard, f"{SAYING}\nprint('a line'); log.critical('100 % of %s')")
    records = [(record.name, record.levelname, record.getMessage()) for record in kept.records]
    assert records == [
        ("service.nodes", "WARNING", "hello Ada"),
        ("service.nodes", "INFO", "a line"),
        ("service.nodes", "CRITICAL", "100 % of %s"),
    ]
    assert kept.records[0].cloche == {"node": "talker", "call": 2, "logger": "Talker", "guest": {"length": 3}}


def test_a_guest_forges_no_attribute_of_a_record(talk: Talk, standard: logging.Logger, kept: Kept) -> None:
    """Its extra fields may have any name."""
    names = ["levelno", "exc_info", "args", "name", "message", "cloche", "pathname", "__class__", "getMessage"]
    what = (
        "record = logging.LogRecord('Talker', 20, '', 0, 'said', (), None)\n"
        f"import logging\nfor name in {names!r}: log.info(name, extra={{'x_' + name: 1}})\n"
        f"log.handle(type('R', (logging.LogRecord,), {{}})('T', 20, '', 0, 'said %s', (), None))"
    )
    talk(standard, f"import logging\n{what}")
    plain = set(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"cloche"}
    by_formatters = {"taskName", "message", "asctime"}
    assert {name for record in kept.records for name in vars(record)} - plain <= by_formatters
    assert {record.levelno for record in kept.records} == {20}
    assert kept.records[-1].getMessage() == "said %s"


def test_the_text_of_an_exception_is_shown_by_every_formatter(talk: Talk, standard: logging.Logger, kept: Kept) -> None:
    talk(standard, "try: 1 / 0\nexcept ZeroDivisionError: log.exception('went wrong')")
    text = logging.Formatter("%(levelname)s %(message)s").format(kept.records[0])
    assert text.startswith("ERROR went wrong\nTraceback (most recent call last):")
    assert text.endswith("ZeroDivisionError: division by zero")


def test_an_adapter_adds_its_fields(talk: Talk, standard: logging.Logger, kept: Kept) -> None:
    """One around another, too; neither takes ours away."""

    class Prefixed(logging.LoggerAdapter):  # type: ignore[type-arg]  # not generic at run time on 3.10
        def process(self, message: Any, keywords: Any) -> Any:
            return f"[job] {message}", keywords

    talk(Prefixed(logging.LoggerAdapter(standard, {"tenant": 7}), {}), SAYING)
    (record,) = kept.records
    assert (record.getMessage(), record.tenant) == ("[job] hello Ada", 7)
    assert record.cloche["guest"] == {"length": 3}


def test_levels_and_filters_of_a_standard_logger_hold(talk: Talk, standard: logging.Logger, kept: Kept) -> None:
    standard.setLevel(logging.ERROR)
    talk(standard, "log.warning('no')\nlog.error('yes')")
    assert [record.msg for record in kept.records] == ["yes"]
    standard.addFilter(lambda record: False)
    talk(standard, "log.error('no')")
    assert len(kept.records) == 1


def test_the_module_logging_stands_for_its_root_logger(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    talk(logging, SAYING)
    assert [record.getMessage() for record in caplog.records if hasattr(record, "cloche")] == ["hello Ada"]


@pytest.mark.isolation("none", reason="the host's own record")
def test_a_failing_service_is_logged_with_its_exception(standard: logging.Logger, kept: Kept) -> None:
    def fails() -> None:
        raise LookupError("a secret of the host")

    source = cloche.Source(
        "from cloche_guest import services\ndef f(x):\n try: services.fails()\n except LookupError: return 1"
    )
    with (
        cloche.Runtime(logger=standard, limits=patient()) as runtime,
        runtime.load(source, grants=cloche.Grants(services={"fails": fails})) as node,
    ):
        assert node.process(0) == 1
    (record,) = [record for record in kept.records if record.levelname == "ERROR"]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)
    assert record.cloche["service"] == "fails"


# ---- structlog
def test_a_structlog_logger_gets_the_records_as_keywords(talk: Talk) -> None:
    out = io.StringIO()
    logger = structlog.wrap_logger(
        structlog.PrintLogger(out), processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()]
    )
    talk(logger, SAYING)
    assert json.loads(out.getvalue()) == {
        "event": "hello Ada", "level": "warning", "node": "talker", "call": 2, "logger": "Talker", "guest": {"length": 3},
    }  # fmt: skip


def test_a_configured_structlog_is_respected(talk: Talk) -> None:
    out = io.StringIO()
    try:
        structlog.configure(
            processors=[structlog.processors.JSONRenderer()], logger_factory=structlog.PrintLoggerFactory(out)
        )
        talk(None, SAYING)
    finally:
        structlog.reset_defaults()
    assert json.loads(out.getvalue())["event"] == "hello Ada"


def test_without_a_logger_records_go_to_stderr_and_never_to_stdout(
    talk: Talk, capsys: pytest.CaptureFixture[str]
) -> None:
    """structlog's own default prints to stdout, which is a program's result."""
    talk(None, f"{SAYING}\ntry: 1 / 0\nexcept ZeroDivisionError: log.exception('first\\n2026 [critical] forged')")
    out, err = capsys.readouterr()
    assert out == ""
    assert "hello Ada" in err
    assert "guest={'length': 3}" in err
    assert "ZeroDivisionError: division by zero" in err
    assert "\n2026 [critical] forged" not in err, "a message has no second line that looks like another record"


def test_a_program_without_stderr_gets_its_answers(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """pythonw has none."""
    monkeypatch.setattr(sys, "stderr", None)
    assert talk(None, SAYING) == 1


@pytest.mark.isolation("none", reason="nothing of a logger is in a worker")
def test_loguru_takes_no_message_for_a_format(talk: Talk) -> None:
    """Its own methods would look for the names in it among the fields."""
    loguru = pytest.importorskip("loguru")
    out: list[Any] = []
    number = loguru.logger.add(out.append, format="{level} {message} {extra}", level=0)
    try:
        talk(loguru.logger, "log.warning('{node.__class__} {}')")
    finally:
        loguru.logger.remove(number)
    (text,) = [str(one) for one in out if "__class__" in one]
    assert text.startswith("WARNING {node.__class__} {} {'cloche': {'node': 'talker'")


# ---- a logger that fails
class Failing:
    """A logger whose every method raises."""

    def __init__(self, raised: BaseException) -> None:
        self.raised = raised
        self.calls = 0

    def info(self, message: str, **fields: Any) -> None:
        """Raise."""
        self.calls += 1
        raise self.raised

    debug = warning = error = critical = info


WAYS = {
    "answer": ("print(1); print(2)", 1),
    "error": ("print(1); 1 / 0", cloche.NodeRaisedError),
    "break": ("print(1); import os; os._exit(1)", cloche.GuestExitError),
}


def outcome(talk: Talk, logger: Any, what: str) -> Any:
    """The answer, or the error that was raised."""
    try:
        return talk(logger, what)
    except cloche.ClocheError as error:
        return error


@pytest.mark.parametrize(("what", "expected"), WAYS.values(), ids=WAYS)
def test_a_logger_that_raises_costs_nothing_but_its_records(talk: Talk, what: str, expected: Any) -> None:
    """The answer, or the node's error, is what the caller has paid for."""
    logger = Failing(OSError("the disk is full"))
    with pytest.warns(RuntimeWarning) as warned:
        came = outcome(talk, logger, what)
    assert came == expected or type(came) is expected
    assert "disk" not in str(came)
    assert [str(one.message) for one in warned] == [
        "the logger of the runtime raised OSError: 'the disk is full'; its log record is lost, and so may be others"
    ]
    assert logger.calls == 1 + (expected == 1), "each record is tried"


def test_a_node_keeps_its_state_beside_a_logger_that_raises(isolation: Isolation) -> None:
    logger = Failing(ValueError())
    with (
        cloche.Runtime(logger=logger, limits=patient(), isolation=isolation) as runtime,
        runtime.load(cloche.Source(TALKING), on_break="restore") as node,
    ):
        with pytest.warns(RuntimeWarning):
            node.process("print(1)")
        assert [node.process("print(1)") for _ in range(2)] == [2, 3]
        assert node.stats.breaks == 0


def test_warnings_that_are_errors_cost_no_answer(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    """python -W error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert talk(Failing(OSError("the disk is full")), "print(1)") == 1
    assert "OSError: the disk is full" in capsys.readouterr().err


def test_ctrl_c_in_a_logger_gets_through(talk: Talk) -> None:
    with pytest.raises(KeyboardInterrupt):
        talk(Failing(KeyboardInterrupt()), "print(1)")


@pytest.mark.isolation("none", reason="nothing goes to a worker")
@pytest.mark.parametrize("logger", ["cloche", print, 5, object()])
def test_what_is_no_logger_is_refused(logger: Any) -> None:
    with pytest.raises(
        TypeError, match=r"^logger is .*: give a logging\.Logger, a logger of structlog, or an object with"
    ):
        cloche.Runtime(logger=logger)
