"""Worker processes that crash, hang, are forked away from, and end: the host goes on, and nothing stays behind."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import selectors
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import cloche
from cloche._isolation import channel as _channel
from cloche._isolation import worker_main, worker_process
from cloche._isolation.reaper import ProcessReaper
from cloche._wasm.checkout import cache_folder
from tests.limits import patient

ECHO = cloche.Source("class N:\n    def process(self, x):\n        return x\n")
SPIN = cloche.Source("class N:\n    def process(self, x):\n        print('in')\n        while True: pass\n")
ENDLESS = "from cloche_guest import services\ndef f(x):\n    services.started()\n    while x: pass\n"


def eventually(true: Callable[[], object], told: Callable[[], str] = str) -> None:
    """Wait for what another process or thread does; a minute at most, after which `told` says how it is."""
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until, told()
        time.sleep(0.01)


def processor_s(pid: int) -> float:
    """Seconds of processor time that it has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def when_it_spins(worker: int, number: int, pid: int) -> threading.Thread:
    """Send a signal as soon as a worker is at work: the call has arrived there, and the host waits for its answer."""
    at_rest = processor_s(worker)

    def send() -> None:
        eventually(lambda: processor_s(worker) > at_rest + 0.1)
        os.kill(pid, number)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def pids(runtime: cloche.Runtime) -> list[int]:
    return [worker.pid for worker in runtime.workers]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_nodes_are_spread_and_workers_start_as_they_are_needed(own):
    """One process more for each node, up to `workers`; then the one with the fewest."""
    assert own.workers == ()
    nodes = [own.load(ECHO)]
    assert [worker.nodes for worker in own.workers] == [1]
    nodes += [own.load(ECHO) for _ in range(3)]
    assert [worker.nodes for worker in own.workers] == [2, 2]
    nodes[0].close()
    nodes[2].close()
    assert sorted(worker.nodes for worker in own.workers) == [0, 2]
    nodes.append(own.load(ECHO))
    assert sorted(worker.nodes for worker in own.workers) == [1, 2]
    assert [node.process(1) for node in (nodes[1], nodes[3], nodes[4])] == [1, 1, 1]


def test_each_node_has_a_process_of_its_own_if_asked(recorder):
    """And the process ends with its node."""
    with cloche.Runtime(isolation="process", workers="each", logger=recorder, limits=patient()) as runtime:
        one, two = runtime.load(ECHO), runtime.load(ECHO)
        assert [worker.nodes for worker in runtime.workers] == [1, 1]
        (first, second) = pids(runtime)
        one.close()
        assert not exists(first)
        assert two.process(2) == 2
        assert pids(runtime) == [second]


def test_a_worker_killed_during_a_call_breaks_its_nodes_and_no_others(own):
    """The call ends at once, the error says what the process died of; nodes elsewhere and new ones work."""
    hit, bystander, neighbour = own.load(SPIN), own.load(ECHO), own.load(ECHO)
    victim = pids(own)[0]
    when_it_spins(victim, signal.SIGKILL, victim)
    with pytest.raises(
        cloche.BrokenInstanceError, match=r"worker process .*died \(killed by signal 9 \(SIGKILL\)\)"
    ) as caught:
        hit.process(1)
    assert type(caught.value) is cloche.BrokenInstanceError
    assert caught.value.node == "N"
    assert hit.broken
    assert bystander.process(1) == 1
    with pytest.raises(cloche.BrokenInstanceError, match="SIGKILL"):
        neighbour.process(1)
    assert own.load(ECHO).process(3) == 3
    assert victim not in pids(own) and not exists(victim)


def test_a_worker_killed_at_rest_is_reaped_and_its_nodes_break_at_their_next_call(own):
    """No zombie stays, though nobody calls; the next call says why."""
    node = own.load(ECHO)
    (victim,) = pids(own)
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: not exists(victim))
    assert own.workers == ()
    with pytest.raises(cloche.BrokenInstanceError, match="SIGKILL"):
        node.process(1)
    with pytest.raises(cloche.ClosedError):
        node.process(1)
    with pytest.raises(cloche.ClosedError):
        node.snapshot()
    assert own.load(ECHO).process(3) == 3
    assert pids(own) != [victim]


def test_snapshot_and_stream_of_a_dead_worker_are_broken(own):
    """Every way in gives the same error."""
    node = own.load(ECHO)
    stream = node.stream(range(3))
    assert next(stream) == 0
    os.kill(pids(own)[0], signal.SIGKILL)
    with pytest.raises(cloche.BrokenInstanceError, match="SIGKILL"):
        list(stream)
    other = own.load(ECHO)
    os.kill(pids(own)[0], signal.SIGKILL)
    with pytest.raises(cloche.BrokenInstanceError, match="SIGKILL"):
        other.snapshot()
    assert other.broken


def test_a_worker_that_hangs_is_killed_after_the_grace(own, monkeypatch):
    """A stopped process stands for one whose watchdog no longer works."""
    monkeypatch.setattr(_channel, "GRACE_S", 0.2)
    node = own.load(SPIN, limits=cloche.Limits(deadline_s=0.3))
    (victim,) = pids(own)
    os.kill(victim, signal.SIGSTOP)
    with pytest.raises(cloche.DeadlineError, match=r"Limits\.deadline_s=0\.3.*did not stop it"):
        node.process(1)
    assert not exists(victim)
    assert own.load(ECHO).process(1) == 1


def test_nothing_stays_behind(recorder):
    """Descriptors, threads and processes are as before, after crashes as well."""

    def cycle() -> list[int]:
        with cloche.Runtime(isolation="process", workers=2, logger=recorder, limits=patient()) as runtime:
            nodes = [runtime.load(ECHO) for _ in range(4)]
            nodes[0].process(bytes(1 << 20))
            nodes[1].buffer(1000)
            nodes[2].clone().process(1)
            seen = pids(runtime)
            os.kill(seen[0], signal.SIGKILL)
            with pytest.raises(cloche.BrokenInstanceError):
                nodes[0].process(1)
            runtime.load(ECHO)
            seen += pids(runtime)
        return seen

    cycle()
    gc.collect()
    files, threads = open_files(), threading.active_count()
    seen = [pid for _ in range(3) for pid in cycle()]
    gc.collect()
    assert not any(map(exists, seen))
    assert open_files() <= files
    assert threading.active_count() <= threads


def test_a_runtime_that_is_dropped_ends_its_workers(recorder):
    """As when it is closed."""
    runtime = cloche.Runtime(isolation="process", logger=recorder, limits=patient())
    node = runtime.load(ECHO)
    (worker,) = pids(runtime)
    del runtime, node
    gc.collect()
    eventually(lambda: not exists(worker))


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 9)", "sys.exit()", "raise ValueError"])
def test_no_worker_survives_the_host(end, runtime):
    """Whatever way it ends, in the middle of a call too."""
    program = textwrap.dedent(f"""
        import os, sys, threading, cloche
        started = threading.Event()
        runtime = cloche.Runtime({str(runtime.image.folder)!r}, isolation="process", workers=2)
        node = runtime.load(cloche.Source({ENDLESS!r}), "f", limits=cloche.Limits(deadline_s=60), grants=cloche.Grants(services={{"started": started.set}}))
        other = runtime.load(cloche.Source("def f(x): return x"))
        print(*[worker.pid for worker in runtime.workers], flush=True)
        threading.Thread(target=node.process, args=[1], daemon=True).start()
        started.wait()
        {end}
    """)
    ended = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=300
    )
    workers = [int(pid) for pid in ended.stdout.split()]
    assert len(workers) == 2
    eventually(lambda: not any(map(exists, workers)))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_the_child_of_a_fork_has_no_part_in_its_parents_nodes(own):
    """It cannot disturb them, and can load its own."""
    node = own.load(ECHO)
    child = os.fork()
    if not child:
        code = 1
        try:
            try:
                node.process(1)
            except cloche.ClosedError:
                code = 0 if own.load(ECHO).process(2) == 2 else 3
            own.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert node.process(1) == 1


def test_interrupting_the_host_ends_the_call_not_the_worker(own):
    """Ctrl-C goes to the host; the node whose call it ended unwinds, and can be used again."""
    node, _, bystander = own.load(SPIN), own.load(ECHO), own.load(ECHO)
    before = pids(own)
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits "ignore"
    interrupting = when_it_spins(before[0], signal.SIGINT, os.getpid())
    try:
        with pytest.raises(KeyboardInterrupt):
            node.process(1)
        interrupting.join()
    finally:
        signal.signal(signal.SIGINT, heard)
    assert not node.broken
    for worker in before:
        os.kill(worker, signal.SIGINT)
    assert bystander.process(1) == 1
    assert pids(own) == before


def test_a_worker_knows_nothing_of_the_host(own, monkeypatch):
    """No environment, no open file but its own, another session; what is in force is in force."""
    monkeypatch.setenv("A_SECRET", "hunter2")
    own.load(ECHO)
    (worker,) = own.workers
    proc = Path("/proc") / str(worker.pid)
    names = [entry.partition(b"=")[0] for entry in (proc / "environ").read_bytes().split(b"\0") if entry]
    assert set(names) <= {b"CLOCHE_CACHE", b"LD_LIBRARY_PATH", b"LC_CTYPE"}
    targets = set()
    for name in os.listdir(proc / "fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            targets.add(str((proc / "fd" / name).readlink()).partition(":")[0])
    assert {target for target in targets if not target.endswith(".cwasm")} <= {
        "/dev/null", "pipe", "socket", "/memfd", f"/proc/{worker.pid}/pagemap"
    }  # fmt: skip
    assert os.getsid(worker.pid) == worker.pid
    status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
    assert status["NoNewPrivs"] == "1"
    assert (status["Seccomp"] == "2") is ("seccomp" in worker.confined_by) is ("seccomp" not in worker.missing)
    limits = (proc / "limits").read_text()
    assert "Max core file size        0                    0" in limits
    assert "Max file size             0                    0" in limits


def test_workers_are_told_apart_from_what_cannot_be(runtime):
    """Wrong options are refused, and say what to give."""
    with pytest.raises(ValueError, match="isolation is 'thread'"):
        cloche.Runtime(isolation="thread")
    with pytest.raises(ValueError, match="workers is 0"):
        cloche.Runtime(isolation="process", workers=0)
    with pytest.raises(ValueError, match="workers are for isolation='process'"):
        cloche.Runtime(workers=2)
    with pytest.raises(ValueError, match="metering is 'sand'"):
        cloche.Runtime(isolation="process", metering="sand")
    with pytest.raises(ValueError, match="the interpreter alone takes"):
        runtime.load(ECHO, limits=patient(memory_bytes=32 << 20))
    assert cloche.Runtime().workers == ()


def test_nothing_of_it_is_imported_unless_it_is_used():
    """A program that does not isolate its nodes does not wait for that code."""
    program = "import sys, cloche; cloche.Runtime().close(); print([m for m in sys.modules if '_isolation' in m])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"


@pytest.mark.parametrize("metering", ["fuel", "none"])
def test_other_meterings(recorder, metering):
    """The worker's engine is as the host's would be."""
    with cloche.Runtime(isolation="process", metering=metering, logger=recorder, limits=patient()) as runtime:
        assert runtime.metering == metering
        if metering == "fuel":
            node = runtime.load(SPIN, limits=patient(fuel=10**9))
            with pytest.raises(cloche.FuelError) as caught:
                node.process(1)
            assert caught.value.value == 10**9
        assert runtime.load(ECHO).process(1) == 1


def test_an_image_that_cannot_be_loaded_is_an_image_error(runtime, tmp_path, recorder, monkeypatch):
    """The worker finds out, the host raises."""
    for name in ("cloche.wasm", "manifest.json"):
        (tmp_path / name).write_bytes((runtime.image.folder / name).read_bytes())
    with (tmp_path / "cloche.wasm").open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"altered")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "native").symlink_to(cache_folder() / "native")
    monkeypatch.setenv("CLOCHE_CACHE", str(tmp_path / "cache"))
    with cloche.Runtime(tmp_path, isolation="process", logger=recorder, limits=patient()) as isolated:
        with pytest.raises(cloche.ImageError, match="was altered"):
            isolated.load(ECHO)
        assert isolated.workers == ()


@pytest.mark.parametrize("bodies", [1, 9_000], ids=["one", "thousands"])
def test_all_bodies_of_a_reply_come_along_with_it(own, bodies):
    """One round trip for a reply, however many arrays it has."""
    make = cloche.Source("import numpy as np\ndef f(x): return [np.full(600, i) for i in range(x)]\n")
    node = own.load(make, limits=patient())
    channel = node._sandbox._channel
    before = channel.number
    arrays = node.process(bodies)
    assert channel.number == before + 1
    assert [int(array[599]) for array in arrays] == list(range(bodies))


def test_what_only_looks_like_a_body_costs_nothing_but_its_bytes(own):
    """Text may look like a reference to guest memory: the right bodies are found all the same."""
    make = cloche.Source("""
from cloche_wire import tags
import numpy as np
def f(x):
    fake = b"\\xd9" + tags.BYTES_AT.to_bytes(2, "big") + b"\\x82\\x1a\\x00\\x10\\x00\\x00\\x19\\x10\\x00"
    return [[fake, fake[:7], bytes([i]) * 5000, fake * 3] for i in range(x)]
""")
    node = own.load(make)
    parts = node.process(50)
    assert [part[2] for part in parts] == [bytes([i]) * 5000 for i in range(50)]


def test_buffers_are_known_by_their_number(own):
    """One whose making failed does not shift the others."""
    node = own.load(cloche.Source("def f(x): return float(x[0])\n"), limits=patient(memory_bytes=128 << 20))
    first = node.buffer(10)
    with pytest.raises(cloche.EncodeError):
        node.buffer(50 << 20)
    second = node.buffer(10)
    first[:], second[:] = 1.0, 2.0
    assert (node.process(first), node.process(second)) == (1.0, 2.0)


def test_closing_the_runtime_ends_a_load(own):
    """Nobody waits for it any more; the error says why it ended."""
    errors: list[BaseException] = []
    source = cloche.Source(
        "class N:\n    def __init__(self):\n        while True: pass\n    def process(self, x): return x\n"
    )

    def load() -> None:
        try:
            own.load(source)
        except cloche.ClocheError as error:
            errors.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    eventually(lambda: own.workers and own.workers[0].nodes and own._engine._processes[0].busy_s)
    (worker,) = pids(own)
    own.close()
    thread.join(60)
    assert not thread.is_alive() and not exists(worker)
    assert isinstance(errors[0], (cloche.ClosedError, cloche.BrokenInstanceError))
    assert "clos" in str(errors[0])


def test_closing_the_runtime_ends_a_start(recorder, monkeypatch):
    """A worker that never gets ready is ended, and who waits for it hears that the runtime is closed."""
    monkeypatch.setattr(worker_process, "_BOOT", "import sys; sys.stdin.read(); import time; time.sleep(1000)")
    runtime = cloche.Runtime(isolation="process", workers=1, logger=recorder, limits=patient())
    errors: list[BaseException] = []

    def load() -> None:
        try:
            runtime.load(ECHO)
        except cloche.ClocheError as error:
            errors.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    eventually(lambda: runtime._engine._processes and runtime._engine._processes[0].pid)
    worker = runtime._engine._processes[0].pid
    runtime.close()
    thread.join(60)
    assert not thread.is_alive() and not exists(worker)
    assert type(errors[0]) is cloche.ClosedError


def test_closing_the_runtime_ends_a_worker_that_hangs(own, monkeypatch):
    """Its call has passed its deadline and the grace by then: the process is killed, and reaped."""
    monkeypatch.setattr(_channel, "GRACE_S", 0.2)
    node = own.load(SPIN, limits=cloche.Limits(deadline_s=0.3))
    (worker,) = pids(own)
    os.kill(worker, signal.SIGSTOP)
    errors: list[BaseException] = []

    def call() -> None:
        try:
            node.process(1)
        except cloche.ClocheError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    own.close()
    thread.join(60)
    assert not thread.is_alive() and not exists(worker)
    assert isinstance(errors[0], (cloche.DeadlineError, cloche.ClosedError))


def test_a_start_that_another_thread_waits_for_may_be_interrupted(recorder):
    """Its own start is then another process's."""
    with cloche.Runtime(isolation="process", workers=1, logger=recorder, limits=patient()) as runtime:
        runtime.load(ECHO).close()
        process = runtime._engine._processes[0]
        process.is_up = False  # as if its start had been interrupted
        assert runtime.load(ECHO).process(1) == 1
        assert process not in runtime._engine._processes
        assert not exists(process.pid)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_the_child_of_a_fork_during_a_start_or_a_call_has_locks_of_its_own(own):
    """Whatever other threads hold in the parent, the child can load nodes and end."""
    own.load(ECHO)
    engine = own._engine
    process = engine._processes[0]
    with engine._lock, process._lock, engine._reaper._lock:
        held = threading.Event()

        def fork() -> None:
            child = os.fork()
            if not child:
                code = 1
                try:
                    code = 0 if own.load(ECHO).process(2) == 2 else 3
                    engine.close()
                finally:
                    os._exit(code)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            held.set()

        codes: list[int] = []
        threading.Thread(target=fork).start()
        assert held.wait(100)
    assert codes == [0]


@pytest.mark.parametrize("character", ["\u202e", "\U0001f600"], ids=["escaped", "wide"])
def test_frames_of_any_size_are_told_and_end_no_worker(own, character):
    """They are more than a message holds: the innermost are told, and the call goes on."""
    text = f"""
from cloche_guest import services
def deep(n):
    if n: deep(n - 1)
    else: services.look()
def f(x):
    odd = {character!r} * 200
    deep.__code__ = deep.__code__.replace(co_filename=odd, co_qualname=odd)
    deep(150)
    return x
"""
    said = []
    grants = cloche.Grants(services={"look": lambda: said.append(node.where())})
    with own.load(cloche.Source(text), "f", grants=grants) as node:
        assert node.process(1) == 1
    assert said[0].count(", in ") > 10


def test_a_host_that_has_stopped_waiting_for_frames_ends_no_worker():
    """The socket for the answer is closed by then."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        ours.close()
        with pytest.raises(BrokenPipeError):
            theirs.send(b"an answer")
        worker_main._say_where(theirs, [["file", 1, "function"]])


def test_a_watch_that_finds_no_file_says_so_and_is_usable_later(monkeypatch):
    """Its thread would end at once, and whoever gave it a job would wait for ever."""
    reaper = ProcessReaper()
    outcome: list[BaseException | None] = []

    def ask():
        try:
            reaper.run(lambda: None)
            outcome.append(None)
        except OSError as error:
            outcome.append(error)

    def refuse():
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(selectors, "DefaultSelector", refuse)
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(20)
    assert [getattr(error, "errno", None) for error in outcome] == [errno.EMFILE]
    ask()
    assert outcome[1:] == [None]
    reaper.close()
