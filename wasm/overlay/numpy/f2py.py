"""Stands in for numpy.f2py, which wraps Fortran with a compiler: the sandbox has none.

It can be imported because ``from numpy import *`` imports it.
"""

from __future__ import annotations

from typing import Any, NoReturn

__all__ = ["get_include", "run_main"]


def run_main(comline_list: Any) -> NoReturn:
    """Refuse, as `get_include` does: there is nothing to compile with."""
    raise NotImplementedError("numpy.f2py wraps Fortran with a compiler, which a sandboxed node does not have")


def get_include() -> NoReturn:
    """Refuse, as `run_main` does."""
    raise NotImplementedError("numpy.f2py wraps Fortran with a compiler, which a sandboxed node does not have")
