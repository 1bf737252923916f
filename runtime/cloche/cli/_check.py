"""``cloche check``: what a node is, and what of it does not work in the sandbox, found by reading its source and by trying.

All of the node's code is read and run inside of sandboxes. Each file is read in one of its own, and each attempt is made in a new
one: whatever a module does when it is imported, it does not change what is said of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloche.source as sources
from cloche import Runtime, remedies
from cloche.cli._console import logger, say
from cloche.cli._input import Form, open_input
from cloche.cli._report import Call, Finding, Import, Report, Trouble, Unread
from cloche.cli._rules import RULES, is_opened, lines_for
from cloche.cli._run import shaped
from cloche.errors import BrokenInstanceError, ClocheError, LimitError, NodeError, NodeLoadError
from cloche.texts import clean, name
from cloche_wire import Failure

if TYPE_CHECKING:
    from cloche import Grants, Limits, Node, Snapshot
    from cloche.cli._input import Input
    from cloche.cli._options import NodeOptions
    from cloche.isolation import Isolation
    from cloche.metering import Metering

__all__ = ["Form", "check"]

_MOST_ATTEMPTS = 1000
_NO_LOGS = 1000  # above every level: what an attempt logs is of no use, and would look like the node's
_NOT_TRIED: tuple[str, list[str], str] = "", [], ""
"""In place of an attempt's outcome, by identity: there were too many attempts."""
_HANDLE_IMPORTS = frozenset(("ImportError", "ModuleNotFoundError", "Exception", "BaseException"))


def check(
    node: NodeOptions,
    limits: Limits,
    metering: Metering,
    isolation: Isolation,
    *,
    source: str | None,
    form: Form,
    loads: bool = True,
) -> Report:
    """Check a node.

    Args:
        node: the node.
        limits: of every sandbox.
        metering: of the runtime.
        isolation: of the runtime.
        source: a file of items that the node is called with; None: it is loaded only.
        form: how to read them.
        loads: whether there is one node, which is loaded; False: the source is read, and its modules are imported.

    Raises:
        ClocheError, OSError: the node could not be checked at all, e.g. because its file does not exist.
    """
    modules = sources.read(node.path, packages=bool(node.grants.packages))
    with (
        nullcontext() if source is None else open_input(source, form) as items,
        Runtime(limits=limits, metering=metering, logger=logger(), isolation=isolation, progress=say) as runtime,
    ):
        read, unread = _read(runtime, modules)
        around = remedies.Surroundings.of(node.path, modules, node.grants.archives())
        trial = _Trial(runtime, replace(limits, log_level=_NO_LOGS), _with_own(node, modules), around)
        imports = list(_imports(trial, read))
        own = {found.module for found in imports}
        troubles = [] if around.single else list(_own_modules(trial, modules, own))
        findings = list(_findings(trial, read, node.grants))
        loaded, called = _tried(runtime, node, items, form.shape) if loads else ((None, None), None)
    return Report(
        node=node.path, imports=imports, modules=troubles, findings=findings, unread=unread,
        skipped=trial.skipped, load=loaded[0], entry=loaded[1], call=called,
    )  # fmt: skip


def _read(runtime: Runtime, modules: sources.Modules) -> tuple[list[tuple[str, dict[str, Any]]], list[Unread]]:
    """Read each file in a sandbox of its own: (file name, what it imports and uses); and the files that could not be read."""
    found, unread = [], []
    with runtime.load(Path(__file__).with_name("_reader.py"), "read", name="reader") as reader:
        pristine = reader.snapshot()
    for module, (file, text, is_package) in modules.files.items():
        package = module if is_package else module.rpartition(".")[0]
        try:
            with runtime.restore(pristine) as copy:
                found.append((name(file), copy.process(text, package, list(RULES))))
        except NodeError as error:
            if error.exc_type not in ("SyntaxError", "IndentationError", "TabError"):
                unread.append(Unread(name(file), _of(error)))
            elif module != modules.main:  # of the main module, loading says it
                unread.append(Unread(name(file), f"{error.exc_type}: {error.message}"))
        except ClocheError as error:  # it is too large, or its sandbox broke
            unread.append(Unread(name(file), _of(error)))
    return found, unread


def _of(error: ClocheError) -> str:
    text = f"{error.exc_type}: {error.message}" if isinstance(error, NodeError) else error.args[0]
    return clean(str(text), 500)


def _with_own(node: NodeOptions, modules: sources.Modules) -> Grants:
    """The node's grants, and its own package as one more, so that its modules can be imported in a trial."""
    path = Path(node.path)
    if not path.is_dir() or path.resolve().name in {Path(package).resolve().name for package in node.grants.packages}:
        return node.grants
    return replace(node.grants, packages=(*node.grants.packages, path.resolve()))


class _Trial:
    """Attempts, each in a new sandbox with the node's grants.

    Attributes:
        skipped: number of attempts that were not made because there were too many.
    """

    def __init__(self, runtime: Runtime, limits: Limits, grants: Grants, around: remedies.Surroundings) -> None:
        self.skipped = 0
        self._runtime, self._limits, self._grants, self._around = runtime, limits, grants, around
        self._known: dict[tuple[Any, ...], tuple[str, list[str], str] | None] = {}
        self._pristine: Snapshot | None = None

    def imported(self, module: str, names: list[str]) -> tuple[str, list[str], str] | None:
        """None if the import works; else what is raised, the names of its classes, and what to do; or _NOT_TRIED."""
        return self._attempt("", module, names)

    def ran(self, lines: str) -> tuple[str, list[str], str] | None:
        """Likewise for a few lines of Python."""
        return self._attempt(lines, "", [])

    def _attempt(self, lines: str, module: str, names: list[str]) -> tuple[str, list[str], str] | None:
        key = lines, module, *names
        if key not in self._known:
            if len(self._known) >= _MOST_ATTEMPTS:
                self.skipped += 1
                return _NOT_TRIED
            self._known[key] = self._made(lines, module, names)
        return self._known[key]

    def _made(self, lines: str, module: str, names: list[str]) -> tuple[str, list[str], str] | None:
        if self._pristine is None:
            source = Path(__file__).with_name("_imports.py")
            with self._runtime.load(source, "attempt", name="check", limits=self._limits, grants=self._grants) as node:
                self._pristine = node.snapshot()
        try:
            with self._runtime.restore(
                self._pristine, name=module or "check", limits=self._limits, grants=self._grants
            ) as copy:
                answer = copy.process(lines, module, names)
        except (BrokenInstanceError, LimitError, NodeError) as error:
            return _of(error), [type(error).__name__], ""
        match answer:  # the module that was imported may have tampered with it
            case None:
                return None
            case {"kinds": [str(kind), *_] as kinds, "message": str(message)} if all(type(one) is str for one in kinds):
                text = clean(message, 2000)
                advice = remedies.for_failure(Failure("import", kind, text), self._around)
                shown = text if kind == "AssertionError" and lines else f"{name(kind)}: {text}" if text else name(kind)
                return shown, kinds, advice
            case _:
                raise ClocheError("what the node imports has tampered with the check: it cannot be trusted")


def _imports(trial: _Trial, read: list[tuple[str, dict[str, Any]]]) -> Iterator[Import]:
    """Try every import, each module once; it is needed unless every source that imports it can do without."""
    found: dict[str, Import] = {}
    for file, answer in read:
        failed: list[bool] = []
        for item in answer["imports"]:
            match item:
                case {
                    "module": str(module), "names": list(names), "line": int(line), "handled": list(handled),
                    "instead_of": list(instead),
                }:  # fmt: skip
                    pass
                case _:
                    raise ClocheError("the reader's answer is malformed")
            outcome = trial.imported(module, [str(one) for one in names])
            tried = outcome is not _NOT_TRIED
            failed.append(outcome is not None)
            optional = not _HANDLE_IMPORTS.isdisjoint(handled)
            if instead and not any(failed[slice(*instead)]):
                optional = True  # it replaces imports that work
            problem, remedy = (outcome[0], outcome[2]) if tried and outcome else (None, "")
            made = Import(name(module), file, line, optional, tried, problem, remedy)
            before = found.get(module)
            if before is None or _weight(made) > _weight(before):
                found[module] = made
    yield from found.values()


def _weight(found: Import) -> tuple[bool, bool, bool]:
    """Of two imports of one module, the one with the larger weight is reported."""
    return found.problem is not None, not found.tried, not found.optional


def _own_modules(trial: _Trial, modules: sources.Modules, known: set[str]) -> Iterator[Trouble]:
    """Try every module of a package, also those that nothing imports."""
    for module, (file, _, _) in modules.files.items():
        if module in known or module.endswith("__main__"):
            continue
        outcome = trial.imported(module, [])
        if outcome is not None and outcome is not _NOT_TRIED:
            yield Trouble(name(module), name(file), outcome[0], outcome[2])


def _findings(trial: _Trial, read: list[tuple[str, dict[str, Any]]], grants: Grants) -> Iterator[Finding]:
    """Try what the sources use, where the source does not handle the exception itself."""
    writable = [point for point, mount in grants.mounts.items() if getattr(mount, "writable", False)]
    for file, answer in read:
        for item in answer["uses"]:
            match item:
                case {"name": str(used), "line": int(line), "handled": list(handled), "daemon": bool(daemon)} if (
                    used in RULES
                ):
                    pass
                case _:
                    raise ClocheError("the reader's answer is malformed")
            attempt = lines_for(used, item.get("first"), item.get("mode"), daemon, writable)
            if attempt is None or (outcome := trial.ran(attempt[0])) is None or outcome is _NOT_TRIED:
                continue
            if not set(outcome[1]).isdisjoint(handled):
                continue
            if (
                used in ("builtins.open", "io.open")
                and is_opened(used, item.get("mode"))
                and isinstance(item.get("first"), str)
            ):
                used = "open for writing"
            shown = (
                used.removeprefix("builtins.")
                .replace("pathlib.Path()", "Path(...)")
                .replace("os.environ[]", "os.environ[...]")
            )
            yield Finding(RULES[item["name"]].kind, file, line, shown, outcome[0], attempt[1])


def _tried(
    runtime: Runtime, node: NodeOptions, items: Input | None, shape: str
) -> tuple[tuple[Trouble | None, dict[str, Any] | None], Call | None]:
    """Load the node, and call it if there is something to call it with."""
    try:
        loaded = runtime.load(node.path, node.entry, node.params, grants=node.grants)
    except NodeLoadError as error:
        return (Trouble(node.entry or "", node.path, _of(error), error.remedy, error.guest_traceback), None), None
    with loaded:
        return (None, loaded.info), None if items is None else _called(loaded, items, shape)


def _called(node: Node, opened: Input, shape: str) -> Call:
    taken = given = 0

    def items(found: Iterable[tuple[Any, int]], rate: int | None) -> Iterator[Any]:
        nonlocal taken
        for item, _ in found:
            taken += 1
            yield shaped(item, shape, rate)

    try:
        node.initialize()
        for _ in node.stream(items(opened, opened.rate)):
            given += 1
    except (NodeError, LimitError, BrokenInstanceError) as error:
        return Call(taken, given, _of(error), getattr(error, "remedy", ""), getattr(error, "guest_traceback", ""))
    return Call(taken, given, None, "", "")
