"""`Runtime`: one engine with the guest image, and the nodes that run on it. Makes nodes by loading, restoring and cloning."""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Literal,
    NoReturn,
    ParamSpec,
    TypeVar,
    Unpack,
    get_args,
)

from cloche import source as _source
from cloche._arguments import checked, checked_count, checked_limits, checked_metered, checked_seconds
from cloche._html import table
from cloche._keywords import teaches
from cloche._pickles import handle
from cloche._records import BreakRecord, CallRecord, LogRecord
from cloche._requests import NodeLock, ServiceHandler, is_inside, run_inside
from cloche._runtime.call_options import NO_OPTIONS
from cloche._runtime.calls import NodeCalls
from cloche._runtime.closing import LATE_S, Closable, Closing, close_at_exit
from cloche._runtime.compiled_packages import COMPILER, LIMITS, CompiledPackages, imported_names
from cloche._runtime.figures import RuntimeStats, SandboxWatch, Tally
from cloche._runtime.hooks import Hooks, ReportingWatch
from cloche._runtime.load_options import ELSEWHERE, ELSEWHERE_FOR_POOL, LoadOptions, Origin, PoolKeywords
from cloche._runtime.node import Node
from cloche._runtime.parked import How, Parked, State
from cloche._runtime.recovery import OnBreak, RecoveryPolicy, Supervisor
from cloche._runtime.tracing import Tracing, chosen
from cloche._sandbox import (
    Difference,
    Instance,
    RecordedInstance,
    ReplayedInstance,
    Sink,
    Snapshot,
    Watched,
    WatchedInstance,
    WatchedRecordedInstance,
    interruption,
    load_request,
    name_limit,
    note_failure,
    raise_failure,
    request_handlers,
)
from cloche._times import ItemTimes
from cloche._wasm import EXHAUSTED_ERRNOS, CallState, ClockAndRandomState, Engine, out_of_resources
from cloche._wasm import image as _image
from cloche._wasm.engine import options
from cloche.errors import (
    BrokenInstanceError,
    CallInterruptedError,
    ClocheError,
    ClosedError,
    ImageError,
    NodeLoadError,
    NodeRaisedError,
    ProtocolError,
)
from cloche.grants import Grants
from cloche.isolation import Isolation, WorkerInfo
from cloche.limits import Limits
from cloche.metering import DEFAULT_METERING, Metering
from cloche.source import Source
from cloche_wire import Op, Reply

if TYPE_CHECKING:
    from cloche._isolation import WorkerPool
    from cloche._recording import Record, Recording
    from cloche._runtime.inspecting import Times
    from cloche._runtime.pool import Pool
    from cloche._sandbox import CheckedSandbox, Intercept, Sandbox, Tape
    from cloche.budget import Budget

__all__ = ["Runtime"]

NO_LIMIT_S = 365 * 86400.0
"""The deadline of a load with ``load_s=None``: long enough to count as none."""
_MOST_SHOWN: Final = 10
"""Nodes whose names a notebook shows."""
Follower = Callable[["Source | str | os.PathLike[str]", _source.Modules], "Callable[[CheckedSandbox], None] | None"]
"""See `Runtime.follow_loads`."""
P = ParamSpec("P")
T = TypeVar("T")


class Runtime(Closable):
    """One engine and one guest image, shared by all the nodes that are loaded through it. Thread-safe.

    The first runtime on a machine compiles the image, which takes about 10 seconds and is reported to the logger. The compiled code
    is kept in a cache; later runtimes load it in milliseconds.

    Args:
        image: folder with cloche.wasm and manifest.json; None: the image that came with the package, or with the checkout.
        limits: limits of every node that is loaded without limits of its own; None: `Limits()`.
        metering: how a guest that computes is stopped at its deadline. "guard": every loop reads one page of the guest's memory,
            which the host makes inaccessible at the deadline; the fastest code that can be stopped (Linux only; the default on
            x86-64). "epoch": every loop compares a counter (the default elsewhere). "fuel": every instruction is counted, so
            that a limit (`Limits.fuel`) is met at the same place in each run. "none": nothing is compiled in; for code that
            you trust. Under "fuel" and "none" a deadline ends only sleeps and services, not computation.
        logger: gets the nodes' log records: a `logging.Logger` or ``LoggerAdapter``, a logger of structlog or loguru, or an object
            with the methods ``debug`` to ``critical``, which take a message and keywords (docs/how-to/logs.md). None:
            ``structlog.get_logger("cloche.node")`` if your program has configured structlog, otherwise stderr. An exception of
            the logger costs that record alone, and is reported once, as a RuntimeWarning.
        isolation: "none": nodes run in this process, and WebAssembly alone separates them from it. "process": nodes run in
            confined worker processes, if WebAssembly's isolation alone is not enough for you (Linux only;
            docs/explanation/threat-model.md says what the processes add). If a worker process dies, its nodes break
            (`BrokenInstanceError`).
        workers: with ``isolation="process"``, the largest number of worker processes; "each": one for every node; None: the number
            of processors, but 4 at most. Worker processes are started when they are needed.
        progress: called with one line of text for each step that takes more than a second, such as compiling the image; None: the
            line goes to the logger.
        on_call: called with a `CallRecord` after each call on a node: loading, `Node.process`, each step of a stream ... It runs on
            the thread of the call, before the call returns, so let it be quick. What it raises costs no answer: it becomes a
            RuntimeWarning. It cannot call the node that it is called for. None costs nothing.
        on_break: called with a `BreakRecord` after each break of a node, likewise.
        telemetry: a `cloche.telemetry.Telemetry`, which makes OpenTelemetry's spans and metrics of the runtime's calls; None: none
            are made, and OpenTelemetry is not imported.
        inspectable: let ``cloche top``, run by the same user, show the nodes of this process: their names, figures, and where in
            their code they are. It times each call, which costs about a microsecond. None: as the environment's CLOCHE_TOP says
            ("1"); False costs nothing.

    Raises:
        ImageError: the image is missing or damaged; the message says which command to run.
        ClocheError: ``isolation="process"`` on a system other than Linux; or `inspectable`, and there is no folder for it.
        TypeError: `limits` is not a `Limits`, `logger` is no logger, or a hook is no plain function.
        ValueError: options that do not go together, such as `Limits.fuel` without ``metering="fuel"``.
    """

    @teaches(elsewhere=ELSEWHERE)
    def __init__(
        self,
        image: str | os.PathLike[str] | None = None,
        limits: Limits | None = None,
        metering: Metering = DEFAULT_METERING,
        logger: Any = None,
        *,
        isolation: Isolation = "none",
        workers: int | Literal["each"] | None = None,
        progress: Callable[[str], None] | None = None,
        on_call: Callable[[CallRecord], object] | None = None,
        on_break: Callable[[BreakRecord], object] | None = None,
        telemetry: Tracing | None = None,
        inspectable: bool | None = None,
    ) -> None:
        if isolation not in get_args(Isolation):
            raise ValueError(f"isolation is {isolation!r}: give 'none' or 'process'")
        if isolation == "none" and workers is not None:
            raise ValueError("workers are for isolation='process'")
        self.limits = checked_metered(checked_limits(limits), metering)
        self._hooks = Hooks(on_call, on_break, chosen(telemetry))
        self.image = _image.find(image)
        self._logger = sink = Sink.of(logger)
        tell = progress or sink.info
        self._engine: Engine | WorkerPool
        if isolation == "process":
            from cloche._isolation import WorkerPool

            options(metering)
            self._engine = WorkerPool(self.image, metering, workers, tell)
        else:
            self._engine = Engine(
                metering, partial(_image.load, self.image, metering, progress=tell), self.image.sha256
            )
        self._packages = CompiledPackages(self.image.sha256, self._compile_package, tell)
        self._compilers: set[Runtime] = set()
        self._nodes: weakref.WeakSet[NodeCalls] = weakref.WeakSet()
        self._handles: weakref.WeakValueDictionary[int, Node] = weakref.WeakValueDictionary()
        self._numbers = itertools.count()
        self._tally = Tally()
        self._loads: dict[NodeLock, CheckedSandbox | None] = {}
        """The loads and restores under way, each with its instance once there is one. A load holds its lock until it has ended."""
        self._ending = NodeLock("the runtime's engine")
        self._follower: Follower | None = None
        self._times: Times | None = weakref.WeakKeyDictionary() if _is_inspectable(inspectable) else None
        self._closed = False
        self.closes_in = os.getpid()
        close_at_exit(self)
        if self._hooks.telemetry is not None:
            self._hooks.telemetry.follow_runtime(self)
        if self._times is not None:
            from cloche._runtime.inspecting import inspector  # few programs are looked at

            inspector.add(self, self._times, must=inspectable is True)

    @property
    def logger(self) -> Any:
        """The logger for the nodes' log records."""
        return self._logger

    @property
    def telemetry(self) -> Tracing | None:
        """The `cloche.telemetry.Telemetry` that follows the runtime; None: none does."""
        return self._hooks.telemetry

    @property
    def metering(self) -> Metering:
        """How the guest's time is bounded."""
        return self._engine.metering

    @property
    def workers(self) -> tuple[WorkerInfo, ...]:
        """The living worker processes, and what confines each; empty without ``isolation="process"``."""
        return () if isinstance(self._engine, Engine) else self._engine.info

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The living nodes, the oldest first: neither closed, nor broken, nor dropped. Clones of pools are among them."""
        nodes = _listed(self._handles.values)
        return tuple(node for node in nodes if not (node.__cloche__.closed or node.broken))

    @property
    def stats(self) -> RuntimeStats:
        """What all nodes have used so far, together; the closed ones, too. It takes some microseconds for each living node."""
        used, engine = self._tally.sum(), self._engine
        return RuntimeStats(
            nodes=len(self.nodes),
            loads=self._tally.loads,
            calls=used.calls,
            seconds=used.seconds,
            breaks=self._tally.breaks,
            idle_stores=len(engine.stores) if isinstance(engine, Engine) else 0,
            workers=len(self.workers),
            _measure=partial(_private_bytes, weakref.ref(self)),
        )

    @teaches(elsewhere=ELSEWHERE)
    def load(
        self,
        source: Source | str | os.PathLike[str],
        entry: str | None = None,
        params: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        limits: Limits | None = None,
        grants: Grants | None = None,
        session_id: str | None = None,
        on_break: OnBreak = "raise",
        checkpoint_every: int | None = None,
        max_restarts: int = 3,
        budget: Budget | None = None,
        record: Record | str | os.PathLike[str] | bool | None = None,
    ) -> Node:
        """Load a node into a sandbox of its own: compile, import, find the entry, call ``__init__(**params)``.

        Args:
            source: the node's code: the path of a .py file or of a package folder, a `Source` (code as text), or the dotted name of
                a module in one of the granted packages.
            entry: name of a class with a ``process`` method, or of a plain function; None: the only one that the module defines.
            params: keyword arguments of the entry's ``__init__``.
            name: the node's name in logs and errors; None: the entry's name.
            limits: limits of this node; None: the runtime's.
            grants: what the node may use besides its own code; None: nothing.
            session_id: passed to an entry whose ``__init__`` has a parameter ``session_id``, and set as that attribute of the node
                if it is None there.
            on_break: what happens to the node when its instance breaks (hard deadline, trap, exit ...). The call that broke it
                raises in any case; the error has the call's data, and the call is not repeated. "raise": the node is broken as
                well. "restart": the node continues in a new instance, with the state that it had after loading, or after the last
                `Node.initialize`. "restore": it continues with the state of its last checkpoint.
            checkpoint_every: with ``on_break="restore"``, the number of answered calls or stream steps between two checkpoints;
                None: 1, so that no answered call is lost. A checkpoint copies the memory that the node has written to, at least
                0.6 MB, in some 0.3 ms.
            max_restarts: how often in a row the node may break without having answered a call; after that it stays broken.
            budget: what the node may use together with others, see `Budget`; its clones have it, too. None: nothing but its limits.
            record: record the node's calls, so that they can be replayed (docs/how-to/record-and-replay.md): a
                `cloche.replay.Record`; or the path of a folder, to which a file is written for each call that fails; or True, to
                keep the last calls for `Node.recording` only. None: nothing is recorded.

        Raises:
            NodeLoadError: the code does not compile or import, has no such entry, or ``__init__`` raised; the message says what
                can be done.
            EncodeError: a parameter cannot be sent.
            DeadlineError: loading took longer than `Limits.load_s`.
            BrokenInstanceError: loading passed another limit, or crashed the guest.
            BudgetError: the budget is used up.
            FileNotFoundError: `source` is a path that does not exist.
            ClosedError: the runtime is closed.
            TypeError: an argument has the wrong class; the message names the argument.
        """
        self._check_open()
        options = LoadOptions(
            entry=entry,
            params=params,
            name=name,
            limits=self.limits if limits is None else limits,
            grants=Grants() if grants is None else grants,
            session_id=session_id,
            budget=budget,
            policy=RecoveryPolicy(on_break=on_break, checkpoint_every=checkpoint_every, max_restarts=max_restarts),
            record=self._checked_record(record),
        )
        return self._loaded(source, options)

    @teaches(elsewhere=ELSEWHERE)
    def restore(
        self,
        snapshot: Snapshot,
        *,
        name: str | None = None,
        limits: Limits | None = None,
        grants: Grants | None = None,
        reseed: bool = True,
        on_break: OnBreak = "raise",
        checkpoint_every: int | None = None,
        max_restarts: int = 3,
        budget: Budget | None = None,
        record: Record | str | os.PathLike[str] | bool | None = None,
    ) -> Node:
        """Make a node from a snapshot, in a sandbox of its own. A snapshot can be restored any number of times.

        Args:
            snapshot: from `Node.snapshot`, of this process or another.
            name: the node's name in logs and errors; None: the name that it had.
            limits: limits of this node; None: the runtime's.
            grants: what the node may request from the host from now on (services, mounts, clock, seed); None: nothing. What was
                granted at loading and lives inside the guest (packages, opaque, env) is part of the snapshot. A clock that is
                not the host's continues where the snapshot left off.
            reseed: True: seed the random generators anew, so that two restored nodes draw different numbers (with the same
                `Grants.seed` they draw the same ones). False: continue with the generators' state in the snapshot.
            on_break: as for `load`; "restart" returns to this snapshot.
            checkpoint_every: as for `load`.
            max_restarts: as for `load`.
            budget: as for `load`.
            record: as for `load`.

        Raises:
            ImageError: the snapshot was made with another image.
            ClocheError: the snapshot needs more memory than `limits` allow.
            BudgetError: the budget has no memory left.
            ClosedError: the runtime is closed.
            TypeError: an argument has the wrong class; the message names the argument.
        """
        self._check_open()
        checked("snapshot", snapshot, Snapshot, "one from Node.snapshot or Snapshot.from_bytes(data)")
        options = LoadOptions(
            name=name,
            limits=self.limits if limits is None else limits,
            grants=Grants() if grants is None else grants,
            budget=budget,
            policy=RecoveryPolicy(on_break=on_break, checkpoint_every=checkpoint_every, max_restarts=max_restarts),
            record=self._checked_record(record),
        )
        return self._restored(snapshot, options, reseed)

    def park(self, node: Node) -> Parked:
        """Put an idle node aside: its sandbox is freed, and what is left are some 20 kB. `unpark` brings it back in less than 1 ms.

        The node object, and views of it, refuse calls from now on. Nothing of the node runs meanwhile, not its ``cleanup`` either.
        If an interrupt (Ctrl-C) ends `park` early, the node is open as before, or is parked, and `park` called again returns it.
        See docs/how-to/parking.md, and `cloche.parking.Sessions`, which parks by itself.

        Args:
            node: a node of this runtime. A call under way is waited for. An open stream goes on with `Node.resume` later.

        Raises:
            ClocheError: the node is another runtime's, a pool's or a session's; or has a lease open, is debugged or profiled, or
                has called services that were given up and still run. It stays open.
            ClosedError: it is closed or broken.
        """
        calls = checked("node", node, Node, "one from Runtime.load, Runtime.restore or Node.clone").__cloche__
        if calls not in self._nodes and not calls.is_parked:
            if calls.closed:
                raise calls.closed_error()
            raise ClocheError(f"node {calls.name!r} is not this runtime's, or is lent by a pool or a session")
        return calls.park()

    @teaches(elsewhere=ELSEWHERE)
    def unpark(
        self,
        parked: Parked,
        *,
        name: str | None = None,
        limits: Limits | None = None,
        grants: Grants | None = None,
        on_break: OnBreak | None = None,
        checkpoint_every: int | None = None,
        max_restarts: int | None = None,
        budget: Budget | None = None,
        record: Record | str | os.PathLike[str] | bool | None = None,
    ) -> Node:
        """Bring a parked node back as it was: its state, random generators and clocks, its name, limits, grants and other options.

        Options that are given take the place of the node's own. For a node that comes from bytes (`Parked.from_bytes`) they have
        to be given, as to `restore`: bytes carry no limits and no grants. Called again, it returns the same node.

        What lives in the host begins anew: `Node.service_calls`, a recording, files that the node has open in mounts, buffers.

        Args:
            parked: from `park`, of this runtime or another with the same image, or from `Parked.from_bytes`.
            name: as for `restore`.
            limits: as for `restore`.
            grants: as for `restore`.
            on_break: as for `load`; "restart" returns to the state that it would have returned to.
            checkpoint_every: as for `load`.
            max_restarts: as for `load`.
            budget: as for `load`.
            record: as for `load`; False: nothing is recorded.

        Raises:
            ImageError: it was parked with another image.
            ClocheError: it needs more memory than `limits` allow.
            BudgetError: the budget has no memory left.
            ClosedError: the runtime is closed; or the node was brought back and closed.
            TypeError: an argument has the wrong class; the message names the argument.

        In each case but the last it stays parked.
        """
        self._check_open()
        checked("parked", parked, Parked, "one from Runtime.park or Parked.from_bytes(data)")

        def make(state: State, how: How | None, lock: NodeLock) -> Node:
            how = How(LoadOptions(limits=self.limits, session_id=state.session_id)) if how is None else how
            old = how.options
            policy = old.policy if on_break is None else RecoveryPolicy(on_break=on_break)
            if checkpoint_every is not None:
                policy = replace(policy, checkpoint_every=checkpoint_every)
            if max_restarts is not None:
                policy = replace(policy, max_restarts=max_restarts)
            options = replace(
                old,
                limits=old.limits if limits is None else limits,
                grants=old.grants if grants is None else grants,
                policy=policy,
                budget=old.budget if budget is None else budget,
                record=self._checked_record(old.record if record is None else record),
            )
            return self.unparked(state, replace(how, options=options), lock, name)

        node: Node = parked.brought_back(make)
        if node.__cloche__.closed:
            raise node.__cloche__.closed_error()
        return node

    def cloned(self, snapshot: Snapshot, options: LoadOptions, lock: NodeLock) -> Node:
        """A clone of a node, from its snapshot, with random numbers of its own. Cloche's own."""
        self._check_open()
        return self._restored(snapshot, options, True, lock)

    def unparked(self, state: State, how: How, lock: NodeLock, name: str | None = None) -> Node:
        """A node of the state of a parked one. Cloche's own.

        Args:
            state: its state, checked if it comes from elsewhere.
            how: its options.
            lock: its lock.
            name: its name; None: the one that it had.
        """
        name, options = name or state.snapshot.name, how.options
        if options.name != name or options.recorder is not None:
            options = replace(options, name=name, recorder=None)
        node = self._restored(state.snapshot, options, False, lock, state, how.numbers)
        node.__cloche__.origin = how.origin
        return node

    def _checked_record(self, record: Any) -> Record | None:
        if record is None or record is False:
            return None
        from cloche._recording import record_of  # few programs record

        return record_of(record)

    def load_again(self, source: Source | str | os.PathLike[str], origin: Origin, lock: NodeLock) -> NodeCalls:
        """Load a node as another one was loaded. Cloche's own.

        Args:
            source: its code.
            origin: how the other one was loaded.
            lock: the other one's lock, which this thread holds, and which is this one's as well.
        """
        self._check_open()
        return self._loaded(source, origin.options, lock, origin.seed).__cloche__

    def restore_again(self, snapshot: Snapshot, origin: Origin, lock: NodeLock) -> NodeCalls:
        """Restore a node with the options of another one. Cloche's own. As `load_again`, but for the snapshot."""
        made = self._restored(snapshot, origin.options, False, lock).__cloche__
        made.origin = origin
        return made

    def _loaded(
        self,
        source: Source | str | os.PathLike[str],
        options: LoadOptions,
        lock: NodeLock | None = None,
        seed: bytes | None = None,
    ) -> Node:
        """See `load`."""
        checked_metered(options.limits, self.metering)
        if options.budget is not None:
            options.budget.check(options.label("node"), costs=True)
        modules = _source.read(source, packages=bool(options.grants.packages))
        if self._follower is not None and not options.is_own:
            options = replace(options, on_sandbox=self._follower(source, modules))
        taken = [point for point in options.grants.mounts if (point + "/").startswith("/node/")]
        if taken and modules.folder is not None:
            raise ClocheError(
                f"{taken[0]} is mounted, and the files of the node's own folder are there: mount it elsewhere"
            )
        outside = ClockAndRandomState.of(options.grants.clock, options.grants.seed)
        packages = options.grants.archives()
        sent = self._packages.prepared(packages, imported_names(modules)) if packages else packages
        if sum(map(len, sent.values())) > options.limits.request_bytes // 2:
            sent = packages  # compiled, they may not fit the message
        seed = seed or outside.seed
        message = options.request(modules, sent, seed)
        label = options.label(modules.main)
        uncompiled: list[object] = []
        try:
            host = CallState(label, outside)
            host.seed = seed
            node = self._while_open(lock or NodeLock(label), self._load, label, message, options, host, uncompiled)
        except NodeLoadError as error:
            if not error.remedy:
                from cloche import remedies  # its tables are rarely needed

                around = remedies.Surroundings.of(source, modules, packages)
                error.remedy = remedies.for_failure(error.failure, around)
            raise
        if uncompiled:
            try:
                self._packages.extend(packages, sent, uncompiled[0])
            except BaseException:
                node.__cloche__.discard()
                raise
        node.__cloche__.origin = Origin(self, options, seed)
        return node

    def _compile_package(self, name: str, content: bytes, modules: list[str], seconds: float) -> Any:
        """Compile a package in a new sandbox. Its answer is untrusted: the package may be made to break the compiler."""
        params = {"name": name, "content": content, "roots": modules, "seconds": seconds}
        limits = LIMITS if self.metering == "fuel" else replace(LIMITS, fuel=None)
        options = LoadOptions(params=params, name=f"compiler of {name}", limits=limits, is_own=True)
        if isinstance(self._engine, Engine):
            with self._loaded(COMPILER, options) as node:
                return node.process()
        # a worker of its own: one that has run nodes may have been taken over by one of them
        with Runtime(
            self.image.folder, None, self.metering, self._logger, isolation="process", workers="each"
        ) as fresh:
            self._compilers.add(fresh)
            try:
                self._check_open()
                with fresh._loaded(COMPILER, options) as node:
                    return node.process()
            finally:
                self._compilers.discard(fresh)

    def _restored(
        self,
        snapshot: Snapshot,
        options: LoadOptions,
        reseed: bool,
        lock: NodeLock | None = None,
        state: State | None = None,
        numbers: Iterator[int] | None = None,
    ) -> Node:
        """See `restore`.

        Args:
            snapshot: the state to begin with.
            options: the node's options.
            reseed: see `restore`.
            lock: the node's lock; None: a new one.
            state: of the parked node that goes on; None: it is a new one.
            numbers: numbers of its clones; None: from 1.
        """
        self._check_open()
        if isinstance(snapshot, Difference) and (options.record is not None or not isinstance(self._engine, Engine)):
            snapshot = snapshot.whole()
        checked_metered(options.limits, self.metering)
        if snapshot.image != self.image.sha256:
            raise ImageError(
                f"the snapshot of {snapshot.name!r} belongs to the image {snapshot.image[:12]}, this runtime has "
                f"{self.image.sha256[:12]}: restore it with the version of Cloche that made it"
            )
        info = load_request.read_info(snapshot.info)
        if info is None:
            raise ClocheError("the snapshot describes no node")
        label = options.label(snapshot.name)
        if options.budget is not None:
            options.budget.check(label, costs=False)

        def revive(lock: NodeLock) -> Node:
            instance = self._revived(snapshot, options, label, reseed, lock)
            return self._add(instance, info, options, lock, state, numbers)

        return self._while_open(lock or NodeLock(label), revive)

    @teaches(elsewhere=ELSEWHERE_FOR_POOL, also=PoolKeywords.__annotations__)
    def pool(
        self,
        source: Source | str | os.PathLike[str],
        entry: str | None = None,
        params: Mapping[str, Any] | None = None,
        size: int | None = None,
        warm: int | None = None,
        *,
        initialize: bool = True,
        reset: bool = False,
        max_calls: int | None = None,
        max_age_s: float | None = None,
        max_queue: int | None = None,
        queue_timeout_s: float | None = None,
        acquire_timeout_s: float | None = None,
        **options: Unpack[PoolKeywords],
    ) -> Pool:
        """Load a node once, and process many items on clones of it, in parallel.

        Args:
            source: as for `load`, with `entry` and `params`.
            entry: as for `load`.
            params: as for `load`.
            size: number of items that are processed at the same time; None: the number of processors.
            warm: number of clones that are made at once, the others when they are needed; None: all of them.
            initialize: call ``initialize`` once, before the clones are made.
            reset: process every item on a new clone, so that nothing can pass from one item to another.
            max_calls: replace a clone after this number of items; None: never.
            max_age_s: replace a clone after this number of seconds; None: never.
            max_queue: number of items that may wait for a node; `Pool.submit` waits for room. None: any number.
            queue_timeout_s: seconds for which `Pool.submit` waits for room in the queue before it raises `PoolTimeoutError`; 0: it
                does not wait; None: as long as it takes.
            acquire_timeout_s: seconds that an item may wait for a node; after that its future has a `PoolTimeoutError`. None: as
                long as it takes.
            **options: `name`, `limits`, `grants`, `session_id`, `budget` and `record`, as for `load`. A clone that breaks is always
                replaced. Each clone has a recording of its own; the files that failures leave are counted together.

        Raises:
            NodeLoadError: as for `load`, which may raise its other errors, too.
            TypeError: an argument is of the wrong class; the message names it.
            ValueError: a number is too low; the message names it.
        """
        # late: they import concurrent.futures, which is slow, and few programs have a pool
        from cloche._runtime.pool import Pool
        from cloche._runtime.pool_workers import PoolWorkers

        workers = checked_count("size", size) if size is not None else os.cpu_count() or 1
        ready = checked_count("warm", warm, 0) if warm is not None else workers
        most = checked_count("max_calls", max_calls) if max_calls is not None else None
        oldest = checked_seconds("max_age_s", max_age_s)
        if ready > workers:
            raise ValueError(f"warm is {ready}, and the pool has {workers} nodes at most: give size={ready}, or less")
        if reset and (most is not None or oldest is not None):
            taken = "max_calls" if most is not None else "max_age_s"
            raise ValueError(f"{taken} has no effect with reset=True, which makes a new clone for every item")
        room = checked_count("max_queue", max_queue) if max_queue is not None else None
        timeouts = (
            checked_seconds("queue_timeout_s", queue_timeout_s),
            checked_seconds("acquire_timeout_s", acquire_timeout_s),
        )
        if room is None and timeouts[0] is not None:
            raise ValueError("queue_timeout_s is for max_queue: a queue without a bound has room at once")
        options["record"] = record = self._checked_record(
            options.get("record")
        )  # one object: it counts the files of all
        node = self.load(source, entry, params, **options)
        try:
            if initialize:
                node.initialize()
            pristine = node.snapshot()
            has_async = node.__cloche__.has_async_services
        finally:
            node.__cloche__.discard()
        limits, grants, number = options.get("limits"), options.get("grants"), itertools.count(1)
        chosen = LoadOptions(
            limits=self.limits if limits is None else limits,
            grants=Grants() if grants is None else grants,
            session_id=options.get("session_id"),
            in_pool=True,
            budget=options.get("budget"),
            record=record,
        )
        if self._follower is not None:
            modules = _source.read(source, packages=bool(chosen.grants.packages))
            chosen = replace(chosen, on_sandbox=self._follower(source, modules))

        def clone() -> Node:
            return self._restored(pristine, chosen.of_clone(next(number)), True)

        made = PoolWorkers(
            clone,
            workers,
            warm=ready,
            max_calls=1 if reset else most,
            max_age_s=oldest,
            max_queue=room,
            has_async=has_async,
        )
        if self._hooks.telemetry is not None:
            made.trace = self._hooks.telemetry.follow_pool(node.name, made)
        return Pool(made, NO_OPTIONS, *timeouts)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the runtime is closed")

    def replaying(
        self,
        recording: Recording,
        tape: Tape,
        *,
        intercept: Intercept | None,
        deadline_s: float | None,
        deliver: Callable[[list[LogRecord], str], None],
    ) -> tuple[ReplayedInstance, NodeCalls]:
        """A sandbox that makes the calls of a recording again, and what lets in one of its calls at a time. Cloche's own.

        Args:
            recording: the recording.
            tape: gets what the sandbox does.
            intercept: see `cloche._sandbox.Intercept`.
            deadline_s: seconds that each call may take.
            deliver: gets the log records.

        Raises:
            ImageError: the recording was made with another image.
            ClocheError: it cannot be replayed.
            ClosedError: the runtime is closed.
        """
        self._check_open()
        engine = self._engine
        if not isinstance(engine, Engine):
            raise ClocheError("a recording is replayed in this process: give a runtime with isolation='none'")
        if recording.redacted:
            raise ClocheError(
                f"the recording of {recording.name!r} is redacted: without a state it can be read, but not replayed"
            )
        self._check_image(recording.image, f"the recording of {recording.name!r}")
        info = {} if recording.state is None else recording.state.info

        def make(lock: NodeLock) -> tuple[ReplayedInstance, NodeCalls]:
            limits = replace(recording.limits, fuel=None)
            sandbox = ReplayedInstance(
                recording.events,
                tape,
                engine,
                limits,
                recording.name,
                deliver,
                recording.state,
                recording.granted,
                intercept,
                deadline_s,
            )
            calls = NodeCalls(sandbox, {**info, "methods": []}, lock)  # without methods: closing it calls nothing
            self._nodes.add(calls)
            return sandbox, calls

        try:
            return self._while_open(NodeLock(recording.name), make)
        except ValueError as error:
            raise ClocheError(f"the recording of {recording.name!r} cannot be replayed: {error}") from error

    def _check_image(self, image: str, what: str) -> None:
        if image != self.image.sha256:
            raise ImageError(
                f"{what} belongs to the image {image[:12]}, this runtime has {self.image.sha256[:12]}: use the version of Cloche "
                "that made it"
            )

    def _while_open(
        self, lock: NodeLock, make: Callable[Concatenate[NodeLock, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Make a node while holding its lock. `close` waits for that lock: otherwise it would close the engine during a load."""

        def work() -> T:
            self._loads[lock] = (
                None  # before the check: either `close` sees the load, or the load sees that it is too late
            )
            self._check_open()
            return make(lock, *args, **kwargs)

        try:
            try:
                return lock.run(work)
            finally:
                self._loads.pop(lock, None)
        except (MemoryError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in EXHAUSTED_ERRNOS:
                raise
            raise out_of_resources("to make a node", error) from error
        finally:
            self._loads.pop(lock, None)

    def _load(
        self,
        lock: NodeLock,
        label: str,
        message: Any,
        options: LoadOptions,
        host: CallState,
        uncompiled: list[object],
    ) -> Node:
        """See `load`.

        Args:
            lock: the node's lock, which this thread holds.
            label: the node's name; until the guest has reported the entry's name, a substitute for it.
            message: from `LoadOptions.request`.
            options: the caller's options.
            host: the state of the node's calls.
            uncompiled: gets what the guest says about packages without compiled code, if there are packages; it is untrusted.
        """
        limits = options.limits
        instance = self._instance(options, host, lock)
        try:
            self._loads[lock] = instance
            self._check_open()
            instance.limit_next_calls(limits.load_s or NO_LIMIT_S, "load_s")
            if options.on_sandbox is not None:
                options.on_sandbox(instance)
            kind, value = instance.exchange(
                Op.LOAD, [message], ""
            )  # no root: the keys of the message already name the arguments
            if kind is Reply.FAILURE:
                raise_failure(value, label, Op.LOAD)
            instance.limit_next_calls(None)
            info = load_request.read_info(value) if kind is Reply.RESULT else None
            if info is None:
                raise ProtocolError(f"node {label!r}: the guest's answer to LOAD describes no node", node=label)
            if value.get("uncompiled"):
                uncompiled.append(value["uncompiled"])
        except NodeLoadError as error:
            try:
                failed = NodeLoadError(error.failure, label)
                name_limit(failed, limits, instance.memory_bytes)
                raised = interruption(failed, instance.told, instance.usage(), limits, usable=False)
                raised = _told(instance, raised)
            finally:
                instance.close(keep=True)
            if isinstance(raised, CallInterruptedError):
                self._check_open()
            raise raised from None
        except BaseException as error:
            if isinstance(error, ProtocolError):
                note_failure(instance, error)
            instance.close()
            if isinstance(error, BrokenInstanceError):
                error.at_load = True
            if isinstance(error, CallInterruptedError):
                self._check_open()  # raises ClosedError if `close` has cancelled the load
            raise
        if not options.is_named:
            instance.name = info["entry"]
        return self._add(instance, info, options, lock)

    def _instance(
        self, options: LoadOptions, host: CallState, lock: NodeLock, snapshot: Snapshot | None = None
    ) -> CheckedSandbox:
        logger, engine = self._logger, self._engine
        host.in_pool = options.in_pool
        is_timed = self._times is not None
        watched = (is_timed or bool(self._hooks) or options.budget is not None) and not options.is_own
        make: Callable[..., CheckedSandbox]
        recorder = None
        if options.record is not None:
            from cloche._recording import NodeRecorder  # few programs record

            recorder = options.recorder or NodeRecorder(options.record, self.metering, self.image.sha256)
        if not isinstance(engine, Engine):
            make = partial(engine.open, watched=watched, recorder=recorder)
        elif recorder is None:
            make = partial(WatchedInstance if watched else Instance, engine)
        else:
            make = partial(WatchedRecordedInstance if watched else RecordedInstance, recorder, engine)
        made = request_handlers(options.grants, options.limits, host, logger)
        if services := ServiceHandler.among(made):
            services.lock = lock

        def deliver(records: list[LogRecord], node: str) -> None:
            run_inside(lock, None, logger.deliver, records, node)

        try:
            instance = make(options.limits, host, deliver, snapshot, made)
        except BaseException:
            for handler in made:
                handler.close()
            raise
        if not options.is_own:
            self._follow(instance, host.calls, lock, options, snapshot)
        return instance

    def _follow(
        self, instance: CheckedSandbox, calls: int, lock: NodeLock, options: LoadOptions, snapshot: Snapshot | None
    ) -> None:
        """Count what a new sandbox does, report it to the hooks, and have it pay from its budget."""
        if not isinstance(instance, Watched):
            self._tally.follow(instance, SandboxWatch(self._tally, instance, calls))
            return
        common = self._tally, instance, calls, self._hooks, lock, options.session_id
        if options.budget is None:
            self._tally.follow(instance, self._traced(ReportingWatch(*common), lock, options, snapshot))
            return
        from cloche._runtime.spending import BudgetWatch  # few programs have a budget

        watch = BudgetWatch(*common, options.budget)
        self._tally.follow(instance, self._traced(watch, lock, options, snapshot))
        try:
            watch.enter(instance)
        except BaseException:
            instance.close()
            raise

    def _traced(
        self, watch: ReportingWatch, lock: NodeLock, options: LoadOptions, snapshot: Snapshot | None
    ) -> ReportingWatch:
        """The watch of a new sandbox, with a trace if the runtime has telemetry, and with times if it is inspectable."""
        if self._times is not None:
            watch.times = self._times.setdefault(lock, ItemTimes())
        if self._hooks.telemetry is not None:
            watch.trace = self._hooks.telemetry.follow_sandbox(
                session_id=options.session_id,
                isolation=self.isolation,
                info=None if snapshot is None else load_request.read_info(snapshot.info),
            )
        return watch

    @property
    def isolation(self) -> Isolation:
        """Where nodes run: "none" in this process, "process" in worker processes."""
        return "none" if isinstance(self._engine, Engine) else "process"

    def _revived(
        self, snapshot: Snapshot, options: LoadOptions, name: str, reseed: bool, lock: NodeLock
    ) -> CheckedSandbox:
        """Restore a snapshot of this image into a new instance."""
        self._check_open()
        outside = ClockAndRandomState.of(options.grants.clock, options.grants.seed).resumed(
            snapshot.outside, stream=not reseed
        )
        host = CallState(name, outside)
        instance = self._instance(options, host, lock, snapshot)
        try:
            if reseed:
                host.seed = outside.seed
                kind, value = instance.exchange(Op.RESEED, [host.seed], "seed")
                if kind is Reply.FAILURE and instance.told is not None:
                    raise_failure(value, name, Op.RESEED)
                if kind is not Reply.RESULT:
                    raise ProtocolError(f"node {name!r}: {kind.name} is no answer to RESEED", node=name)
            if options.on_sandbox is not None:
                options.on_sandbox(instance)
        except NodeRaisedError as error:
            try:
                raised = interruption(error, instance.told, instance.usage(), options.limits, usable=False)
                raised = _told(instance, raised)
            finally:
                instance.close()
            raise raised from None
        except BaseException as error:
            if isinstance(error, ProtocolError):
                note_failure(instance, error)
            instance.close()
            raise
        return instance

    def _add(
        self,
        instance: CheckedSandbox,
        info: dict[str, Any],
        options: LoadOptions,
        lock: NodeLock,
        state: State | None = None,
        numbers: Iterator[int] | None = None,
    ) -> Node:
        name, number = instance.name, numbers or itertools.count(1)
        recorded = instance.recorded
        if recorded is not None:
            try:
                recorded.begin(info)
            except BaseException:
                instance.close()
                raise
            options = replace(options, recorder=recorded.recorder)

        def restore(snapshot: Snapshot, name: str, reseed: bool, is_own: bool = False) -> Node:
            own = replace(options.of_clone(next(number)) if reseed else options, recorder=None)
            if is_own:
                own = replace(own, is_own=True, policy=RecoveryPolicy(), budget=None, record=None)
            return self._restored(snapshot, replace(own, name=name), reseed)

        def revive(snapshot: Snapshot) -> CheckedSandbox:
            revived = self._revived(snapshot, options.of_clone(next(number)), name, True, lock)
            if revived.watch is not None:
                revived.watch.is_supervised = True
            return revived

        calls: NodeCalls | None = None
        try:
            if state is not None:
                instance.carry(state.carried)
            sandbox: Sandbox = instance
            if options.policy.on_break != "raise":
                kept = (None, None) if state is None else (state.checkpoint, state.carried)
                sandbox = Supervisor(instance, info, options.policy, revive, *kept)
                if instance.watch is not None:
                    instance.watch.is_supervised = True
            calls = NodeCalls(sandbox, info, lock)
            if not (options.is_own or options.in_pool):
                calls.how = How(options, numbers=number)
            node = Node(calls, restore)
            self._nodes.add(calls)
            if not options.is_own:
                self._handles[next(self._numbers)] = node
            self._check_open()  # again: `close` may have run since `_load` looked, and then nobody else would close this node
        except BaseException:
            if calls is not None:
                self._nodes.discard(calls)
            instance.close()
            raise
        if not options.is_own:
            self._tally.count_load()
        return node

    def close(self, timeout: float | None = None) -> None:
        """Close every node that is still open, then the engine.

        Loads under way are cancelled, and raise ClosedError. Calls under way are waited for.

        Calling `close` again does nothing; if an interrupt or a failing node ended the first attempt, the next one continues it.
        Several threads may call it: each returns when everything is closed.

        Args:
            timeout: seconds for which calls under way are waited for, on all nodes together; then they are interrupted, as by
                `Node.close`. The ``cleanup``s together may take what is left of that time, and one second more; a node whose turn
                comes later is freed without. None: as long as the calls take.

        Raises:
            ExceptionGroup: one or more nodes failed to close cleanly, for example because ``cleanup`` raised; all nodes are closed
                nevertheless. The exceptions are a node in whose call the calling thread is waiting (through a service), and, with
                a `timeout`, one whose call is in a service that does not return: those nodes and the engine stay open; call
                `close` again later.
            ClocheError: `close` was called from inside a call of one of the runtime's own nodes; nothing is closed.
        """
        closing = Closing(checked_seconds("timeout", timeout), self._interrupt_all)
        if is_inside([*self._loads, *(node.lock for node in self.living())]):
            raise ClocheError("the runtime cannot be closed from inside a call of one of its own nodes")
        self._closed = True
        failures: list[Exception] = []
        may_end = True
        for compiler in list(self._compilers):
            compiler.close()
        for lock in list(self._loads):
            if lock.is_lost:  # in the child of a fork: the load is the parent's
                continue
            try:
                lock.run_unless(partial(self._cancel_load, lock, closing), _nothing)
            except ClocheError as error:
                failures.append(error)
                may_end = False
        for node in self.living():
            try:
                node.close(closing)
            except Exception as error:
                failures.append(error)
                may_end = may_end and node.sandbox.closed
        if may_end:
            try:
                self._ending.run(self._engine.close)
            except Exception as error:
                failures.append(error)
        if failures:
            raise ExceptionGroup("not all nodes of the runtime could be closed cleanly", failures)

    async def aclose(self, timeout: float | None = None) -> None:
        """As `close`, awaitable under asyncio and trio: the event loop goes on meanwhile. Cancelling the task does not end it."""
        from cloche._runtime.async_calls import on_a_thread  # late: importing anyio takes 30 ms

        await on_a_thread(partial(self.close, timeout))

    def _interrupt_all(self) -> None:
        for node in self.living():
            node.interrupt()

    def _cancel_load(self, lock: NodeLock, closing: Closing) -> bool:
        """Cancel a load under way. Called until the load has ended, because a cancellation before the guest runs has no effect.

        Returns:
            whether to wait no longer: the load is in a service that does not return.
        """
        instance = self._loads.get(lock)
        if instance is not None:
            instance.cancel()
        else:
            self._engine.end_starts()
        return closing.late_s > self.limits.grace_s + LATE_S

    def living(self) -> list[NodeCalls]:
        """The runtime's nodes that have not been collected as garbage. Cloche's own: `nodes` is public."""
        return _listed(self._nodes.__iter__)

    def follow_loads(self, follower: Follower | None) -> None:
        """Have `follower` know of the nodes that are loaded from now on, before they run anything. Cloche's own, for its tools.

        Args:
            follower: called with the source and the code of each node; it returns what to call with each of the node's sandboxes,
                which is at rest then, or None. None: nobody wants to know any more.

        Raises:
            ClocheError: there is another one; or the nodes are in worker processes.
        """
        if follower is not None and self._follower is not None:
            raise ClocheError("the nodes of this runtime are being followed already")
        if follower is not None and not isinstance(self._engine, Engine):
            raise ClocheError("the nodes of this runtime are in worker processes: use a Runtime with isolation='none'")
        self._follower = follower

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            handle(
                "a Runtime",
                "make one in the other process, from the same image, and pass it Sources, Grants and Limits",
            )
        )

    def __repr__(self) -> str:
        return (
            f"<cloche.Runtime metering={self.metering!r} {'closed' if self._closed else f'{len(self._nodes)} nodes'}>"
        )

    def _repr_html_(self) -> str:
        nodes = [] if self._closed else self.living()
        rows: list[tuple[Any, ...]] = [
            ("state", "closed" if self._closed else "open"),
            ("metering", self.metering),
            ("isolation", self.isolation),
            ("image", self.image.sha256[:12]),
            ("nodes", len(nodes)),
        ]
        names = sorted(node.name for node in nodes)
        rows += [("", name) for name in names[:_MOST_SHOWN]]
        if len(names) > _MOST_SHOWN:
            rows.append(("", f"and {len(names) - _MOST_SHOWN} more"))
        return table("Runtime", rows)


def _listed(items: Callable[[], Iterable[T]]) -> list[T]:
    """The items of a weak collection to which other threads may add."""
    while True:
        try:
            return list(items())
        except RuntimeError:  # another thread has just added one
            continue


def _told(instance: CheckedSandbox, error: ClocheError) -> ClocheError:
    """The error to raise for one in which making a node has ended, once its recorder and its watch know of it."""
    note_failure(instance, error)  # before the watch, which may say where the recording is
    return error if instance.watch is None else instance.watch.explained(error)


def _private_bytes(reference: weakref.ref[Runtime]) -> int:
    """The private memory of a runtime's nodes. Statistics do not keep the runtime alive."""
    runtime = reference()
    return 0 if runtime is None else sum(node.stats.private_bytes for node in runtime.nodes)


def _is_inspectable(asked: bool | None) -> bool:
    """Whether a runtime is inspectable: as it was asked to be, or as the environment says."""
    return asked if asked is not None else os.environ.get("CLOCHE_TOP", "") not in ("", "0")


def _nothing() -> None:
    """Do nothing: for a lock that is acquired only to wait for its holder."""
