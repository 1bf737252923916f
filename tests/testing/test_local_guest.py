"""LocalGuest: what authors write their unit tests with. It is a node like any other, and leaves no trace in the process."""

from __future__ import annotations

import io
import linecache
import logging
import random
import sys
import warnings

import pytest

import cloche
from cloche.testing import LocalGuest

SAY = "import logging\nlog = logging.getLogger('L')\ndef N(x):\n    log.warning('got %s', x, extra={'k': x})\n    print('printed')\n    return x\n"


def local(text, entry=None, params=None, **options):
    """A LocalGuest of that source."""
    return LocalGuest(cloche.Source(text, "node.py"), entry, params, **options)


def test_it_is_a_node():
    """Tests switch between it and the sandbox."""
    with local(
        "class N:\n    n = 0\n    def process(self, x):\n        self.n += x\n        return self.n\n    def flush(self): return 'f'\n"
    ) as node:
        assert isinstance(node, cloche.Node)
        assert (node.initialize(), node.process(2), node.get("n"), node.flush(), node.cleanup()) == (
            None,
            2,
            2,
            "f",
            None,
        )
        assert list(node.stream([1, 2])) == [3, 5, "f"]
        assert (node.stats.calls, node.broken, node.info["kind"]) == (11, False, "class")
    with pytest.raises(cloche.ClosedError):
        node.process(1)


def test_errors_are_those_of_the_sandbox():
    """Class, attributes and traceback."""
    with pytest.raises(cloche.NodeLoadError, match="it defines N") as load:
        local("class N:\n    def process(self, x): pass\n", "M")
    assert load.value.phase == "entry"
    node = local("def N(x):\n    return 1 / x\n")
    with pytest.raises(cloche.NodeRaisedError) as raised:
        node.process(0)
    assert raised.value.guest_traceback == (
        'Traceback (most recent call last):\n  File "node.py", line 2, in N\n    return 1 / x\nZeroDivisionError: division by zero'
    )
    assert node.process(2) == 0.5
    node.close()


def test_values_cross_as_they_do_the_real_boundary():
    """Equal, never the same object; what cannot be sent is refused on both sides."""
    with local(
        "import dataclasses\nclass N:\n    def process(self, x):\n        self.x = x\n        return object() if x == 'bad' else x\n"
    ) as node:
        assert node.process(list(range(1000))) == list(range(1000))
        value = {"a": (1, [2]), "b": {3}}
        answer = node.process(value)
        assert answer == value
        assert answer["a"][1] is not value["a"][1]
        with pytest.raises(cloche.EncodeError, match=r"data\.f"):
            node.process({"f": len})
        with pytest.raises(cloche.NodeRaisedError, match="result") as caught:
            node.process("bad")
        assert caught.value.failure.phase == "encode"


def test_records_are_what_the_hosts_logger_would_get():
    """Logging and print, with level, fields and call number."""
    with local(SAY, name="say") as node:
        node.process(1)
        node.process(2)
        assert [(r.level, r.logger, r.message, dict(r.fields), r.call) for r in node.records] == [
            ("warning", "L", "got 1", {"k": 1}, 2), ("info", "stdout", "printed", {}, 2),
            ("warning", "L", "got 2", {"k": 2}, 3), ("info", "stdout", "printed", {}, 3),
        ]  # fmt: skip


def test_log_limits_hold():
    """Records beyond them are dropped and counted."""
    with local("def N(x):\n    for i in range(x): print(i)\n", limits=cloche.Limits(log_records=3)) as node:
        node.process(5)
        assert [r.message for r in node.records] == ["2", "3", "4"]
        assert node.stats.dropped_records == 2


def test_output_limit_ends_the_node():
    """As in the sandbox, also if the node catches what stops it."""
    node = local(
        "def N(x):\n    try:\n        while True: print('x' * 100)\n    except BaseException: return 'caught'\n",
        limits=cloche.Limits(output_bytes=1000),
    )
    with pytest.raises(cloche.OutputError) as caught:
        node.process(0)
    assert (caught.value.limit, caught.value.value, node.broken) == ("output_bytes", 1000, True)


def test_process_is_left_as_it_was():
    """Modules, import system, streams, root logger, warnings, random state."""

    def state():
        root = logging.getLogger()
        return [set(sys.modules), list(sys.meta_path), sys.stdout, sys.stderr, sys.stdin, root.handlers[:], root.level,
                root.manager.disable, warnings.showwarning, list(warnings.filters), random.getstate(), sys.get_asyncgen_hooks()]  # fmt: skip

    with local("import json as other\nprint('loaded')\n" + SAY) as node:
        node.process(0)
    before = state()
    with local(
        "import warnings\nimport random\n"
        + SAY
        + "class M:\n    async def process(self, x):\n        random.random\n        return x\n",
        "M",
    ) as node:
        node.process(0)
        assert "node" not in sys.modules
    assert state() == before


def test_two_nodes_of_one_name_keep_apart():
    """Each has its own modules, and the right source in its tracebacks."""
    one = local("VALUE = 1\ndef N(x):\n    import node\n    return node.VALUE\n")
    two = local("VALUE = 2\n\n\ndef N(x):\n    import node\n    if x: raise ValueError\n    return node.VALUE\n")
    assert [one.process(0), two.process(0), one.process(0)] == [1, 2, 1]
    with pytest.raises(cloche.NodeRaisedError) as caught:
        two.process(1)
    assert caught.value.frames[0].text == "if x: raise ValueError"
    one.close()
    two.close()
    linecache.checkcache()


def test_packages_and_params(tmp_path):
    """Grants as for the sandbox."""
    (tmp_path / "helper.py").write_text("def double(x): return 2 * x\n")
    node = local(
        "import helper\ndef N(x, plus=0): return helper.double(x) + plus\n",
        params={"plus": 1},
        grants=cloche.Grants(packages=[tmp_path]),
    )
    assert node.process(4) == 9
    node.close()
    assert "helper" not in sys.modules


def test_seed_makes_it_repeatable():
    """Only when asked for."""
    source = "import random\ndef N(x): return random.random()\n"
    draws = [local(source, seed=b"s" * 32) for _ in range(2)]
    state = random.getstate()
    nodes = [node.process(0) for node in draws[:1]]
    assert nodes[0] == random.Random(int.from_bytes(b"s" * 32, "little")).random()
    random.setstate(state)
    for node in draws:
        node.close()


def test_streams_can_be_left_to_a_debugger(capsys, monkeypatch):
    """capture=False."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("typed\n"))
    with local("def N(x):\n    print('seen')\n    return input()\n", capture=False) as node:
        assert node.process(0) == "typed"
        assert not node.records
    assert capsys.readouterr().out == "seen\n"


def test_pending_tasks_and_streams_are_closed_with_it():
    """Their finally blocks run, and log."""
    source = "import asyncio\nclass N:\n    is_streaming = True\n    async def process(self, items):\n        try:\n            async for x in items: yield x\n        finally: print('closed')\n"
    node = local(source)
    stream = node.stream([1, 2])
    assert next(stream) == 1
    node.close()
    assert [r.message for r in node.records] == ["closed"]
    stream.close()


@pytest.mark.anyio
async def test_inside_an_async_test(anyio_backend):
    """A node with coroutines, driven while another loop runs."""
    with local("import asyncio\nasync def N(x):\n    await asyncio.sleep(0)\n    return x\n") as node:
        assert node.process(1) == 1
        assert await node.aprocess(2) == 2
        assert [y async for y in node.astream([3])] == [3]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    """Both."""
    return request.param


def test_what_needs_a_memory_of_its_own_is_refused():
    """Snapshots and clones."""
    with local("def N(x): return x\n") as node, pytest.raises(cloche.ClocheError, match="LocalGuest"):
        node.snapshot()


pytest_plugins = ["pytester"]


def test_buffers_and_leases_are_ordinary_arrays():
    """Code that uses them runs; nothing is shared."""
    np = pytest.importorskip("numpy")
    with local("def N(x): return x * 2\n") as node, node.lease():
        frame = node.buffer((2, 3), "f4")
        frame[:] = 1.5
        assert np.array_equal(node.process(frame), np.full((2, 3), 3.0, "f4"))


def test_plugin_runs_a_test_in_both(pytester, monkeypatch):
    """The fixture `load_node`; here with a runtime that needs no image."""
    pytester.makeconftest("""
        import pytest
        from cloche.testing import LocalGuest
        pytest_plugins = ["cloche.testing.plugin"]
        class Runtime:
            load = staticmethod(lambda *args, **options: LocalGuest(*args, name="sandboxed", **options))
        @pytest.fixture(scope="session")
        def cloche_runtime():
            yield Runtime
    """)
    pytester.makepyfile("""
        import cloche
        seen = []
        def test_doubles(load_node):
            node = load_node(cloche.Source("def double(x): return 2 * x"))
            assert node.process(21) == 42
            seen.append((node.name, node))
        def test_both_ran_and_were_closed():
            assert [name for name, _ in seen] == ["double", "sandboxed"]
            assert all(node.__cloche__.closed for _, node in seen)
    """)
    pytester.runpytest("-p", "no:cacheprovider").assert_outcomes(passed=3)
