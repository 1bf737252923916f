"""Colours and style sheets. The colours differ for readers with red-green blindness too, and have a contrast of 3:1."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Final

__all__ = ["DARK", "LIGHT", "csp", "figure_style", "page_script", "page_style", "policy"]

LIGHT: Final = (
    "--paper:#fcfcfa;--raise:#fff;--ink:#1b1f24;--soft:#59616b;--rule:#e3e4e0;--grid:#e6e7e3;--base:#8a9099;--accent:#0b5cad;"
    "--note:#fff6df;--note-ink:#5c4300;--c0:#59616b;--c1:#0b62c4;--c2:#007a63;--c3:#a86400;--c4:#7452c8;--c5:#c0400f;--c6:#a5307f;"
    "--c7:#4c7a0b;--c8:#946a55;--c9:#0d7c8c;--p0:#0b62c4;--p1:#3f87d0;--p2:#a86400;--p3:#2f9079;--p4:#00614f;--p5:#a5307f;"
    "--p6:#8a9099;--good:#007a63;--bad:#c0400f;color-scheme:light"
)
DARK: Final = (
    "--paper:#14171b;--raise:#1b1f24;--ink:#e8eaed;--soft:#a3abb5;--rule:#2e343b;--grid:#2a3037;--base:#7d858f;--accent:#7db8ff;"
    "--note:#33290f;--note-ink:#f4dc9c;--c0:#a3abb5;--c1:#6aaeff;--c2:#3cc7a6;--c3:#eeac3c;--c4:#b7a1ff;--c5:#ff8b5e;--c6:#ec8bcb;"
    "--c7:#a6cc55;--c8:#cfa68f;--c9:#52c4d6;--p0:#6aaeff;--p1:#3f7fc8;--p2:#eeac3c;--p3:#2a9079;--p4:#5fdcbd;--p5:#ec8bcb;"
    "--p6:#7d858f;--good:#3cc7a6;--bad:#ff8b5e;color-scheme:dark"
)


def _file(name: str) -> str:
    return (files("cloche_bench.report") / name).read_text(encoding="utf-8")


def page_style() -> str:
    """The style sheet of the page: light or dark as the system is, unless the reader has chosen."""
    themes = (
        f":root{{{LIGHT}}}:root[data-theme=dark]{{{DARK}}}"
        f"@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{DARK}}}}}"
        f"@media print{{:root:root:root{{{LIGHT}}}}}"
    )
    return f"{themes}\n{_file('figure.css')}{_file('page.css')}"


def page_script() -> str:
    """The script of the page: sorting, filtering and the choice of colours. Without it the page still has all of its content."""
    return _file("page.js")


def figure_style(dark: bool) -> str:
    """The style sheet of a figure in a file of its own."""
    return f"svg{{{DARK if dark else LIGHT}}}\n{_file('figure.css')}"


def csp(style: str, script: str) -> str:
    """The content security policy of the page: it may load nothing, and run only this script."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def policy(style: str) -> str:
    """The content security policy of a page without a script."""
    return f"default-src 'none'; style-src '{_digest(style)}'; base-uri 'none'; form-action 'none'"


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
