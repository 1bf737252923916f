"""The services (functions of the host) that were granted to this node, each as an attribute of this module.

>>> from cloche_guest import services
>>> services.lookup("x", n=3)

A call blocks until the host answers; ``await services.lookup.acall("x", n=3)`` is the awaitable form. Arguments and results are
copied, like those of the node. A test can set plain functions as attributes, or use `cloche.testing.services`.
"""

import sys as _sys
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from cloche_guest import asking as _asking
from cloche_wire.messages import Ask as _Ask

_SERVICE = int(_Ask.SERVICE)
_SERVICES = int(_Ask.SERVICES)


class _Service:
    """One service of the host."""

    __slots__ = ("__name__",)

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, *arguments: _Any, **keywords: _Any) -> _Any:
        """Call the service, and wait for its result.

        Raises:
            TypeError: the arguments do not match the signature or cannot be sent, or the result cannot be sent.
            PermissionError: the service's gate refused the call.
            TimeoutError: the service took longer than its deadline.
            LookupError: the service is not granted, or not any more.
            Exception: the service failed. The node learns the kind of exception, but no details.
        """
        try:
            return _asking.ask([_SERVICE, self.__name__, [*arguments], keywords])
        except _asking.NothingGrantedError:
            raise LookupError(f"no service {self.__name__!r}: {_NONE}") from None
        except (TypeError, ValueError) as error:
            _rename(error, self.__name__)
            raise

    async def acall(self, *arguments: _Any, **keywords: _Any) -> _Any:
        """Call the service from async code. Other tasks of the node do not run meanwhile, since the sandbox has one thread."""
        return self(*arguments, **keywords)

    def __repr__(self) -> str:
        return f"<service {self.__name__!r} of the host>"


_NONE = "none is granted to this node; its host can, with Grants(services={...})"


def _rename(error: Exception, name: str) -> None:
    """Replace a path into the request (``request[2]``) at the beginning of an error's message by the name of the argument."""
    text = str(error)
    for place, called in (("request[2]", f"{name}() argument "), ("request[3]", f"{name}() argument ")):
        if text.startswith(place):
            error.args = (called + text.removeprefix(place).removeprefix("."),)


if _TYPE_CHECKING:  # the host chooses the names, so type checkers let any pass

    def __getattr__(name: str) -> _Service:
        return _Service(name)


class _Services(_ModuleType):
    def __getattr__(self, name: str) -> _Service:
        if name.startswith("_"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        names = _granted()
        if name not in names:
            granted = f"granted are {', '.join(names)}" if names else _NONE
            raise AttributeError(f"no service {name!r}: {granted}")
        _found.update((name, _Service(name)) for name in names if name not in vars(self))
        vars(self).update(_found)  # real attributes, so that __getattr__ is not called again
        return _found[name]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *_granted()]


_found: dict[str, _Service] = {}
"""Services found so far, of the current host. In a restored node, one that is no longer granted raises LookupError when called."""


def _forget() -> None:
    """Remove the attributes of the previous host's services. Functions that a test has set in their place stay."""
    module = _sys.modules[__name__]
    for name, service in _found.items():
        if vars(module).get(name) is service:
            delattr(module, name)
    _found.clear()


def _granted() -> list[str]:
    try:
        return list(_asking.ask([_SERVICES]))
    except InterruptedError:  # the host is ending the call, which says nothing about grants
        raise
    except (_asking.NothingGrantedError, OSError):  # the node has no grants, or only grants other than services
        return []


_sys.modules[__name__].__class__ = _Services
_asking.forgets.append(_forget)
