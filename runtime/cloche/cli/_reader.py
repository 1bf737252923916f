"""A node that ``cloche check`` loads into the sandbox: it reads sources, and lists what they import and use. It runs none of them.

The sources are untrusted. A file that the parser cannot bear (too deep, too large) ends this node's sandbox, and nothing else.
"""

import ast
from typing import Any, NamedTuple

_ANY = ("Exception", "BaseException")
_MOST = 2000
_TYPES = ("longdouble", "clongdouble", "float128", "complex256")
"""Names of numpy that are looked for also where they are not called."""


class Place(NamedTuple):
    """Where a statement stands: what its source does if it raises, and of which imports it is the replacement."""

    handled: tuple[str, ...] = ()
    instead_of: tuple[int, ...] = ()
    bound: frozenset[str] = frozenset()


class Reader:
    """Reads one source."""

    def __init__(self, package: str, names: set[str]) -> None:
        self._package = package
        self._names = names
        self._aliases: dict[str, str] = {}
        self.imports: list[dict[str, Any]] = []
        self.uses: list[dict[str, Any]] = []

    def read(self, text: str) -> None:
        """Read a source in two turns: a name may be used above the line that imports it."""
        tree = ast.parse(text)
        calls: list[tuple[ast.AST, Place]] = []
        own = {
            inner.name
            for inner in tree.body
            if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        }
        own |= {
            one.id
            for inner in tree.body
            if isinstance(inner, ast.Assign)
            for one in inner.targets
            if isinstance(one, ast.Name)
        }
        todo: list[tuple[ast.AST, Place]] = [(tree, Place(bound=frozenset(own)))]
        while todo:
            node, place = todo.pop()
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self._import(node, place)
            elif isinstance(node, (ast.Call, ast.Subscript, ast.ClassDef)) or (
                isinstance(node, ast.Attribute) and node.attr in _TYPES
            ):
                calls.append((node, place))
            todo += reversed(self._inside(node, place))
        for node, place in calls:
            self._use(node, place)

    def _inside(self, node: ast.AST, place: Place) -> list[tuple[ast.AST, Place]]:
        match node:
            case ast.Try() | ast.TryStar():
                caught = tuple(name for handler in node.handlers for name in _exceptions(handler.type))
                first = len(self.imports)
                body = [(inner, place._replace(handled=place.handled + caught)) for inner in node.body]
                instead = place._replace(instead_of=(first, first + _imports_in(node.body)))
                later = [(inner, place) for inner in (*node.orelse, *node.finalbody)]
                return [*body, *((handler, instead) for handler in node.handlers), *later]
            case ast.With() | ast.AsyncWith():
                caught = tuple(
                    name
                    for item in node.items
                    if isinstance(item.context_expr, ast.Call)
                    and self._dotted(item.context_expr.func, place).endswith("suppress")
                    for argument in item.context_expr.args
                    for name in _exceptions(argument)
                )
                items: list[tuple[ast.AST, Place]] = [(item, place) for item in node.items]
                return items + [(inner, place._replace(handled=place.handled + caught)) for inner in node.body]
            case ast.If():
                runs, otherwise = _branches(node.test)
                sought = any(
                    isinstance(inner, ast.Name | ast.Attribute) and _last(inner) == "find_spec"
                    for inner in ast.walk(node.test)
                )
                body_place = place._replace(handled=(*place.handled, "ImportError")) if sought else place
                body = [(inner, body_place) for inner in node.body] if runs else []
                return [(node.test, place), *body, *((inner, place) for inner in (node.orelse if otherwise else []))]
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                inner_place = place._replace(handled=(), instead_of=(), bound=place.bound | _bound_in(node))
                return [(inner, inner_place) for inner in ast.iter_child_nodes(node)]
        return [(inner, place) for inner in ast.iter_child_nodes(node)]

    def _import(self, node: ast.Import | ast.ImportFrom, place: Place) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                self._found(alias.name, [], node.lineno, place)
                top = alias.name.partition(".")[0]
                self._aliases[alias.asname or top] = alias.name if alias.asname else top
            return
        module = node.module or ""
        if node.level:
            parts = self._package.split(".") if self._package else []
            kept = parts[: len(parts) - node.level + 1]
            if not kept:
                return  # loading says that the import leads out of the package
            module = ".".join([*kept, *([module] if module else [])])
        for alias in node.names:
            self._aliases[alias.asname or alias.name] = f"{module}.{alias.name}"
        self._found(module, [alias.name for alias in node.names if alias.name != "*"], node.lineno, place)

    def _found(self, module: str, names: list[str], line: int, place: Place) -> None:
        if len(self.imports) < _MOST:
            self.imports.append(
                {"module": module[:200], "names": [name[:200] for name in names[:50]], "line": line,
                 "handled": list(place.handled[:20]), "instead_of": list(place.instead_of)}
            )  # fmt: skip

    def _dotted(self, node: ast.AST, place: Place) -> str:
        """The full name of what an expression names, as far as the imports tell; "" if they do not."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if isinstance(node, ast.Call) and self._dotted(node.func, place) in ("pathlib.Path", "pathlib.PosixPath"):
            first = "pathlib.Path()"
        elif isinstance(node, ast.Name) and node.id not in place.bound:
            first = self._aliases.get(node.id, f"builtins.{node.id}")
        else:
            return ""
        return ".".join([first, *reversed(parts)])

    def _use(self, node: ast.AST, place: Place) -> None:
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                if (name := self._dotted(base, place)) in self._names:
                    self._note(name, node.lineno, place)
            return
        if isinstance(node, ast.Attribute):
            if (name := self._dotted(node, place)) in self._names:
                self._note(name, node.lineno, place)
            return
        if isinstance(node, ast.Subscript):
            if self._dotted(node.value, place) == "os.environ" and isinstance(node.ctx, ast.Load):
                self._note("os.environ[]", node.lineno, place, first=_literal(node.slice))
            return
        assert isinstance(node, ast.Call)
        name = self._dotted(node.func, place)
        given = {keyword.arg: _literal(keyword.value) for keyword in node.keywords}
        values = [_literal(argument) for argument in node.args[:3]]
        if name in ("importlib.import_module", "builtins.__import__"):
            if values and type(values[0]) is str and values[0][:1] != ".":
                self._found(values[0], [], node.lineno, place)
            return
        if name not in self._names:
            return
        of = values[0] if values else given.get("file", given.get("filename"))
        mode = values[1] if len(values) > 1 else given.get("mode", given.get("mmap_mode"))
        if name.startswith("pathlib.Path()."):  # its path is what `Path` was called with
            function = node.func
            assert isinstance(function, ast.Attribute) and isinstance(function.value, ast.Call)
            arguments = function.value.args
            mode, of = (
                (values[0] if values else given.get("mode")),
                _literal(arguments[0]) if len(arguments) == 1 else None,
            )
        if name in ("numpy.errstate", "numpy.seterr"):
            mode = "raise" if "raise" in [*values, *given.values()] else None
        self._note(name, node.lineno, place, first=of, mode=mode, daemon=given.get("daemon") is True)

    def _note(
        self, name: str, line: int, place: Place, *, first: Any = None, mode: Any = None, daemon: bool = False
    ) -> None:
        if len(self.uses) < _MOST:
            self.uses.append(
                {
                    "name": name,
                    "line": line,
                    "handled": list(place.handled[:20]),
                    "first": first,
                    "mode": mode,
                    "daemon": daemon,
                }
            )


def _literal(node: ast.AST) -> Any:
    value = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
    if isinstance(value, str):
        return value[:1000]
    return value if isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 1 << 53) else None


def _last(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _exceptions(node: ast.AST | None) -> list[str]:
    if node is None:
        return ["BaseException"]
    return [_last(inner) for inner in (node.elts if isinstance(node, ast.Tuple) else [node])]


def _imports_in(body: list[ast.stmt]) -> int:
    """How many modules the statements import, at any depth."""
    found = 0
    for inner in (inner for statement in body for inner in ast.walk(statement)):
        found += len(inner.names) if isinstance(inner, ast.Import) else isinstance(inner, ast.ImportFrom)
    return found


def _branches(test: ast.expr) -> tuple[bool, bool]:
    """Whether the two branches of an ``if`` can run in the sandbox: not those for a script, a type checker or another platform."""
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _branches(operand)[::-1]
        case ast.Name() | ast.Attribute() if _last(test) == "TYPE_CHECKING":
            return False, True
        case ast.Compare(left=left, ops=[operator], comparators=[ast.Constant(value=value)]) if _is_never(left, value):
            if isinstance(operator, (ast.Eq, ast.NotEq)):
                return (False, True) if isinstance(operator, ast.Eq) else (True, False)
        case ast.Call(func=ast.Attribute(value=left, attr="startswith"), args=[ast.Constant(value=value)]):
            if (
                ast.unparse(left) == "sys.platform"
                and isinstance(value, str)
                and value
                and value != "wasi"[: len(value)]
            ):
                return False, True
        case ast.Compare(left=left, ops=[operator], comparators=[ast.Tuple(elts=elts)]) if (
            _last(left) == "version_info"
        ):
            import sys

            wanted = tuple(getattr(element, "value", 0) for element in elts)
            try:
                later = sys.version_info >= wanted
            except TypeError:
                return True, True
            if isinstance(operator, (ast.GtE, ast.Gt)):
                return later, not later
            if isinstance(operator, (ast.Lt, ast.LtE)):
                return not later, later
    return True, True


def _is_never(left: ast.expr, value: object) -> bool:
    """Whether an expression never has a value in the sandbox: it tells a script from a module, or one platform from another."""
    match left:
        case ast.Name(id="__name__"):
            return value == "__main__"
        case ast.Attribute(value=ast.Name(id="sys"), attr="platform"):
            return value != "wasi"
        case ast.Attribute(value=ast.Name(id="os"), attr="name"):
            return value != "posix"
        case ast.Call(func=ast.Attribute(value=ast.Name(id="platform"), attr="system")):
            return value in ("Windows", "Darwin", "Java")
    return False


def _bound_in(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> frozenset[str]:
    """Names of a function's own: its parameters, and what it assigns."""
    parameters = node.args
    names = {one.arg for one in (*parameters.posonlyargs, *parameters.args, *parameters.kwonlyargs)}
    names |= {one.arg for one in (parameters.vararg, parameters.kwarg) if one is not None}
    names |= {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)}
    return frozenset(names)


def read(text: str, package: str, names: list[str]) -> dict[str, Any]:
    """List what a source imports and uses.

    Args:
        text: the source.
        package: name of the package that the module is in, for relative imports; "" for a module on its own.
        names: full names of the functions and classes whose uses are listed.

    Returns:
        ``{"imports": [...], "uses": [...]}``.
    """
    reader = Reader(package, set(names))
    reader.read(text)
    return {"imports": reader.imports, "uses": reader.uses}
