"""`Budget`: what nodes use together, in threads, runtimes, clones and pools; and what nodes try so as not to pay."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import cloche
from cloche.isolation import Isolation
from tests.injection import every, within
from tests.limits import patient

NODE = cloche.Source("""
import os
import time
from cloche_guest import services

def f(x=None, n=0):
    match x:
        case "spin":
            while True:
                pass
        case "stubborn":
            while True:
                try:
                    while True:
                        pass
                except BaseException:
                    pass
        case "sleep":
            time.sleep(n)
        case "count":
            for _ in range(n):
                pass
        case "keep":
            global kept
            kept = bytes(n)
        case "exit":
            os._exit(1)
        case "ask":
            return services.ask(n)
        case "raise":
            raise ValueError("no")
    return x
""")
STREAM = cloche.Source("def parts(item):\n    for number in range(item):\n        yield number")


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def load(runtime: cloche.Runtime) -> Iterator[Callable[..., cloche.Node]]:
    """Load the node with a budget."""
    nodes: list[cloche.Node] = []

    def made(budget: cloche.Budget | None, source: cloche.Source = NODE, **options: Any) -> cloche.Node:
        nodes.append(runtime.load(source, budget=budget, **options))
        return nodes[-1]

    yield made
    for node in nodes:
        node.__cloche__.discard()


def test_a_call_ends_when_the_processor_time_is_used_up(load: Callable[..., cloche.Node]) -> None:
    budget = cloche.Budget("ada", processor_s=0.2)
    node = load(budget, limits=patient(grace_s=60))
    with pytest.raises(cloche.BudgetError) as caught:
        node.process("spin")
    error = caught.value
    assert type(error) is cloche.BudgetError
    assert (error.limit, error.value, error.budget, error.node, error.retry_after_s) == (
        "processor_s",
        0.2,
        "ada",
        "f",
        None,
    )
    assert error.reached is not None
    assert error.reached >= 0.2
    assert "of the budget 'ada'" in str(error)
    assert "0.2 s are allowed (Budget.processor_s)" in str(error)
    assert "while True" in error.guest_traceback
    assert not node.broken
    assert budget.stats.processor_s >= 0.2
    with pytest.raises(cloche.BudgetError):
        node.process(1)
    assert budget.stats.refused == 1
    assert budget.stats.processor_left_s is not None
    assert budget.stats.processor_left_s <= 0


def test_a_node_that_does_not_stop_is_stopped(load: Callable[..., cloche.Node]) -> None:
    node = load(cloche.Budget("ada", processor_s=0.2), limits=patient(grace_s=0.05))
    with pytest.raises(cloche.HardBudgetError, match="it was stopped|was stopped; its instance is closed") as caught:
        node.process("stubborn")
    assert isinstance(caught.value, cloche.BrokenInstanceError)
    assert caught.value.reached is not None
    assert caught.value.reached >= 0.2
    assert caught.value.data == ("stubborn",)
    assert node.broken


def test_loading_pays_too(load: Callable[..., cloche.Node]) -> None:
    budget = cloche.Budget("ada", processor_s=0.2)
    with pytest.raises(cloche.BudgetError, match="of the budget 'ada'"):
        load(budget, cloche.Source("while True:\n    pass"), limits=patient(grace_s=60))
    with pytest.raises(cloche.BudgetError):
        load(budget)
    assert budget.stats.nodes == 0


def test_sleeping_and_waiting_are_free(load: Callable[..., cloche.Node]) -> None:
    """Far longer than the budget, in the guest and in a service that waits."""
    budget = cloche.Budget(processor_s=0.5)
    waited = threading.Event()
    node = load(budget, grants=cloche.Grants(services={"ask": lambda n: waited.wait(n)}))
    node.process("sleep", 1.0)
    node.process("ask", 1.0)
    assert budget.stats.processor_s < 0.5


def test_what_a_service_computes_on_the_thread_of_the_call_counts(load: Callable[..., cloche.Node]) -> None:
    """Or a node would let its host work for it."""
    budget = cloche.Budget(processor_s=100)
    node = load(budget, grants=cloche.Grants(services={"ask": lambda n: sum(range(n)) and None}))
    before = budget.stats.processor_s
    node.process("ask", 2_000_000)
    assert budget.stats.processor_s - before > 0.01


def test_nodes_share_it_also_across_threads(load: Callable[..., cloche.Node], isolation: Isolation) -> None:
    """In this process they are added up while they run; worker processes may each use what was left at first."""
    budget = cloche.Budget(processor_s=0.6)
    nodes = [load(budget, limits=patient(grace_s=60)) for _ in range(4)]
    errors: list[Exception] = []

    def work(node: cloche.Node) -> None:
        try:
            node.process("spin")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(node,)) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(error) for error in errors] == [cloche.BudgetError] * 4
    assert 0.6 <= budget.stats.processor_s < (1.2 if isolation == "none" else 4)


def test_a_node_that_is_called_inside_of_another_one_is_paid_once(load: Callable[..., cloche.Node]) -> None:
    """Both are on one thread, whose time would count twice."""
    budget = cloche.Budget(processor_s=1000)
    inner = load(budget)
    outer = load(budget, grants=cloche.Grants(services={"ask": lambda n: inner.process("count", n)}))
    before = budget.stats.processor_s
    inner.process("count", 3_000_000)
    alone = budget.stats.processor_s - before
    outer.process("ask", 3_000_000)
    both = budget.stats.processor_s - before - alone
    assert both < 1.8 * alone


def test_a_node_that_calls_another_tenant_s_does_not_pay_for_it(load: Callable[..., cloche.Node]) -> None:
    ada, bob = cloche.Budget("ada", processor_s=100), cloche.Budget("bob", processor_s=100)
    inner = load(bob)
    outer = load(ada, grants=cloche.Grants(services={"ask": lambda n: inner.process("count", n)}))
    outer.process("ask", 3_000_000)
    assert ada.stats.processor_s < bob.stats.processor_s


def test_it_refills_in_its_time(load: Callable[..., cloche.Node], clock: Clock) -> None:
    budget = cloche.Budget(processor_s=0.2, per_s=100, clock=clock)
    node = load(budget, limits=patient(grace_s=60))
    with pytest.raises(cloche.BudgetError) as caught:
        node.process("spin")
    wait = caught.value.retry_after_s
    assert wait is not None
    assert 0 < wait < 100
    clock.now += 0.5 * wait if wait < 2 else wait - 1
    clock.now = 100 + wait + 0.01
    assert node.process(1) == 1
    clock.now += 1000
    assert budget.stats.processor_left_s == pytest.approx(0.2)


def test_calls_come_in_a_rate(load: Callable[..., cloche.Node], clock: Clock) -> None:
    budget = cloche.Budget("ada", calls_per_s=2, burst=3, clock=clock)
    node = load(budget)  # a load is a call
    node.process(1)
    node.process(2)
    with pytest.raises(cloche.BudgetError) as caught:
        node.process(3)
    assert (caught.value.limit, caught.value.value, caught.value.retry_after_s) == ("calls_per_s", 2, 0.5)
    assert "2 calls in a second are allowed, 3 at once (Budget.calls_per_s); try again in 0.500 s" in str(caught.value)
    clock.now += 0.5
    assert node.process(4) == 4
    with pytest.raises(cloche.BudgetError):
        node.process(5)
    clock.now += 1000  # no more than the burst
    for number in range(3):
        node.process(number)
    with pytest.raises(cloche.BudgetError):
        node.process(6)
    assert (budget.stats.calls, budget.stats.refused) == (7, 3)


def test_a_clock_that_goes_back_gives_nothing(clock: Clock) -> None:
    budget = cloche.Budget(calls_per_s=1, burst=1, processor_s=1, per_s=10, clock=clock)
    budget.admit("n", costs=True)
    clock.now -= 1000
    with pytest.raises(cloche.BudgetError):
        budget.admit("n", costs=True)


def test_a_stream_is_one_call(load: Callable[..., cloche.Node], clock: Clock) -> None:
    budget = cloche.Budget(calls_per_s=1, burst=2, clock=clock)
    node = load(budget, STREAM)
    assert list(node.stream([2, 3])) == [0, 1, 0, 1, 2]
    with pytest.raises(cloche.BudgetError):
        list(node.stream([1]))


def test_a_stream_ends_when_the_processor_time_is_used_up(load: Callable[..., cloche.Node]) -> None:
    budget = cloche.Budget(processor_s=0.3)
    endless = cloche.Source("def parts(item):\n    while True:\n        yield item")
    node = load(budget, endless)
    with pytest.raises(cloche.BudgetError):
        for _ in node.stream([1]):
            pass
    assert not node.broken


def test_cleanup_runs_though_nothing_is_left(load: Callable[..., cloche.Node], runtime: cloche.Runtime) -> None:
    """A program that closes its nodes in order gets no errors for it; and what cleanup uses is charged."""
    done: list[str] = []
    source = cloche.Source("""
from cloche_guest import services

class N:
    def process(self, x):
        while x == "spin":
            pass
    def cleanup(self):
        for _ in range(100_000):
            pass
        services.note("cleanup")

class S:
    def process(self, x):
        try:
            while True:
                yield x
        finally:
            services.note("stream")
""")
    budget = cloche.Budget(processor_s=0.2)
    grants = cloche.Grants(services={"note": done.append})
    node = load(budget, source, entry="N", grants=grants, limits=patient(grace_s=60))
    stream = load(budget, source, entry="S", grants=grants)
    outputs = stream.stream([1])
    assert next(outputs) == 1
    with pytest.raises(cloche.BudgetError):
        node.process("spin")
    outputs.close()  # type: ignore[attr-defined]
    before = budget.stats.processor_s
    node.close()
    assert done == ["stream", "cleanup"]
    assert budget.stats.processor_s > before


def test_a_load_that_is_refused_makes_nothing(runtime: cloche.Runtime, load: Callable[..., cloche.Node]) -> None:
    """Not even a sandbox, or the host would work for a tenant that has used up what it may."""
    budget = cloche.Budget(calls_per_s=1e-6, burst=1)
    load(budget)
    loads = runtime.stats.calls
    with pytest.raises(cloche.BudgetError):
        runtime.load(cloche.Source("this is not even Python"), budget=budget)
    assert runtime.stats.calls == loads
    assert budget.stats.nodes == 1


def test_memory_is_counted_together(load: Callable[..., cloche.Node]) -> None:
    one = load(cloche.Budget(memory_bytes=1 << 40)).stats.memory_bytes
    budget = cloche.Budget("ada", memory_bytes=2 * one + (20 << 20))
    first, second = load(budget), load(budget)
    with pytest.raises(cloche.BudgetError, match="close nodes") as caught:
        load(budget)
    assert (caught.value.limit, caught.value.value) == ("memory_bytes", budget.memory_bytes)
    assert budget.stats.nodes == 2
    assert budget.stats.memory_bytes == 2 * one
    with pytest.raises(cloche.NodeRaisedError, match="MemoryError") as grown:
        first.process("keep", 60 << 20)
    assert "Budget.memory_bytes" in str(grown.value)
    assert grown.value.limit == "memory_bytes"
    first.process("keep", 1)
    assert sum(node.stats.memory_bytes for node in (first, second)) <= (budget.memory_bytes or 0)
    first.close()
    assert budget.stats.nodes == 1
    second.process("keep", 30 << 20)


def test_clones_restored_nodes_and_those_brought_back_have_it(
    runtime: cloche.Runtime, load: Callable[..., cloche.Node]
) -> None:
    budget = cloche.Budget(calls_per_s=1e-6, burst=6)
    node = load(budget, on_break="restart")  # 1
    clone = node.clone()
    clone.process(1)  # 2
    with pytest.raises(cloche.GuestExitError) as caught:
        node.process("exit")  # 3
    assert caught.value.recovered == "restart"
    node.process(1)  # 4
    restored = runtime.restore(node.snapshot(), budget=budget)
    restored.process(1)  # 5
    restored.clone().process(1)  # 6
    for each in (node, clone, restored):
        with pytest.raises(cloche.BudgetError):
            each.process(1)
    assert budget.stats.nodes >= 3
    for each in (clone, restored):
        each.close()


def test_a_pool_has_it(runtime: cloche.Runtime) -> None:
    budget = cloche.Budget(calls_per_s=1e-6, burst=4)
    with runtime.pool(NODE, size=2, budget=budget, initialize=False) as pool:  # 1
        assert sorted(pool.map([1, 2, 3])) == [1, 2, 3]  # 4
        with pytest.raises(cloche.BudgetError):
            pool.submit(4).result()
    assert budget.stats.nodes == 0


def test_it_is_shared_by_runtimes(isolation: Isolation) -> None:
    budget = cloche.Budget(calls_per_s=1e-6, burst=3)
    with cloche.Runtime(limits=patient()) as one, cloche.Runtime(limits=patient(), isolation=isolation) as other:
        one.load(NODE, budget=budget).process(1)
        node = other.load(NODE, budget=budget)
        with pytest.raises(cloche.BudgetError):
            node.process(1)


def test_a_node_without_a_budget_does_not_pay_with_the_store_of_one_that_had_one(runtime: cloche.Runtime) -> None:
    """Its store is used again."""
    budget = cloche.Budget(processor_s=1000)
    runtime.load(NODE, budget=budget).close()
    before = budget.stats.processor_s
    with runtime.load(NODE) as node:
        node.process("count", 100_000)
    assert budget.stats.processor_s == before


def test_a_deadline_is_still_a_deadline(load: Callable[..., cloche.Node]) -> None:
    node = load(cloche.Budget(processor_s=1000), limits=patient(deadline_s=0.05, grace_s=60))
    with pytest.raises(cloche.DeadlineError) as caught:
        node.process("spin")
    assert caught.value.limit == "deadline_s"
    with pytest.raises(cloche.NodeRaisedError, match="no"):
        node.process("raise")


def test_hooks_are_told(isolation: Isolation) -> None:
    told: list[cloche.CallRecord] = []
    budget = cloche.Budget(processor_s=0.2)
    with cloche.Runtime(isolation=isolation, limits=patient(grace_s=60), on_call=told.append) as runtime:
        node = runtime.load(NODE, budget=budget)
        for value in ("spin", 1):
            with pytest.raises(cloche.BudgetError):
                node.process(value)
    assert [record.error for record in told] == ["", "BudgetError", "BudgetError"]


def test_an_interrupt_leaves_nothing_taken(load: Callable[..., cloche.Node], thorough: bool) -> None:
    """At whatever bytecode: what a call takes is used, and what a node holds is given back with it."""
    budget = cloche.Budget(processor_s=1e6, memory_bytes=1 << 40, calls_per_s=1e6, burst=1_000_000)
    node = load(budget)
    held = budget.stats.memory_bytes
    where = within("cloche/budget.py", "cloche/_runtime/spending.py")
    for _ in every(lambda: node.process(1), KeyboardInterrupt, where, step=1 if thorough else 7):
        assert node.process(2) == 2
        assert budget.stats.memory_bytes == held
        assert budget.stats.nodes == 1


@pytest.mark.skipif(sys.platform == "win32", reason="fork")
@pytest.mark.isolation("none", reason="the nodes of worker processes are the parent's")
def test_the_child_of_a_fork_goes_on_with_a_copy(load: Callable[..., cloche.Node]) -> None:
    """Neither pays for the other from then on, and no lock is left held."""
    budget = cloche.Budget(processor_s=1000)
    node = load(budget)
    before = budget.stats.processor_s
    child = os.fork()
    if not child:
        status = 1
        try:
            node.process("count", 1_000_000)
            status = 0 if budget.stats.processor_s > before else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert budget.stats.processor_s == before
    assert node.process(1) == 1


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        ({}, ValueError, "a budget of nothing: give processor_s, memory_bytes or calls_per_s"),
        ({"per_s": 1}, ValueError, "per_s is for processor_s: give both"),
        ({"burst": 1}, ValueError, "burst is for calls_per_s: give both"),
        ({"processor_s": "1 hour"}, TypeError, "processor_s is '1 hour': give a number, or None"),
        ({"processor_s": "1"}, TypeError, "processor_s is '1': give a number, or None"),
        ({"processor_s": True}, TypeError, "processor_s is True: give a number, or None"),
        ({"processor_s": 1, "clock": 3}, TypeError, "clock is 3: give a function that returns seconds"),
        ({"processor_s": 0}, ValueError, "processor_s is 0: give a number from"),
        ({"processor_s": float("nan")}, ValueError, "processor_s is nan: give a number from"),
        ({"memory_bytes": 1.5}, TypeError, r"memory_bytes is 1\.5: give a whole number, or None"),
        ({"memory_bytes": 0}, ValueError, "memory_bytes is 0: give a number from 1"),
        ({"calls_per_s": 1, "burst": 0}, ValueError, "burst is 0: give a number from 1"),
        ({"name": 3, "processor_s": 1}, TypeError, "name is 3: give a text"),
    ],
)
def test_a_budget_that_means_nothing_is_refused(given: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=f"^{text}"):
        cloche.Budget(**given)


def test_something_else_than_a_budget_is_refused(runtime: cloche.Runtime) -> None:
    with pytest.raises(TypeError, match=r"^budget is 3: give a cloche\.Budget"):
        runtime.load(NODE, budget=3)  # type: ignore[arg-type]


def test_its_repr_shows_what_was_given() -> None:
    assert repr(cloche.Budget("ada", processor_s=2)) == "cloche.Budget(name='ada', processor_s=2.0)"
