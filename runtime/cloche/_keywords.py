"""Options that a public function does not have: refused with the name that may have been meant, on every version of Python.

Type checkers see the functions' own signatures, so they flag the same mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Final, ParamSpec, TypeVar

__all__ = ["refusal", "teaches", "teaches_fields"]

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C")

_MOST_LETTERS: Final = 60
_NOTHING: Final[Mapping[str, str]] = {}


def teaches(
    *, elsewhere: Mapping[str, str] = _NOTHING, also: Iterable[str] = ()
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make a decorator for a function: an unknown keyword argument is a TypeError that names the one that may have been meant.

    Args:
        elsewhere: what to say about names that belong to another function.
        also: keyword arguments that the function takes as ``**options``.
    """

    def decorator(function: Callable[P, T]) -> Callable[P, T]:
        code = function.__code__
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        known = frozenset((*(name for name in names if name != "self"), *also))
        what = function.__qualname__.removesuffix(".__init__")
        by_name = code.co_argcount == 1 and names[:1] == ("self",)

        @wraps(function)
        def checked(*arguments: P.args, **keywords: P.kwargs) -> T:
            if not known.issuperset(keywords):
                raise TypeError(refusal(what, keywords, known, elsewhere))
            if by_name and len(arguments) > 1:
                raise TypeError(
                    f"{what} takes its options by name: give {what}({min(known)}=...), and the others alike"
                )
            return function(*arguments, **keywords)

        return checked

    return decorator


def teaches_fields(kind: type[C]) -> type[C]:
    """`teaches` for the constructor of a class."""
    setattr(kind, "__init__", teaches()(kind.__init__))  # noqa: B010  # a plain assignment is one that mypy refuses
    return kind


def refusal(what: str, given: Iterable[str], known: Iterable[str], elsewhere: Mapping[str, str] = _NOTHING) -> str:
    """Why options are refused, and what to give instead.

    Args:
        what: the function.
        given: the options that were given.
        known: those that the function has.
        elsewhere: see `teaches`.
    """
    import difflib  # slow to import, and only for mistakes

    names = sorted(known)
    parts = []
    for name in sorted(set(given).difference(names)):
        shown = name if len(name) <= _MOST_LETTERS else f"{name[:_MOST_LETTERS]}..."
        meant = difflib.get_close_matches(name[:_MOST_LETTERS], names, n=1)
        if name in elsewhere:
            advice = elsewhere[name]
        elif meant:
            advice = f"did you mean {meant[0]}?"
        else:
            advice = f"it has {', '.join(names)}"
        parts.append(f"{what} has no option {shown!r}: {advice}")
    return "; ".join(parts)
