"""Sessions with the real image: what a snippet does becomes an `Execution`, and the session goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import anyio
import pytest

import cloche
from cloche.repl import Execution, Failure, Repl
from tests.limits import patient

pytestmark = pytest.mark.image


@pytest.fixture
def session(runtime: cloche.Runtime) -> Iterator[Callable[..., Repl]]:
    """Make sessions, which are closed at the end of the test."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Repl(runtime, **options))


@pytest.fixture
def repl(session: Callable[..., Repl]) -> Repl:
    return session()


def test_names_last_from_one_snippet_to_the_next(repl: Repl) -> None:
    assert repl.run("import math\nx = 3\ndef area(r):\n    return math.pi * r ** x") == Execution()
    assert repl.run("round(area(2))") == Execution(text="25", value=25)
    assert repl.names() == ["area", "math", "x"]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("", Execution()),
        ("# nothing", Execution()),
        ("1 + 1", Execution(text="2", value=2)),
        ("x = 1", Execution()),
        ("None", Execution()),
        ("print('a'); 'b'", Execution(output="a\n", text="'b'", value="b")),
        ("import sys\nprint('no', file=sys.stderr)", Execution(output="no\n")),
        ("import sys; _ = sys.stdout.buffer.write(b'\\xff\\n')", Execution(output="\ufffd\n")),
        ("import logging; logging.error('z')", Execution(output="ERROR:root:z\n")),
        ("for i in range(2): i", Execution()),
        ("if True:\n    5", Execution()),
        ("import asyncio\nawait asyncio.sleep(0, 'awaited')", Execution(text="'awaited'", value="awaited")),
        ("import asyncio\nasyncio.run(asyncio.sleep(0, 'run'))", Execution(text="'run'", value="run")),
        ("import numpy as np\nnp.arange(3).sum()", Execution(text="np.int64(3)", value=3)),
    ],
)
def test_a_snippet_gives_its_output_and_the_value_of_its_last_expression(
    repl: Repl, code: str, expected: Execution
) -> None:
    assert repl.run(code) == expected


def test_the_last_value_is_the_underscore(repl: Repl) -> None:
    repl.run("6 * 7")
    repl.run("x = 1")
    repl.run("None")
    assert repl.run("_ + 1").value == 43


def test_futures_hold_for_later_snippets(repl: Repl) -> None:
    """As in Python's interactive mode."""
    repl.run("from __future__ import annotations")
    assert repl.run("class A:\n    x: unknown\nA.__annotations__").value == {"x": "unknown"}


def test_what_snippets_define_belongs_to_main(repl: Repl) -> None:
    """pickle, dataclasses and typing look for a class in the module that it names."""
    repl.run("import pickle, typing, dataclasses")
    repl.run("@dataclasses.dataclass\nclass P:\n    x: 'int'")
    assert repl.run("(pickle.loads(pickle.dumps(P(3))).x, typing.get_type_hints(P)['x'] is int, __name__)").value == (
        3,
        True,
        "__main__",
    )


def test_an_exception_shows_the_snippets_own_lines(repl: Repl) -> None:
    repl.run("def half(x):\n    return x / 0")
    found = repl.run("print('before')\nhalf(1)")
    assert (found.output, found.ok, found.failure and found.failure.kind) == ("before\n", False, "raised")
    assert str(found) == (
        "before\n"
        "Traceback (most recent call last):\n"
        '  File "<snippet 2>", line 2, in <module>\n'
        "    half(1)\n"
        "    ~~~~^^^\n"
        '  File "<snippet 1>", line 2, in half\n'
        "    return x / 0\n"
        "           ~~^~~\n"
        "ZeroDivisionError: division by zero"
    )


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("def f(:", "SyntaxError", "invalid syntax (<snippet 1>, line 1)"),
        ("x = '\\0'\nexec(x)", "SyntaxError", "source code string cannot contain null bytes"),
        ("'\0'", "SyntaxError", "source code string cannot contain null bytes"),
        ("raise SystemExit(3)", "SystemExit", "3"),
        ("exit()", "SystemExit", "None"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
        ("input()", "EOFError", "EOF when reading a line"),
        ("class E(Exception):\n    def __str__(self): raise ValueError\nraise E", "E", ""),
        ("class V:\n    def __repr__(self): return 1 / 0\nV()", "ZeroDivisionError", "division by zero"),
        ("bytearray(1 << 31 - 1)", "MemoryError", ""),
        ("await 1", "TypeError", "'int' object can't be awaited"),
        ("return 1", "SyntaxError", "'return' outside function (<snippet 1>, line 1)"),
    ],
)
def test_whatever_a_snippet_raises_is_in_the_execution(repl: Repl, code: str, kind: str, message: str) -> None:
    """The session goes on, with its names."""
    repl.assign(x=1)
    failure = repl.run(code).failure
    assert failure is not None
    assert (failure.kind, failure.type, failure.state) == ("raised", kind, "kept")
    assert failure.message == message or kind == "TypeError"
    assert repl.run("'x' in globals()").value is True


def test_a_value_that_cannot_be_sent_still_has_its_text(repl: Repl) -> None:
    found = repl.run("print('made')\n[len, lambda: 1]")
    assert (found.output, found.value) == ("made\n", None)
    assert found.unsent.startswith("value[0]: cannot encode builtin_function_or_method")
    assert found.text is not None and found.text.startswith("[<built-in function len>, <function <lambda> at")


def test_a_deadline_ends_the_snippet_and_keeps_what_it_printed_and_did(session: Callable[..., Repl]) -> None:
    repl = session(limits=cloche.Limits(deadline_s=0.3, grace_s=60))
    found = repl.run("x = 'kept'\nprint('before')\nwhile True:\n    pass")
    assert (found.output, found.failure and found.failure.kind, found.failure and found.failure.state) == (
        "before\n",
        "deadline",
        "kept",
    )
    assert "while True" in str(found)
    assert repl.value("x") == "kept"


def test_one_snippet_has_a_deadline_of_its_own(session: Callable[..., Repl]) -> None:
    repl = session(limits=patient(grace_s=60))
    assert "deadline" in str(repl.run("while True: pass", deadline_s=0.1))
    assert anyio.run(lambda: repl.arun("1", deadline_s=None)).value == 1
    with pytest.raises(TypeError, match="deadline_s"):
        repl.run("1", deadline_s="x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("on_break", "state", "names"),
    [("restore", "before", ["x"]), ("restart", "lost", [])],
)
def test_a_crash_costs_one_snippet(session: Callable[..., Repl], on_break: Any, state: str, names: list[str]) -> None:
    """With "restore" the session is as before the snippet; and it may happen as often as it likes."""
    repl = session(on_break=on_break)
    repl.run("x = 1")
    for _ in range(5):
        failure = repl.run("y = 2\nimport os\nos._exit(3)").failure
        assert failure == Failure("broken", "GuestExitError", failure.message if failure else "", "", state)  # type: ignore[arg-type]
    assert repl.names() == names


def test_a_session_that_is_not_brought_back_is_closed(session: Callable[..., Repl]) -> None:
    repl = session(on_break="raise")
    assert "all names and files are gone" in str(repl.run("import os; os._exit(3)"))
    with pytest.raises(cloche.ClosedError):
        repl.run("1")


def test_long_output_keeps_its_beginning_and_its_end(session: Callable[..., Repl]) -> None:
    """Megabytes of prints cost neither the session nor the host."""
    repl = session(output_bytes=100, limits=patient(output_bytes=1000))
    found = repl.run("for i in range(100_000): print(i)\n'v' * 1000")
    assert found.output.startswith("0\n1\n2\n") and found.output.endswith("99998\n99999\n")
    assert "\n... 588790 bytes of output are left out ...\n" in found.output
    assert found.text is not None and "... 902 characters are left out ..." in found.text
    assert len(found.value) == 1000
    failure = repl.run("raise ValueError('m' * 10_000)").failure
    assert failure is not None and len(failure.message) < 200 and len(failure.traceback) < 200


def test_a_log_handler_of_one_snippet_serves_the_next(repl: Repl) -> None:
    repl.run("import logging, sys\nlog = logging.getLogger('a')\nlog.addHandler(logging.StreamHandler(sys.stdout))")
    assert repl.run("log.warning('again')").output == "again\n"


def test_services_are_functions_of_the_session(session: Callable[..., Repl]) -> None:
    repl = session(grants=cloche.Grants(services={"price": lambda name: {"apple": 3}[name]}))
    assert repl.run("price('apple') * 2").value == 6
    failure = repl.run("price('stone')").failure
    assert failure is not None and failure.type == "KeyError"


def test_values_are_assigned_and_read(repl: Repl) -> None:
    repl.assign(rows=[1, 2])
    repl.assign({"not a name": 3}, total=4)
    assert repl.run("sum(rows) + total").value == 7
    assert repl.value("rows") == [1, 2]
    with pytest.raises(cloche.NodeRaisedError, match="name 'z' is not defined"):
        repl.value("z")
    with pytest.raises(cloche.EncodeError):
        repl.assign(f=len)


def test_files_go_in_and_out(repl: Repl) -> None:
    repl.write_file("data/in.csv", "a,b\n1,2\n")
    assert repl.run("import csv\nlist(csv.DictReader(open('data/in.csv')))").value == [{"a": "1", "b": "2"}]
    repl.run("open('out.bin', 'wb').write(b'\\x00\\xff')")
    assert repl.read_file("out.bin") == b"\x00\xff"
    with pytest.raises(cloche.NodeRaisedError) as raised:
        repl.read_file("/etc/passwd")
    assert raised.value.exc_type == "FileNotFoundError"


def test_a_snapshot_is_a_fork_of_the_session(runtime: cloche.Runtime, repl: Repl) -> None:
    repl.run("x = 1\nopen('f', 'w').write('file')")
    with Repl(runtime, snapshot=repl.snapshot()) as other:
        other.run("x += 10")
        assert (other.run("(x, open('f').read())").value, repl.run("x").value) == ((11, "file"), 1)


def test_a_restored_session_has_the_services_that_it_is_granted_then(
    runtime: cloche.Runtime, session: Callable[..., Repl]
) -> None:
    repl = session(grants=cloche.Grants(services={"old": lambda: 1}))
    repl.run("x = old()")
    grants = cloche.Grants(services={"new": lambda: 2})
    with Repl(runtime, snapshot=repl.snapshot(), grants=grants, on_break="restart") as other:
        for _ in range(2):
            assert other.run("x + new()").value == 3
            failure = other.run("old()").failure
            assert failure is not None and failure.type == "LookupError"
            other.run("import os; os._exit(1)")


@pytest.mark.few(6)
@pytest.mark.parametrize(
    "code",
    [
        "'\udc80'",
        "(" * 100_000,
        "-" * 100_000 + "1",
        "x = 1\n" * 100_000,
        "import builtins\nbuiltins.str = None\n1 / 0",
        "import sys\nsys.modules.clear()\n1 / 0",
        "import sys\nsys.stdout = sys.stderr = None",
        "globals().clear()",
        "import sys\nsys.setrecursionlimit(5)",
        "class V:\n    def __repr__(self): return 3\nV()",
        "class L(list):\n    def __iter__(self): raise SystemExit\nL([1])",
        "class E(Exception):\n    __notes__ = 3\nraise E",
        "raise ExceptionGroup('g', [ValueError('v'), KeyError('k')])",
        "import gc\n[o for o in gc.get_objects()]",
        "import os\nos.write(1, b'x' * (2 << 20))",
        "x = []\nx.append(x)\nx",
        "async def f():\n    await f()\nawait f()",
        "yield 1",
        "import linecache\nlinecache.cache = None",
    ],
)
def test_no_snippet_is_an_exception_of_the_hosts(repl: Repl, code: str) -> None:
    """Whatever it does to the interpreter that it shares with the session's code, `run` returns; a new session is as always."""
    assert isinstance(str(repl.run(code)), str)
    assert isinstance(str(repl.run("1 + 1")), str)


def test_awaited_under_asyncio_and_trio(repl: Repl) -> None:
    async def main() -> Any:
        await repl.arun("x = 20")
        unsent = await repl.arun("len")
        assert unsent.unsent
        return (await repl.arun("x + 1")).value, (await repl.arun("1 / 0")).ok

    for backend in ("asyncio", "trio"):
        assert anyio.run(main, backend=backend) == (21, False)


def test_cancelling_interrupts_the_snippet(session: Callable[..., Repl]) -> None:
    """The call ends as cancelled, and is no deadline of the snippet's."""
    repl = session(
        limits=patient(deadline_s=None, grace_s=60), grants=cloche.Grants(services={"begun": lambda: begun.set()})
    )

    async def main() -> None:
        global begun
        begun = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(repl.arun, "x = 1\nbegun()\nwhile True: pass")
            while not repl.node.service_calls:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()

    anyio.run(main)
    assert repl.value("x") == 1


def test_a_snippet_can_be_stopped(session: Callable[..., Repl]) -> None:
    """It is not an error of the program's; what the snippet has printed and done is kept."""
    repl = session(
        limits=patient(deadline_s=None, grace_s=60), grants=cloche.Grants(services={"stop": lambda: repl.interrupt()})
    )
    assert repl.interrupt() is False
    found = repl.run("x = 1\nprint('begun')\nstop()\nwhile True: pass")
    assert (found.output, found.failure and found.failure.kind) == ("begun\n", "interrupted")
    assert repl.run("x") == Execution(text="1", value=1)


def test_closing_ends_a_snippet(session: Callable[..., Repl]) -> None:
    begun = threading.Event()
    repl = session(limits=patient(deadline_s=None, grace_s=60), grants=cloche.Grants(services={"begun": begun.set}))
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(repl.run, "begun()\nwhile True: pass")
        begun.wait()
        repl.close(timeout=0.01)
        failure = running.result().failure
    assert failure is not None and failure.kind == "interrupted"
    with pytest.raises(cloche.ClosedError):
        repl.run("1")


def test_many_threads_get_each_its_own_execution(repl: Repl) -> None:
    """Values that cannot be sent take a second call; another thread's snippet may run between the two."""
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda n: (n, repl.run(f"print({n})\nlambda: {n}")), range(40)))
    assert [execution.output for _, execution in found] == [f"{n}\n" for n, _ in found]


def test_wrong_arguments_are_named(runtime: cloche.Runtime, repl: Repl) -> None:
    with pytest.raises(TypeError, match="code is 3: give Python source as a text"):
        repl.run(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="output_bytes"):
        Repl(runtime, output_bytes=0)


HOSTILE = {
    "a number": "3",
    "a text": "'x'",
    "a short list": "[1]",
    "numbers": "[1, 2, 3, 4]",
    "too much text": "['x' * 10_000_000, None, None, None]",
    "a failure of numbers": "['', None, [1, 2, 3], None]",
    "a failure and a text": "['', 'x', ['a', 'b', 'c'], None]",
    "a long list": "['', None, None, 1, 2, 3]",
    "a dict": "{}",
}


@pytest.mark.parametrize("reply", HOSTILE.values(), ids=HOSTILE)
def test_a_session_that_its_snippets_have_changed_fools_nobody(repl: Repl, reply: str) -> None:
    """Snippets run beside the session's own code, and can replace it."""
    change = f"""
import gc
(kind,) = [found for found in gc.get_objects() if isinstance(found, type) and found.__name__ == "Session"]
kind._outcome = kind.names = kind.read_file = lambda *_: {reply}
"""
    for code in (change, "1"):
        failure = repl.run(code).failure
        assert failure is not None and failure.message == "the snippets have changed the session itself"
    assert repl.names() == []
    with pytest.raises(cloche.ClocheError, match="returned no bytes"):
        repl.read_file("x")


@pytest.mark.parametrize(
    "code",
    ["sys.stdout.close(); sys.stderr.close()", "sys.stdout.detach(); sys.stderr.detach()", "with sys.stdout: pass"],
)
def test_a_closed_stdout_does_not_silence_later_snippets(repl: Repl, code: str) -> None:
    repl.run("import sys")
    repl.run(code)
    assert repl.run("print(2); print(3, file=sys.stderr)") == Execution("2\n3\n")


def test_what_is_no_content_is_no_file(repl: Repl) -> None:
    """``bytes(5)`` would be five zeros."""
    for content in (5, [1], None):
        with pytest.raises(TypeError, match="content is .*: give bytes or a text"):
            repl.write_file("f", content)  # type: ignore[arg-type]
    repl.write_file("f", memoryview(b"ab"))
    assert repl.read_file("f") == b"ab"


def test_options_that_it_has_not_are_named(repl: Repl, runtime: cloche.Runtime) -> None:
    with pytest.raises(TypeError, match="runtime is 3: give a cloche.Runtime"):
        Repl(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Repl has no option 'output': did you mean output_bytes?"):
        Repl(runtime, output=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Repl.run has no option 'deadline': did you mean deadline_s?"):
        repl.run("1", deadline=3)  # type: ignore[call-arg]
