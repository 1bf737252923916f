"""`Surroundings`: gives a node its own import system, root logger, warnings, standard streams and environment during a call."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from types import ModuleType

from cloche_guest import asking
from cloche_guest.dispatch import Guest

__all__ = ["Surroundings"]


@dataclass(frozen=True, slots=True)
class _Logging:
    """The state of `logging` in a process."""

    handlers: list[logging.Handler]
    level: int
    disabled: int
    loggers: dict[str, logging.Logger | logging.PlaceHolder]
    logger_class: type[logging.Logger]
    factory: Callable[..., logging.LogRecord]


class Surroundings:
    """The process-wide state of one node: in place during the node's calls, kept aside between them.

    Args:
        guest: the node's dispatch.
        names: modules that the node brings along; installed modules of the same names are hidden from the node.
        capture: whether stdout, stderr and stdin are redirected; False leaves them to a debugger.
        variables: whether the node was granted environment variables; its changes to `os.environ` then last from call to call.
    """

    def __init__(self, guest: Guest, names: frozenset[str], capture: bool = True, *, variables: bool = False) -> None:
        self._guest = guest
        self._names = names
        self._capture = capture
        self._modules: dict[str, ModuleType] = {}
        self._environment: dict[str, str | None] | None = {} if variables else None
        self._logging_of_node: _Logging | None = None

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Put the node's state in place for one call."""
        guest = self._guest
        with ExitStack() as stack:
            if self._capture:
                stack.enter_context(redirect_stdout(guest.streams.stdout))
                stack.enter_context(redirect_stderr(guest.streams.stderr))
                stack.callback(setattr, sys, "stdin", sys.stdin)
                sys.stdin = guest.streams.stdin
            stack.enter_context(warnings.catch_warnings())
            stack.enter_context(self._logging())
            stack.enter_context(self._imports())
            if self._environment is not None:
                stack.enter_context(self._variables())
            stack.callback(asking.bind, asking.bind(guest.host.call))
            stack.callback(sys.set_asyncgen_hooks, *guest.loop.watch_generators())
            yield

    @contextmanager
    def _logging(self) -> Iterator[None]:
        """Root logger, named loggers, classes and switches of `logging` as the node has left them after its last call."""
        root, logs = logging.getLogger(), self._guest.logs
        before = self._logging_state(root)
        root.setLevel(root.level)  # forgets which levels are enabled, for every logger of this process
        if self._logging_of_node is None:
            self._set_logging(root, _Logging([], logging.INFO, 0, {}, logging.Logger, logging.LogRecord))
        else:
            self._set_logging(root, self._logging_of_node)
        undo = logs.install()
        try:
            yield
        finally:
            undo()
            self._logging_of_node = self._logging_state(root)
            self._set_logging(root, before)

    @staticmethod
    def _logging_state(root: logging.Logger) -> _Logging:
        return _Logging(
            root.handlers,
            root.level,
            root.manager.disable,
            root.manager.loggerDict,
            logging.getLoggerClass(),
            logging.getLogRecordFactory(),
        )

    @staticmethod
    def _set_logging(root: logging.Logger, state: _Logging) -> None:
        root.handlers = state.handlers
        root.manager.loggerDict = state.loggers
        logging.setLoggerClass(state.logger_class)
        logging.setLogRecordFactory(state.factory)
        logging.disable(state.disabled)
        root.setLevel(state.level)

    @contextmanager
    def _variables(self) -> Iterator[None]:
        before = dict(os.environ)
        _set_variables(self._environment or {})
        try:
            yield
        finally:
            now = dict(os.environ)
            self._environment = {name: now.get(name) for name in {*now, *before} if now.get(name) != before.get(name)}
            _set_variables({name: before.get(name) for name in self._environment})

    @contextmanager
    def _imports(self) -> Iterator[None]:
        own = self._modules
        hidden = {name: sys.modules.pop(name) for name in {*self._names, *own} if name in sys.modules}
        before = list(sys.meta_path), list(sys.path), list(sys.path_hooks)
        for name, module in own.items():
            sys.modules[name] = module
            remember = getattr(module.__loader__, "remember_lines", None)
            if remember is not None:
                remember()
        if self._guest.imports is not None:
            self._guest.imports.install()
        try:
            yield
        finally:
            imports = self._guest.imports
            if imports is not None:
                held = [name for name, module in list(sys.modules.items()) if imports.holds(module)]
                own.update(
                    (name, sys.modules.pop(name)) for name in held
                )  # only now: a namespace's path asks for its parent
            sys.modules.update(hidden)
            sys.meta_path[:], sys.path[:], sys.path_hooks[:] = before


def _set_variables(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
