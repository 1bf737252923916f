"""Host functions that a node may call (`Grants.services`): their conditions, and the records of their calls.

docs/how-to/services.md shows them at work.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from keyword import iskeyword
from typing import Any, Final

from cloche._keywords import teaches_fields
from cloche._signatures import Binder
from cloche.texts import name as cleaned
from cloche.texts import short

__all__ = ["Gate", "Service", "ServiceCall", "ServiceRecord", "checked"]

MAX_NAME: Final = 64


@dataclass(frozen=True, slots=True, repr=False)
class ServiceCall:
    """A call that a node asks for. A gate (`Service.gate`) gets it, and decides. The arguments are untrusted.

    Attributes:
        service: the service's name.
        node: the node's name.
        call: number of the call on the node during which the node asks.
        arguments: positional arguments.
        keywords: keyword arguments.
        request_bytes: size of the node's request, with the contents of arrays.
    """

    service: str
    node: str
    call: int
    arguments: tuple[Any, ...] = field(hash=False)
    keywords: Mapping[str, Any] = field(hash=False)
    request_bytes: int

    def __repr__(self) -> str:
        """The call, with the beginning of each argument: a node may send megabytes."""
        shown = (f"{one.name}={short(getattr(self, one.name))}" for one in fields(self))
        return f"ServiceCall({', '.join(shown)})"


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """A service call that was made or refused. `Node.service_calls` has the latest ones.

    Attributes:
        service: the service's name.
        node: the node's name.
        call: number of the call on the node during which the node asked.
        request_bytes: size of the node's request, with the contents of arrays.
        seconds: time from the decoding of the request until the function returned.
        outcome: "returned"; "raised"; "refused" (unknown, over ``max_calls``, wrong arguments, or by its gate); "timed out"
            (``deadline_s``); "stopped" (the call on the node ended first).
    """

    service: str
    node: str
    call: int
    request_bytes: int
    seconds: float
    outcome: str


Gate = Callable[[ServiceCall], "bool | str"]
"""A gate returns True to allow the call. Anything else refuses it; a string becomes the message that the node gets."""


@teaches_fields
@dataclass(frozen=True, slots=True, repr=False)
class Service:
    """A host function with conditions on its calls.

    Attributes:
        function: the function, plain or ``async def``. Before it is called, the node's arguments are checked against its
            signature, and against those annotations that name plain types (``int``, ``str | None``, ``list[float]``,
            ``np.ndarray``, ...). It must return a value that can be sent to a node (docs/reference/types.md).
        deadline_s: seconds that one call may take. The function then runs on a thread of its own. After these seconds the node
            gets an error, and the function's result is ignored: Python cannot stop a function. None: the function runs on the
            node's thread for as long as it takes; if the node's own deadline has passed when it returns, the node is stopped.
        gate: decides whether a call is allowed. It runs on the node's thread.
        max_calls: service calls that the node may make during one call on the node; None: not limited.
    """

    function: Callable[..., Any]
    _: KW_ONLY
    deadline_s: float | None = None
    gate: Gate | None = None
    max_calls: int | None = None
    binder: Binder = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"Service.function is {self.function!r}: give a function")
        if self.gate is not None and not callable(self.gate):
            raise TypeError(f"Service.gate is {self.gate!r}: give a function, or None")
        if self.deadline_s is not None and not (_is_number(self.deadline_s) and 0 < self.deadline_s < math.inf):
            raise ValueError(f"Service.deadline_s is {self.deadline_s!r}: give a number of seconds above 0, or None")
        if self.max_calls is not None and (type(self.max_calls) is not int or self.max_calls < 1):
            raise ValueError(f"Service.max_calls is {self.max_calls!r}: give a whole number of at least 1, or None")
        object.__setattr__(self, "binder", Binder(self.function))

    def __repr__(self) -> str:
        """The service's conditions, with the names of its functions alone: a `partial` shows its arguments."""
        parts = [_name_of(self.function)]
        if self.deadline_s is not None:
            parts.append(f"deadline_s={self.deadline_s!r}")
        if self.gate is not None:
            parts.append(f"gate={_name_of(self.gate)}")
        if self.max_calls is not None:
            parts.append(f"max_calls={self.max_calls}")
        return f"Service({', '.join(parts)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _service, (self.function, self.deadline_s, self.gate, self.max_calls)


def _service(
    function: Callable[..., Any], deadline_s: float | None, gate: Gate | None, max_calls: int | None
) -> Service:
    """Unpickle a `Service`. Its binder is made anew: signatures are not pickled."""
    return Service(function, deadline_s=deadline_s, gate=gate, max_calls=max_calls)


def _name_of(function: Any) -> str:
    inner = getattr(function, "func", function)  # of a `functools.partial`
    return cleaned(str(getattr(inner, "__qualname__", type(inner).__qualname__)))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def checked(services: Mapping[str, Callable[..., Any] | Service]) -> dict[str, Service]:
    """`Grants.services`, checked, with every plain function as a `Service`.

    Raises:
        TypeError: the argument is no mapping of names to functions.
        ValueError: a node could not write the name as an attribute of `cloche_guest.services`.
    """
    if not isinstance(services, Mapping):
        raise TypeError(f"Grants.services is {services!r}: give a dict of names and functions")
    found: dict[str, Service] = {}
    for name, service in services.items():
        if not isinstance(name, str):
            raise TypeError(f"Grants.services has {name!r} for a name: give text")
        if not name.isidentifier() or iskeyword(name) or name[0] == "_" or len(name) > MAX_NAME:
            raise ValueError(
                f"Grants.services has {name!r} for a name: give a Python name without a leading underscore, "
                f"of at most {MAX_NAME} characters"
            )
        if isinstance(service, Service):
            found[name] = service
        elif callable(service):
            found[name] = Service(service)
        else:
            raise TypeError(f"Grants.services[{name!r}] is {service!r}: give a function or a cloche.Service")
    return found
