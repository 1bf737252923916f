"""The figures of a runtime and of its nodes: what lives, what was used, and whose memory it is."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import cloche
from cloche._runtime.figures import Tally
from cloche.isolation import Isolation
from tests.limits import patient

ECHO = cloche.Source("def echo(x):\n    return x")
KEEP = cloche.Source("def keep(size):\n    global kept\n    kept = b'x' * size\n    return size")
EXIT = cloche.Source("import os\ndef leave(x):\n    if x:\n        os._exit(1)")


@pytest.fixture
def own(isolation: Isolation) -> Iterator[cloche.Runtime]:
    """A runtime whose figures are this test's alone."""
    with cloche.Runtime(isolation=isolation, limits=patient()) as runtime:
        yield runtime


def test_the_living_nodes_are_listed_in_their_order(own: cloche.Runtime) -> None:
    first, second = own.load(ECHO, name="first"), own.load(ECHO, name="second")
    clone = first.clone(name="clone")
    assert own.nodes == (first, second, clone)
    second.close()
    assert own.nodes == (first, clone)
    own.close()
    assert own.nodes == ()


def test_a_broken_node_is_not_listed_but_one_that_was_brought_back_is(own: cloche.Runtime) -> None:
    gone, back = own.load(EXIT), own.load(EXIT, on_break="restart")
    for node in (gone, back):
        with pytest.raises(cloche.GuestExitError):
            node.process(True)
    assert own.nodes == (back,)
    assert own.stats.breaks == 2


def test_nobody_keeps_a_node_alive_by_listing_it(own: cloche.Runtime) -> None:
    own.load(ECHO)
    gc.collect()
    assert own.nodes == ()


def test_the_clones_of_a_pool_are_listed(own: cloche.Runtime) -> None:
    with own.pool(ECHO, size=2, name="pool") as pool:
        assert sorted(pool.map([1, 2, 3])) == [1, 2, 3]
        assert len(own.nodes) == 2
    assert own.nodes == ()


def test_what_closed_nodes_have_used_still_counts(own: cloche.Runtime) -> None:
    """Each call once: a clone has the number of its original's calls, and a node that was brought back those before its break."""
    node = own.load(ECHO)  # 1
    node.process(1)  # 2
    clone = node.clone()  # 3
    clone.process(2)  # 4
    node.close()
    assert (own.stats.loads, own.stats.calls, own.stats.nodes) == (2, 4, 1)
    back = own.load(EXIT, on_break="restart")  # 5
    back.process(False)  # 6
    with pytest.raises(cloche.GuestExitError):
        back.process(True)  # 7, and 8 to bring it back
    back.process(False)  # 9
    before = own.stats
    assert (before.loads, before.calls, before.breaks) == (3, 9, 1)
    assert before.seconds > 0
    own.close()
    assert own.stats == cloche.RuntimeStats(
        nodes=0, loads=3, calls=9, seconds=own.stats.seconds, breaks=1, idle_stores=0, workers=0
    )
    assert own.stats.seconds >= before.seconds


def test_a_load_that_fails_is_a_call_but_no_node(own: cloche.Runtime) -> None:
    with pytest.raises(cloche.NodeLoadError):
        own.load(cloche.Source("1 / 0"))
    with pytest.raises(cloche.GuestExitError):
        own.load(cloche.Source("import os\nos._exit(1)"))
    assert (own.stats.loads, own.stats.calls, own.stats.breaks, own.nodes) == (0, 2, 1, ())


def test_many_threads_lose_no_count(own: cloche.Runtime) -> None:
    def work(number: int) -> None:
        with own.load(ECHO) as node:
            for _ in range(3):
                node.process(number)
        assert own.stats.calls > 0

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(24)))
    assert (own.stats.loads, own.stats.calls, own.stats.nodes) == (24, 24 * 4, 0)


@pytest.mark.isolation("none", reason="no guest runs")
def test_a_sandbox_that_the_garbage_collector_closes_in_between_is_counted(runtime: cloche.Runtime) -> None:
    """A finalizer may run in the middle of adding up, on the same thread, and may not wait for itself."""
    tally = Tally()

    class Used:
        used = tally.sum()

        def __hash__(self) -> int:
            if self.nested:
                tally.retire(Late())  # type: ignore[arg-type]
            return id(self)

        nested = True

    class Late(Used):
        used = tally.sum()._replace(calls=5)
        nested = False

    tally.retire(Used())  # type: ignore[arg-type]
    assert tally.sum().calls == 5


def test_private_memory_is_what_the_node_has_written(own: cloche.Runtime) -> None:
    """The whole of linear memory is 40 MiB and more, nearly all of it shared with the image."""
    node = own.load(KEEP)
    assert 0 < node.stats.private_bytes < 4 << 20 < node.stats.memory_bytes
    node.process(20 << 20)
    assert 20 << 20 <= node.stats.private_bytes < 30 << 20
    small = own.load(ECHO)
    assert own.stats.private_bytes == node.stats.private_bytes + small.stats.private_bytes
    stats, all_of_them = node.stats, own.stats
    assert pickle.loads(pickle.dumps(stats)).private_bytes == stats.private_bytes
    assert pickle.loads(pickle.dumps(all_of_them)).private_bytes == all_of_them.private_bytes
    node.close()
    assert (stats.private_bytes, node.stats.private_bytes) == (0, 0)
    assert all_of_them.private_bytes == small.stats.private_bytes


def test_private_memory_can_be_read_while_the_node_computes(own: cloche.Runtime) -> None:
    """From a service, which runs in the middle of the call."""
    seen: list[int] = []
    source = cloche.Source(
        "from cloche_guest import services\ndef f(size):\n    kept = b'x' * size\n    services.look()\n    return len(kept)"
    )
    node = own.load(source, grants=cloche.Grants(services={"look": lambda: seen.append(node.stats.private_bytes)}))
    assert node.process(10 << 20) == 10 << 20
    assert seen[0] > 10 << 20


def test_statistics_keep_no_node_alive(own: cloche.Runtime) -> None:
    node = own.load(ECHO)
    stats = node.stats
    del node
    gc.collect()
    assert stats.private_bytes == 0


@pytest.mark.isolation("none", reason="stores are kept in this process")
def test_idle_stores_are_counted(own: cloche.Runtime) -> None:
    own.load(ECHO).close()
    assert own.stats.idle_stores == 1


@pytest.mark.isolation("process", reason="there are no others")
def test_worker_processes_are_counted(own: cloche.Runtime) -> None:
    own.load(ECHO)
    assert own.stats.workers == len(own.workers) == 1


@pytest.mark.isolation("none", reason="the kernel of this process")
def test_without_the_kernel_s_page_map_nothing_is_known(
    own: cloche.Runtime, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Elsewhere than on Linux. Closing a node does without it, too: its store is then not used again."""
    node = own.load(ECHO)
    opened: Callable[..., object] = open

    def refuse(path: object, *arguments: object, **keywords: object) -> object:
        if path == "/proc/self/pagemap":
            raise FileNotFoundError(path)
        return opened(path, *arguments, **keywords)

    monkeypatch.setattr("builtins.open", refuse)
    assert node.stats.private_bytes == 0
    node.close()
    assert own.stats.idle_stores == 0


def test_a_node_of_which_a_view_is_kept_is_alive(own: cloche.Runtime) -> None:
    """Until the view is dropped."""
    view = own.load(cloche.Source("def f(x): return x")).with_options(deadline_s=5).with_options(on_log=None)
    gc.collect()
    assert len(own.nodes) == own.stats.nodes == 1
    assert view.process(1) == 1
    del view
    gc.collect()
    assert own.nodes == ()
