"""What a node cannot reach: another node, the host's files, its environment, the network."""

from __future__ import annotations

import gc
import os
import resource
import threading

import pytest

import cloche
from cloche._wasm.bindings import types_of
from cloche_wire import abi

pytestmark = pytest.mark.isolation("none", reason="a worker only adds to it: tests/isolation/test_confine.py")

EVAL = "class N:\n    def process(self, code):\n        env = {}\n        exec('result = ' + code, env)\n        return env['result']\n"


def test_imports_of_the_image_are_these_six(runtime):
    """No file, socket, environment or argument call exists to be misused."""
    found, _, _ = types_of(runtime._engine.module.address)
    assert set(found) == {("cloche_v4", name) for name in ("clock", "random", "sleep", "poll", "exit", "call")}
    assert set(abi.IMPORTS) == {name for _, name in found}
    assert all(isinstance(signature, tuple) for signature in found.values()), "all of them are functions"


def test_two_nodes_of_one_class_share_nothing(load):
    """Not even class attributes or modules."""
    source = "import json\nclass N:\n    seen = []\n    def process(self, x):\n        self.seen.append(x)\n        json.mark = getattr(json, 'mark', 0) + 1\n        return [self.seen, json.mark]\n"
    one, two = load(source), load(source)
    assert one.process(1) == [[1], 1]
    assert one.process(2) == [[1, 2], 2]
    assert two.process(3) == [[3], 1]


@pytest.mark.parametrize(
    "code",
    ["__import__('random').random()", "__import__('os').urandom(8)", "__import__('uuid').uuid4().bytes", "__import__('secrets').token_bytes(8)",
     "__import__('numpy').random.default_rng().random()", "__import__('numpy').random.rand()", "__import__('uuid').uuid1().node"],
    ids=["random", "urandom", "uuid4", "secrets", "default_rng", "numpy legacy", "uuid1"],
)  # fmt: skip
def test_two_sandboxes_draw_different_random_numbers(load, code):
    """The snapshot holds one state; each instance is reseeded."""
    one, two = load(EVAL), load(EVAL)
    assert one.process(code) != two.process(code)


@pytest.mark.parametrize(
    "code",
    ["open('/etc/passwd').read()", "__import__('os').listdir('/etc')", "open('../../etc/passwd')", "__import__('os').stat('/proc/self')",
     "__import__('pathlib').Path('/etc/hostname').read_text()", "__import__('socket').create_connection(('localhost', 80))",
     "__import__('subprocess').run(['ls'])", "__import__('os').system('ls')", "__import__('os').fork()", "__import__('ctypes').CDLL('libc.so.6')",
     "__import__('threading').Thread(target=print).start()", "open('/x', 'w')", "__import__('os').mkdir('/etc')",
     "open('/dev/mem')", "open('/dev/tty')"],
)  # fmt: skip
def test_the_outside_does_not_exist(load, code):
    """Each is an ordinary exception of the node, which stays usable."""
    node = load(EVAL)
    with pytest.raises(cloche.NodeRaisedError):
        node.process(code)
    assert node.process("1 + 1") == 2


def test_the_root_folder_has_nothing_of_the_host(load):
    """`os.listdir` finds the node's own /tmp, rather than failing in every library that looks around."""
    assert load(EVAL).process("__import__('os').listdir('/')") == ["tmp"]


def test_environment_and_arguments_are_empty(load, monkeypatch):
    """Nothing of the host's process shows."""
    monkeypatch.setenv("CLOCHE_TEST_SECRET", "s3cret")
    node = load(EVAL)
    assert node.process("dict(__import__('os').environ)") == {}
    assert node.process("list(__import__('sys').argv)") in ([], [""])


def test_no_host_path_shows_in_the_guest(load, runtime, tmp_path):
    """A node file is known by its name, not by where the host keeps it."""
    path = tmp_path / "where.py"
    path.write_text("class N:\n    def process(self, x):\n        return __file__\n")
    with runtime.load(path) as node:
        assert node.process(0) == "where.py"
    assert str(tmp_path) not in repr(load(EVAL).process("list(__import__('sys').path)"))


def test_nodes_run_in_parallel_on_threads(runtime):
    """Eight threads, a node each: right answers, no fault of one in another."""
    source = "def f(x):\n    if x % 5 == 0:\n        raise ValueError(x)\n    return sum(i * x for i in range(2000))\n"
    outcomes: list[list[object]] = [[] for _ in range(8)]

    def run(index: int) -> None:
        with runtime.load(cloche.Source(source), "f") as node:
            for x in range(40):
                try:
                    outcomes[index].append(node.process(x + index))
                except cloche.NodeRaisedError as error:
                    outcomes[index].append(error.message)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [[str(x + i) if (x + i) % 5 == 0 else 1999000 * (x + i) for x in range(40)] for i in range(8)]


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_many_loads_and_closes_leak_nothing(runtime, thorough):
    """No more memory, descriptors or threads than before, but for what idle threads of other tests open or end meanwhile."""
    source = cloche.Source("class N:\n    def process(self, x):\n        return x\n")

    def cycle(count: int) -> None:
        for _ in range(count):
            with runtime.load(source, "N") as node:
                node.process(1)

    cycle(500)
    gc.collect()
    before = _resident(), len(os.listdir("/proc/self/fd")), threading.active_count()
    cycle(10_000 if thorough else 2_000)
    gc.collect()
    after = _resident(), len(os.listdir("/proc/self/fd")), threading.active_count()
    assert all(now < then + 20 for now, then in zip(after[1:], before[1:], strict=True)), (before, after)
    assert after[0] - before[0] < (8 if thorough else 4) << 20


def test_nodes_that_are_dropped_without_close_free_their_instances(runtime):
    """A forgotten close costs nothing but the cleanup() call."""
    source = cloche.Source("class N:\n    def process(self, x):\n        return bytes(x)\n")
    for _ in range(50):
        runtime.load(source, "N").process(1 << 20)
    gc.collect()
    before = _resident()
    for _ in range(100):
        runtime.load(source, "N").process(1 << 20)
    gc.collect()
    assert _resident() - before < 32 << 20
