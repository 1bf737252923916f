"""GNU readline without a terminal: what is set can be asked for. Stands in for the C module of that name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_READLINE_LIBRARY_VERSION, _READLINE_VERSION, _READLINE_RUNTIME_VERSION = "8.2", 0x802, 0x802
backend = "readline"

_history: list[str] = []
_state: dict[str, Any] = {"completer": None, "delimiters": " \t\n`~!@#$%^&*()-=+[{]}\\|;:'\",<>/?", "length": -1}


def _nothing(*args: Any) -> None:
    """Has no effect without a terminal."""


parse_and_bind = insert_text = redisplay = read_init_file = set_auto_history = _nothing
set_completion_display_matches_hook = set_startup_hook = set_pre_input_hook = _nothing


def get_line_buffer() -> str:
    return ""


def get_begidx() -> int:
    return 0


get_endidx = get_completion_type = get_begidx


def set_completer(function: Callable[..., Any] | None = None, /) -> None:
    _state["completer"] = function


def get_completer() -> Any:
    return _state["completer"]


def set_completer_delims(string: str, /) -> None:
    _state["delimiters"] = string


def get_completer_delims() -> str:
    return str(_state["delimiters"])


def add_history(string: str, /) -> None:
    _history.append(string)


def clear_history() -> None:
    _history.clear()


def get_current_history_length() -> int:
    return len(_history)


def get_history_item(index: int, /) -> str | None:
    return _history[index - 1] if 1 <= index <= len(_history) else None


def remove_history_item(pos: int, /) -> None:
    _checked(pos)
    del _history[pos]


def replace_history_item(pos: int, line: str, /) -> None:
    _checked(pos)
    _history[pos] = line


def _checked(pos: int) -> None:
    if pos < 0:
        raise ValueError("History index cannot be negative")
    if pos >= len(_history):
        raise ValueError(f"No history item at position {pos}")


def set_history_length(length: int, /) -> None:
    _state["length"] = length


def get_history_length() -> int:
    return int(_state["length"])


def read_history_file(filename: Any = None, /) -> None:
    with open(filename or "/home/node/.history", encoding="utf-8") as file:
        _history.extend(line.rstrip("\n") for line in file)


def write_history_file(filename: Any = None, /) -> None:
    _write(filename, "w", _history)


def append_history_file(nelements: int, filename: Any = None, /) -> None:
    _write(filename, "a", _history[-nelements:] if nelements else [])


def _write(filename: Any, mode: str, lines: list[str]) -> None:
    with open(filename or "/home/node/.history", mode, encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
