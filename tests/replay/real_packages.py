"""Nodes that use packages of others: each with what it imports, and what it does with a number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from cloche._wasm import cache_folder

__all__ = ["NODES", "wheels"]

NODES: Final = {
    "attrs": "import attrs\n@attrs.define\nclass Point:\n    x: int\n    seen: list = attrs.field(factory=list)\ndef use(x): return attrs.asdict(attrs.evolve(Point(x), x=x + 1))",
    "boltons": "from boltons import iterutils, strutils\ndef use(x): return [iterutils.chunked(range(x), 3), strutils.slugify(f'Number {x}!')]",
    "cachetools": "import cachetools\nCACHE = cachetools.LRUCache(8)\n@cachetools.cached(CACHE)\ndef square(x): return x * x\ndef use(x): return [square(x), sorted(CACHE.values())]",
    "idna": "import idna\ndef use(x): return [idna.encode('b\u00fccher' * (1 + x % 3)), idna.decode('xn--bcher-kva')]",
    "lark": "import lark\nPARSER = lark.Lark('start: NUMBER (\"+\" NUMBER)*\\n%import common.NUMBER', parser='lalr')\ndef use(x): return PARSER.parse('+'.join(map(str, range(x + 1)))).pretty()",
    "markdown-it-py mdurl": "import markdown_it\nMD = markdown_it.MarkdownIt()\ndef use(x): return MD.render(f'# Head {x}\\n\\n- *one*\\n- [two](http://x.y/{x})')",
    "more-itertools": "import more_itertools\ndef use(x): return [list(map(list, more_itertools.windowed_complete(range(2 + x % 6), 2))), more_itertools.random_product('abc', range(9))]",
    "mpmath": "import mpmath\ndef use(x):\n    mpmath.mp.dps = 20 + x\n    return str(mpmath.zeta(x + 2) * mpmath.pi)",
    "networkx": "import networkx as nx\ndef use(x):\n    graph = nx.gnp_random_graph(10 + x % 5, 0.4)\n    return [sorted(map(len, nx.connected_components(graph))), nx.diameter(nx.path_graph(3 + x % 4))]",
    "packaging": "from packaging.version import Version\nfrom packaging.requirements import Requirement\ndef use(x): return [str(max(Version('1.9'), Version(f'1.{x}'))), str(Requirement(f'a[b]>={x}').specifier)]",
    "pluggy": "import pluggy\nspec, impl = pluggy.HookspecMarker('n'), pluggy.HookimplMarker('n')\nclass Spec:\n    @spec\n    def made(self, x): pass\nclass One:\n    @impl\n    def made(self, x): return x + 1\nMANAGER = pluggy.PluginManager('n')\nMANAGER.add_hookspecs(Spec)\nMANAGER.register(One())\ndef use(x): return MANAGER.hook.made(x=x)",
    "pygments": "from pygments import highlight\nfrom pygments.lexers.python import PythonLexer\nfrom pygments.formatters.html import HtmlFormatter\ndef use(x): return highlight(f'def f(a={x}): return \"{x}\"', PythonLexer(), HtmlFormatter())",
    "pyparsing": "import pyparsing as pp\nEXPRESSION = pp.infix_notation(pp.common.integer, [('*', 2, pp.OpAssoc.LEFT), ('+', 2, pp.OpAssoc.LEFT)])\ndef use(x): return EXPRESSION.parse_string(f'{x} + 2 * {x}').as_list()",
    "six": "import six\ndef use(x): return [six.ensure_text(b'%d' % x), six.moves.urllib.parse.quote(f'a b{x}')]",
    "sortedcontainers": "import random, sortedcontainers\nKEPT = sortedcontainers.SortedDict()\ndef use(x):\n    KEPT[random.random()] = x\n    return list(KEPT.values())[-5:]",
    "sympy mpmath": "import sympy\nX = sympy.Symbol('x')\ndef use(x): return str(sympy.integrate(X ** (x % 5) * sympy.sin(X), X))",
    "tabulate": "from tabulate import tabulate\ndef use(x): return tabulate([[n, n * n] for n in range(x)], ['n', 'square'])",
    "tomlkit": "import tomlkit\nDOCUMENT = tomlkit.parse('a = 1 # one\\n[t]\\nb = [1, 2]\\n')\ndef use(x):\n    DOCUMENT['a'] = x\n    return DOCUMENT.as_string()",
    "toolz": "import toolz\ndef use(x): return [toolz.frequencies(n % 3 for n in range(x)), toolz.pipe(x, lambda n: n + 1, str)]",
    "typing-extensions": "import typing_extensions as t\nclass Point(t.TypedDict, total=False):\n    x: t.Required[int]\ndef use(x): return [sorted(Point.__required_keys__), t.get_type_hints(Point)['x'].__name__, x]",
    "wcwidth": "import wcwidth\ndef use(x): return wcwidth.wcswidth('\u30b3\u30f3\u30cb\u30c1\u30cf' * x)",
    "xmltodict": "import xmltodict\ndef use(x): return xmltodict.parse(f'<a n=\"{x}\"><b>1</b><b>{x}</b></a>')",
}  # fmt: skip
"""Distributions, the first one being what the node is about -> its source, whose entry is ``use``."""


def wheels() -> dict[str, Path]:
    """The wheel of each distribution. They are kept in the cache; what is missing there is fetched with pip.

    Raises:
        LookupError: one is missing, and pip could not fetch it; the text says why.
    """
    folder = cache_folder() / "real-packages"
    names = sorted({name for names in NODES for name in names.split()})
    if missing := [name for name in names if not _found(folder, name)]:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "download", "--no-deps", "-d", folder]
        pure = ["--only-binary", ":all:", "--platform", "any", "--implementation", "py", "--abi", "none"]
        of_guest = ["--python-version", "3.13"]
        done = subprocess.run(
            [*pip, *pure, *of_guest, *missing],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=dict(os.environ),
        )
        if done.returncode:
            raise LookupError(f"{', '.join(missing)}: {done.stderr.strip()[-300:]}")
    return {name: _found(folder, name)[0] for name in names}


def _found(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name.replace('-', '_')}-*.whl"))
