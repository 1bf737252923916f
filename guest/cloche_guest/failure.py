"""Describes a node's exceptions as `Failure`s, which the host can show without trusting them.

Describing must neither fail nor take unbounded time or memory, although ``str()`` of an exception runs the node's code, a traceback
can be a million frames long, and there may be no memory left. If ``str()`` does not end, the call's deadline stops it.
"""

from __future__ import annotations

import linecache
import traceback
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from cloche_guest import Interrupted
from cloche_wire.failure import MAX_CAUSES, MAX_FRAMES, MAX_MESSAGE, MAX_NOTES, Failure, Frame

if TYPE_CHECKING:
    from types import FrameType, TracebackType

_MAX_NAME: Final = 200
_MAX_LINE: Final = 500
_MAX_NOTE: Final = MAX_MESSAGE - 64  # room for the remark of `text` about cut characters
_OWN: Final = frozenset({"cloche_guest", "cloche_wire"})


def describe(exc: BaseException, phase: str, *, last: bool = False) -> Failure:
    """Describe an exception and its chain of causes, within the maxima of `cloche_wire.failure`.

    Args:
        exc: the exception that the node raised.
        phase: what the guest was doing; see `Failure`.
        last: whether this is the last attempt. Then the causes are left out, and an `Interrupted` during the description is
            ignored.

    Raises:
        Interrupted: the host interrupted the description, and this is not the last attempt.
    """
    if isinstance(exc, MemoryError):
        # frees the local variables of the failed frames, which fill the memory and which the traceback keeps alive
        traceback.clear_frames(exc.__traceback__)
    try:
        # the last attempt leaves out the causes: describing them may have taken too long
        return _describe_one(exc, phase, None, False) if last else _describe_chain(exc, phase)
    except Interrupted as broken:
        if not last:
            raise
        return Failure(phase, type_name(exc), f"<cannot be described: {type_name(broken)}>")
    except BaseException as broken:  # the host must get a reply in any case
        return Failure(phase, type_name(exc), f"<cannot be described: {type_name(broken)}>")


def type_name(exc: BaseException) -> str:
    """Qualified name of the exception's class, without ``builtins.``. The class can give any text as its name."""
    cls = type(exc)
    try:
        module, name = str(cls.__module__), str(cls.__qualname__)
    except Exception:  # a metaclass can make either raise
        module, name = "builtins", type.__dict__["__name__"].__get__(cls)
    return text(name if module == "builtins" else f"{module}.{name}", _MAX_NAME)


def as_text(value: object) -> str:
    """``str(value)``, or a description of what it raises."""
    try:
        return str(value)
    except (MemoryError, Interrupted):
        raise
    except BaseException as broken:  # __str__ is the node's code
        return f"<str() of it raised {type_name(broken)}>"


def text(value: str, limit: int, why: str = "") -> str:
    """Cut a text to `limit` characters, as an exact `str` without surrogates; a remark says how many were cut, and `why`."""
    size = str.__len__(value)
    cut = str.__getitem__(value, slice(0, limit))
    if not cut.isascii():
        cut = cut.encode("utf-8", "backslashreplace").decode()[:limit]
    return cut if size <= limit else f"{cut} [{size - limit} characters cut{why}]"


def _describe_chain(exc: BaseException, phase: str) -> Failure:
    chain: list[tuple[BaseException, bool]] = []
    link: BaseException | None = exc
    seen = set()
    explicit = False
    while link is not None and id(link) not in seen and len(chain) <= MAX_CAUSES:
        seen.add(id(link))
        explicit = link.__cause__ is not None
        chain.append((link, explicit))
        link = link.__cause__ if explicit else None if link.__suppress_context__ else link.__context__
    failure: Failure | None = None
    for link, explicit in reversed(chain):
        failure = _describe_one(link, phase, failure, explicit)
    assert failure is not None
    return failure


def _describe_one(exc: BaseException, phase: str, cause: Failure | None, explicit: bool) -> Failure:
    frames, omitted = _frames(exc.__traceback__)
    notes = _notes(exc)
    if isinstance(exc, SyntaxError):
        message = as_text(exc.msg)
        if exc.filename is not None:
            file, line = text(as_text(exc.filename), _MAX_NAME), exc.lineno or 0
            source = text(_line(file, line) or as_text(exc.text or "").strip(), _MAX_LINE)
            frames = (*frames[: MAX_FRAMES - 1], Frame(file, line, "<module>", source))
            notes = (*notes[: MAX_NOTES - 1], f"at line {line}, column {exc.offset or 0}")
    else:
        message = as_text(exc)
    if isinstance(exc, BaseExceptionGroup):
        notes = (*notes, *_members(exc, phase))[:MAX_NOTES]
    return Failure(
        phase, type_name(exc), text(message, MAX_MESSAGE), frames, omitted, cause, explicit and cause is not None, notes
    )


def _notes(exc: BaseException) -> tuple[str, ...]:
    try:
        notes = getattr(exc, "__notes__", ())
        return tuple(text(as_text(note), _MAX_NOTE) for note in list(notes)[:MAX_NOTES])
    except MemoryError:
        raise
    except Exception:  # __notes__ can be anything
        return ()


def _members(group: BaseExceptionGroup[BaseException], phase: str) -> list[str]:
    """Each exception of a group as a note. A nested group is described by its message only."""
    members = group.exceptions
    notes = []
    for number, member in enumerate(members[:MAX_NOTES], 1):
        frames, omitted = _frames(member.__traceback__)
        one = Failure(phase, type_name(member), text(as_text(member), _MAX_LINE), frames, omitted)
        notes.append(text(f"[{number} of {len(members)}] {one.format()}", _MAX_NOTE))
    return notes


def _frames(tb: TracebackType | None) -> tuple[tuple[Frame, ...], int]:
    """The outermost and the innermost frames, and the number of frames left out between them."""
    head: list[Any] = []
    tail: deque[Any] = deque(maxlen=MAX_FRAMES // 2)
    count = 0
    while tb is not None:
        if _is_shown(tb.tb_frame):
            count += 1
            (head if len(head) < MAX_FRAMES // 2 else tail).append(tb)
        tb = tb.tb_next
    kept = [*head, *tail]
    return tuple(_frame(link.tb_frame, link.tb_lineno) for link in kept), count - len(kept)


def _is_shown(frame: FrameType) -> bool:
    if frame.f_code.co_filename.startswith("<frozen importlib"):
        return False
    name = dict.get(frame.f_globals, "__name__")
    return type(name) is not str or name.partition(".")[0] not in _OWN


def _frame(frame: FrameType, line: int | None) -> Frame:
    code = frame.f_code
    # the image has no source of frozen modules, and linecache would make a request of the host for each
    frozen = code.co_filename.startswith("<cloche>/")
    source = "" if frozen else _line(code.co_filename, line or 0, frame.f_globals)
    return Frame(text(code.co_filename, _MAX_NAME), line or 0, text(code.co_name, _MAX_NAME), text(source, _MAX_LINE))


def _line(file: str, number: int, module_globals: dict[str, Any] | None = None) -> str:
    """A line of a source without the spaces around it; empty if it cannot be read."""
    try:
        return linecache.getline(file, number, module_globals).strip()
    except MemoryError:
        raise
    except Exception:  # a node can replace __loader__; a file can declare an encoding that is none
        return ""
