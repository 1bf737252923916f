"""Results of ``cloche bench`` as one HTML page, and its main figures as SVG files. Needs the extra ``cloche[bench]``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cloche._atomic_file import AtomicFile
from cloche.errors import ClocheError
from cloche_bench.report._theme import page_style, policy

__all__ = ["check", "page_style", "policy", "write_figures", "write_html"]


def write_html(
    results: Mapping[str, Any], path: Path, *, old: Mapping[str, Any] | None = None, old_name: str = ""
) -> None:
    """Write one page that needs no other file and no network. It is light or dark, and can be read without JavaScript.

    Args:
        results: of this version's schema; see `cloche_bench.results.load`.
        path: the file, written whole or not at all.
        old: an earlier run; the page then has a section that compares the two.
        old_name: the name of that run.

    Raises:
        ClocheError: jinja2 is not installed.
        OSError: the page cannot be written.
    """
    check()
    from cloche_bench.report import _model, _page

    _put(path, _page.page(_model.read(results), old=old, old_name=old_name))


def write_figures(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the main figures as ``NAME-light.svg`` and ``NAME-dark.svg``, for a README's ``<picture>``.

    Returns:
        the files.

    Raises:
        ClocheError: jinja2 is not installed.
        OSError: they cannot be written.
    """
    check()
    from cloche_bench.report import _files, _model

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in _files.figures(_model.read(results)).items():
        _put(folder / name, text)
        written.append(folder / name)
    return written


def check() -> None:
    """Check that a report can be made. Called before anything is measured for it.

    Raises:
        ClocheError: jinja2 is not installed.
    """
    try:
        import jinja2  # noqa: F401  # imported again where it is used
    except ModuleNotFoundError:
        raise ClocheError("the report needs jinja2: pip install 'cloche[bench]'") from None


def _put(path: Path, text: str) -> None:
    with AtomicFile(path) as file:
        file.write(text.encode())
