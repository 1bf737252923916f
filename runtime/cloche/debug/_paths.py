"""`Paths`: a file has one path for the editor, and another one inside the sandbox."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["Paths", "fits"]


def fits(path: str, file: str) -> bool:
    """Whether a path of the editor is that of a file as the guest calls it: "pkg/mod.py", "/packages/NAME/pkg/mod.py", "<node>"."""
    if path == file:
        return True
    name = file.split("/", 3)[-1] if file.startswith("/packages/") else file.lstrip("/")
    return bool(name) and not name.startswith("<") and f"/{path}".replace("\\", "/").endswith(f"/{name}")


class Paths:
    """The paths of files.

    Args:
        known: the guest's name of a file -> the path of the editor.
    """

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        self._known = dict(known or {})
        self._mappings: list[tuple[str, str]] = []
        self._seen: list[str] = []
        self._numbers: dict[str, int] = {}

    def map(self, mappings: Iterable[tuple[str, str]]) -> None:
        """Set the editor's own mappings: a folder of the editor, and what it is called in the guest."""
        self._mappings = [
            (_folder(local), "" if remote in ("", ".", "./") else _folder(remote)) for local, remote in mappings
        ]

    def to_guest(self, path: str) -> str:
        """The path of a file of the editor, as the guest can recognise it."""
        if path not in self._seen:
            self._seen.append(path)
        for local, remote in self._mappings:
            if path.startswith(local):
                return remote + path[len(local) :]
        return path

    def to_editor(self, file: str) -> str | None:
        """The editor's path of a guest's file; None: it has none."""
        if file in self._known:
            return self._known[file]
        for path in self._seen:
            if fits(self.to_guest(path), file):
                return path
        for local, remote in self._mappings:
            if remote and file.startswith(remote):
                return local + file[len(remote) :]
        return None

    def number(self, file: str) -> int:
        """The number by which the editor asks for the source of a file for which it has no path."""
        return self._numbers.setdefault(file, len(self._numbers) + 1)

    def numbered(self, number: int) -> str | None:
        """The file of that number."""
        return next((file for file, known in self._numbers.items() if known == number), None)


def _folder(path: str) -> str:
    return path if path.endswith(("/", "\\")) else f"{path}/"
