"""The host's functions that this node was granted, each as an attribute of this module.

>>> from cloche_guest import services
>>> services.lookup("x", n=3)

A call blocks until the host answers; ``await services.lookup.acall("x", n=3)`` is the same for code that awaits. Arguments and
results are copied, as the node's own are. A test sets plain functions in their place, or uses `cloche.testing.services`.
"""

import sys as _sys
from types import ModuleType as _ModuleType

from cloche_guest import asking as _asking
from cloche_wire.messages import Ask as _Ask

_SERVICE = int(_Ask.SERVICE)
_SERVICES = int(_Ask.SERVICES)


class _Service:
    """One of them."""

    __slots__ = ("__name__",)

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, *arguments, **keywords):  # type: ignore[no-untyped-def]  # any values
        """Call it, and wait for what it returns.

        Raises:
            TypeError: the arguments do not fit its signature, or cannot be sent; or its result cannot.
            PermissionError: its gate refused the call.
            TimeoutError: it took longer than it may.
            LookupError: it is not granted (any more).
            Exception: it failed; what kind of exception it was is all that is known.
        """
        try:
            return _asking.ask([_SERVICE, self.__name__, [*arguments], keywords])
        except _asking.NothingGrantedError:
            raise LookupError(f"no service {self.__name__!r}: {_NONE}") from None
        except (TypeError, ValueError) as error:
            _rename(error, self.__name__)
            raise

    async def acall(self, *arguments, **keywords):  # type: ignore[no-untyped-def]  # any values
        """The same, awaitable. Other tasks of the node do not run meanwhile: the sandbox has one thread."""
        return self(*arguments, **keywords)

    def __repr__(self) -> str:
        return f"<service {self.__name__!r} of the host>"


_NONE = "none is granted to this node; its host can, with Grants(services={...})"


def _rename(error: Exception, name: str) -> None:
    """The codec names the place of a value that cannot be sent by the request's own layout."""
    text = str(error)
    for place, called in (("request[2]", f"{name}() argument "), ("request[3]", f"{name}() argument ")):
        if text.startswith(place):
            error.args = (called + text.removeprefix(place).removeprefix("."),)


class _Services(_ModuleType):
    def __getattr__(self, name: str) -> _Service:
        if name.startswith("_"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        names = _granted()
        if name not in names:
            granted = f"granted are {', '.join(names)}" if names else _NONE
            raise AttributeError(f"no service {name!r}: {granted}")
        _found.update((name, _Service(name)) for name in names if name not in vars(self))
        vars(self).update(_found)  # found as any attribute from now on
        return _found[name]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *_granted()]


_found: dict[str, _Service] = {}
"""Of the present host. One that is not granted any more, in a restored node, says so when it is called."""


def _forget() -> None:
    """There is another host. What a test has put in a service's place stays."""
    module = _sys.modules[__name__]
    for name, service in _found.items():
        if vars(module).get(name) is service:
            delattr(module, name)
    _found.clear()


def _granted() -> list[str]:
    try:
        return list(_asking.ask([_SERVICES]))
    except InterruptedError:  # the host answers nothing any more: that says nothing about what is granted
        raise
    except (_asking.NothingGrantedError, OSError):  # nothing, or other things than services
        return []


_sys.modules[__name__].__class__ = _Services
_asking.forgets.append(_forget)
