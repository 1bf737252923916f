"""Randomness as a function of a seed, environment variables, and both with a clock: the same inputs give the same outputs."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest

import cloche
from cloche import Clock, Grants, Snapshot, Source
from cloche.testing import LocalGuest

DRAW = """
import os, random, secrets, tempfile, uuid
import numpy as np

class Node:
    def process(self, what):
        return getattr(self, what)()
    def random(self):
        return [random.random(), random.gauss(0, 1), random.SystemRandom().random(), random.Random().random()]
    def numpy(self):
        return [float(np.random.rand()), np.random.default_rng().integers(1 << 60, size=3).tolist(), np.random.RandomState().rand()]
    def system(self):
        return [os.urandom(5), os.urandom(1000), secrets.token_hex(8), secrets.randbelow(10**9)]
    def uuid(self):
        return [uuid.uuid4(), uuid.uuid1().node, uuid.uuid1().clock_seq]
    def hashes(self):
        return [hash("text"), list({"a", "b", "c", "dd", "eee"}), list({object() for _ in range(3)}) and 1]
    def all(self):
        return [self.random(), self.numpy(), self.system(), self.uuid()]
"""
WHAT = ["random", "numpy", "system", "uuid", "hashes"]


@pytest.fixture
def seeded(load):
    """A node of that seed."""
    return lambda seed, **options: load(DRAW, "Node", grants=Grants(seed=seed), **options)


@pytest.mark.parametrize("what", WHAT)
def test_the_same_seed_draws_the_same(seeded, what):
    """Every source of randomness that Python has."""
    one, two = seeded(7), seeded(7)
    assert [one.process(what) for _ in range(3)] == [two.process(what) for _ in range(3)]


@pytest.mark.parametrize("what", WHAT[:-1])
def test_other_seeds_and_none_draw_other_numbers(seeded, load, what):
    """None is the operating system's; bytes and ints are different seeds."""
    nodes = [*(seeded(seed) for seed in (7, 8, -7, b"7", b"", 1 << 200)), load(DRAW, "Node"), load(DRAW, "Node")]
    drawn = [node.process(what) for node in nodes]
    assert all(a != b for i, a in enumerate(drawn) for b in drawn[:i])


@pytest.mark.parametrize("kind", ["clone", "restore", "bytes"])
def test_without_reseeding_a_clone_goes_on_in_the_same_stream(seeded, runtime, kind):
    """The host's part of it travels in the snapshot."""
    node = seeded(7)
    node.process("all")
    node.process("system")
    saved = node.snapshot()
    if kind == "bytes":
        saved = Snapshot.from_bytes(saved.to_bytes())
    twin = node.clone(reseed=False) if kind == "clone" else runtime.restore(saved, grants=Grants(seed=7), reseed=False)
    with twin:
        assert [twin.process("all") for _ in range(2)] == [node.process("all") for _ in range(2)]


def test_with_reseeding_each_clone_has_a_stream_of_its_own_and_the_same_each_time(seeded):
    """Different for the first and the second clone, equal for the first ones of two equal nodes."""

    def clones():
        node = seeded(7)
        with node.clone() as one, node.clone() as two, one.clone() as three:
            return [each.process("all") for each in (one, two, three, node)]

    drawn = clones()
    assert all(a != b for i, a in enumerate(drawn) for b in drawn[:i])
    assert clones() == drawn


def test_restoring_with_a_seed_starts_its_stream(seeded, runtime):
    """Whatever the snapshot's was."""
    saved = seeded(1).snapshot()
    with (
        runtime.restore(saved, grants=Grants(seed=2)) as one,
        runtime.restore(saved, grants=Grants(seed=2)) as two,
        runtime.restore(saved) as free,
    ):
        first = one.process("all")
        assert first == two.process("all") != free.process("all")


def test_workers_of_a_pool_draw_different_numbers(runtime):
    """Each has a seed of its own, made from the pool's."""
    with runtime.pool(Source(DRAW), "Node", size=2, reset=True, grants=Grants(seed=7)) as pool:
        drawn = [str(value) for value in pool.map(["random"] * 8)]
    assert len(set(drawn)) == 8


PROGRAM = """
import json, sys
import cloche, logging

source = '''
import logging, random, time, uuid, os, asyncio
import numpy as np
class Thing: pass
class Node:
    def __init__(self):
        self.things = {Thing() for _ in range(20)}
        self.names = {str(uuid.uuid4()): i for i in range(5)}
    async def process(self, x):
        await asyncio.sleep(random.random())
        logging.info("drew %s at %s", random.random(), time.time())
        order = [id(thing) for thing in self.things]
        rows = sorted(self.names, key=lambda name: np.random.rand())
        try:
            raise ValueError(f"{self!r} {os.urandom(4)}")
        except ValueError as error:
            text = str(error)
        return [order, rows, text, time.time(), time.perf_counter(), np.random.default_rng().normal(size=3).tolist(), list(set(rows)), dict(os.environ)]
'''
seen = []
clock = sys.argv[1]
with cloche.Runtime(metering=sys.argv[2], limits=cloche.Limits(deadline_s=120)) as runtime:
    grants = cloche.Grants(seed=5, clock=cloche.Clock(clock, start=1e9), env={"B": "2", "A": "1"})
    node = runtime.load(cloche.Source(source), "Node", grants=grants)
    node._sandbox._on_records = lambda records, name: seen.extend((r.message, r.time_ns) for r in records)
    values = [node.process(i) for i in range(3)]
    with node.clone() as twin:
        values.append(twin.process(1))
    fuel = node.stats.fuel if sys.argv[2] == "fuel" else None
print(json.dumps([values, seen, fuel]))
"""


@pytest.mark.parametrize("clock", ["frozen", "virtual"])
def test_the_same_inputs_give_the_same_bytes_in_two_processes(clock):
    """Values, orders of sets, addresses, texts of exceptions, log records, and under fuel the count of instructions."""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, clock, metering], capture_output=True, text=True, check=True, env=env
        ).stdout
        for metering in ("fuel",)
        for env in (os.environ, os.environ | {"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo"})
    ]
    values, seen, fuel = json.loads(outputs[0].splitlines()[-1])
    assert outputs[0].splitlines()[-1] == outputs[1].splitlines()[-1]
    assert len(values) == 4 and len(seen) == 3 and 0 < fuel < (1 << 63) - 1


ENVIRON = """
import os
class Node:
    def process(self, code):
        scope = {"os": os}
        exec(code, scope)
        return scope["answer"]
at_import = dict(os.environ)
"""


@pytest.fixture
def environment(make):
    """A node with those variables, natively and in the sandbox."""
    return lambda env: make(ENVIRON, "Node", grants=Grants(env=env))


def test_a_node_finds_the_variables_it_was_granted(environment):
    """From its import on."""
    node = environment({"MODE": "fast", "EMPTY": "", "TEXT": "ü = x"})
    assert node.process(
        "answer = [os.environ['MODE'], os.getenv('EMPTY'), os.environ['TEXT'], os.getenv('NONE', 'no')]"
    ) == ["fast", "", "ü = x", "no"]
    assert node.process(
        "import __main__, sys\nanswer = [m.at_import['MODE'] for m in sys.modules.values() if hasattr(m, 'at_import')]"
    )[:1] == ["fast"]


def test_what_it_changes_stays_its_own(environment):
    """And lasts from call to call."""
    node = environment({"MODE": "fast", "GONE": "1"})
    other = environment({"MODE": "other"})
    node.process("os.environ['MODE'] = 'slow'\ndel os.environ['GONE']\nos.environ['NEW'] = '1'\nanswer = 0")
    assert node.process("answer = [os.environ['MODE'], os.getenv('GONE'), os.environ['NEW']]") == ["slow", None, "1"]
    assert other.process("answer = [os.environ['MODE'], os.getenv('NEW')]") == ["other", None]
    assert not {"MODE", "GONE", "NEW"} & os.environ.keys()


def test_nothing_of_the_hosts_environment_is_there(load):
    """Unless it is granted."""
    node = load(ENVIRON, "Node", grants=Grants(env={"ONLY": "this"}))
    assert node.process("answer = dict(os.environ)") == {"ONLY": "this"}
    assert load(ENVIRON, "Node").process("answer = dict(os.environ)") == {}


def test_a_snapshot_has_the_variables(load, runtime):
    """They are the node's state."""
    node = load(ENVIRON, "Node", grants=Grants(env={"MODE": "fast"}))
    with runtime.restore(Snapshot.from_bytes(node.snapshot().to_bytes())) as back, node.clone() as twin:
        assert [n.process("answer = os.environ['MODE']") for n in (back, twin)] == ["fast", "fast"]


@pytest.mark.parametrize(
    ("env", "error"),
    [
        ({"": "x"}, ValueError), ({"a=b": "x"}, ValueError), ({"a\0": "x"}, ValueError), ({"a": "x\0"}, ValueError),
        ({"a": "\ud800"}, ValueError), ({"a": 1}, TypeError), ({1: "x"}, TypeError), (["a"], TypeError),
    ],
    ids=repr,
)  # fmt: skip
def test_grants_check_variables(env, error):
    """Where they are given."""
    with pytest.raises(error, match=r"Grants\.env"):
        Grants(env=env)


@pytest.mark.parametrize("seed", [1.5, "seed", True, [1]], ids=repr)
def test_grants_check_the_seed(seed):
    """An int or bytes."""
    with pytest.raises(TypeError, match=r"Grants\.seed"):
        Grants(seed=seed)


def test_a_local_guest_seeds_its_generators(load):
    """`random` and numpy's legacy generator draw there what they draw in the sandbox."""
    source = "import random\nimport numpy as np\ndef f(x): return [random.random(), float(np.random.rand())]"
    states = random.getstate(), np.random.get_state()
    with LocalGuest(Source(source), grants=Grants(seed=7)) as local:
        drawn = local.process(0)
    random.setstate(states[0])
    np.random.set_state(states[1])
    assert drawn == load(source, grants=Grants(seed=7)).process(0)
    assert drawn[0] != drawn[1]


def test_clock_and_seed_show_in_the_texts_of_grants():
    """A repr that tells what is granted."""
    grants = Grants(clock=Clock("frozen", start=5), seed=3)
    assert "frozen" in repr(grants)
    assert "seed=<hidden>" in repr(grants), "whoever knows the seed knows the node's secrets"
    assert cloche.Grants().clock == Clock()
    same = Grants(clock=Clock("frozen", start=5), seed=3, services={"f": len}, env={"A": "1"})
    assert hash(same) == hash(grants)
    assert same != grants
