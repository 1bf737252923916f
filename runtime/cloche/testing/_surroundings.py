"""`Surroundings`: gives a node its own import system, root logger, warnings, standard streams and environment during a call."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from types import ModuleType

from cloche_guest import asking, modules
from cloche_guest.dispatch import Guest
from cloche_guest.logs import showwarning

__all__ = ["Surroundings"]


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
            stack.enter_context(self._logging())
            stack.enter_context(warnings.catch_warnings())
            warnings.showwarning = showwarning
            stack.enter_context(self._imports())
            if self._environment is not None:
                stack.enter_context(self._variables())
            stack.callback(asking.bind, asking.bind(guest.host.call))
            stack.callback(sys.set_asyncgen_hooks, *guest.loop.watch_generators())
            yield

    @contextmanager
    def _logging(self) -> Iterator[None]:
        root, logs = logging.getLogger(), self._guest.logs
        level, disabled, handlers = root.level, root.manager.disable, root.handlers
        root.handlers = [logs.handler]
        if logs.level is not None:
            logs.apply(logs.level)
        try:
            yield
        finally:
            root.handlers = handlers
            root.setLevel(level)
            logging.disable(disabled)

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
        finders = list(sys.meta_path)
        for name, module in own.items():
            sys.modules[name] = module
            module.__loader__.remember_lines()  # type: ignore[union-attr]  # a StoreLoader: only its modules are kept
        modules.install(self._guest.finders)
        try:
            yield
        finally:
            stores = [finder.store for finder in self._guest.finders]
            for name, module in list(sys.modules.items()):
                loader = getattr(module, "__loader__", None)
                if isinstance(loader, modules.StoreLoader) and loader.store in stores:
                    own[name] = sys.modules.pop(name)
            sys.modules.update(hidden)
            sys.meta_path[:] = finders


def _set_variables(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
