"""What to pass in place of a value that cannot be sent. Imported when a value has been refused, not before.

Types of other libraries are recognised by name, so that nothing is imported for them.
"""

from __future__ import annotations

from sys import stdlib_module_names
from typing import Any, Final

__all__ = ["of", "of_dtype"]

_LIST: Final = "list(x)"
_CALLED: Final = "its result: x(...)"
_HEAP_TYPE: Final = 1 << 9
"""Flag of classes that are made by a ``class`` statement (Py_TPFLAGS_HEAPTYPE)."""
# past a metaclass, which may raise for any name
_flags, _dict_offset = type.__dict__["__flags__"].__get__, type.__dict__["__dictoffset__"].__get__
_TEXT: Final = "str(x)"
_BY_NAME: Final[dict[str, dict[str, str]]] = {
    "pandas": {
        "DataFrame": 'x.to_dict("records")',
        "Series": "x.to_list() or x.to_numpy()",
        "Index": "x.to_list() or x.to_numpy()",
        "ExtensionArray": "x.tolist() or x.to_numpy()",
        "NaTType": 'None or numpy.datetime64("NaT")',
        "Timestamp": 'x.to_datetime64(), or x.floor("us") without its nanoseconds',
        "Timedelta": 'x.to_timedelta64(), or x.floor("us") without its nanoseconds',
        "NAType": "None",
        "Period": _TEXT,
        "Interval": "(x.left, x.right)",
    },
    "polars": {
        "DataFrame": "x.to_dicts()",
        "LazyFrame": "x.collect().to_dicts()",
        "Series": "x.to_list() or x.to_numpy()",
    },
    "pyarrow": {
        "Table": "x.to_pylist()",
        "RecordBatch": "x.to_pylist()",
        "Array": "x.to_pylist()",
        "ChunkedArray": "x.to_pylist()",
        "Scalar": "x.as_py()",
    },
    "xarray": {"DataArray": "x.to_numpy()", "Dataset": "x.to_dict()"},
    "scipy": {"_spbase": "x.toarray()", "spmatrix": "x.toarray()", "sparray": "x.toarray()"},
    "torch": {"Tensor": "x.detach().cpu().numpy(), after x.float() if it is a bfloat16"},
    "tensorflow": {"Tensor": "x.numpy()"},
    "jax": {"Array": "numpy.asarray(x)"},
    "cupy": {"ndarray": "x.get()"},
    "numpy": {"dtype": "x.str"},
    "PIL": {"Image": "numpy.asarray(x)"},
    "msgspec": {"Struct": "msgspec.to_builtins(x)"},
    "collections": {"UserString": _TEXT, "deque": _LIST},
    "types": {"SimpleNamespace": "vars(x)"},
    "argparse": {"Namespace": "vars(x)"},
    "pathlib": {"PurePath": _TEXT},
    "ipaddress": {"_IPAddressBase": _TEXT},
    "datetime": {"tzinfo": _TEXT},
    "zoneinfo": {"ZoneInfo": "x.key"},
    "re": {"Pattern": "x.pattern", "Match": "x.groups() or x.groupdict()"},
    "_io": {"BytesIO": "x.getvalue()", "StringIO": "x.getvalue()", "_IOBase": "x.read()"},
    "concurrent": {"Future": "x.result()"},
    "_ctypes": {"_SimpleCData": "x.value", "Array": _LIST},
    "builtins": {
        "BaseException": _TEXT,
        "slice": "(x.start, x.stop, x.step)",
        "str": _TEXT,
        "bytes": "bytes(x)",
        "int": "int(x)",
        "float": "float(x)",
        "complex": "complex(x)",
        "type": "x.__name__",
        "function": _CALLED,
        "method": _CALLED,
        "builtin_function_or_method": _CALLED,
    },
}
"""By the first part of the module that a class is from, and by the name of the class: an expression for its instance x."""
_KEEPING: Final = {"cloche", "cloche_guest", "cloche_wire", *stdlib_module_names} - {"__main__"}
"""Packages whose objects are not made of their attributes."""
_BY_METHODS: Final = (
    (("__array__",), "numpy.asarray(x)"),
    (("keys", "__getitem__"), "dict(x)"),
    (("__aiter__",), "[item async for item in x]"),
    (("__await__",), "await x"),
    (("__iter__",), _LIST),
)
"""By methods of the class, if its name says nothing."""
# As `type` has them: a metaclass can put code of its own in their place.
_MRO: Final = type.__dict__["__mro__"].__get__
_MODULE: Final = type.__dict__["__module__"].__get__
_QUALNAME: Final = type.__dict__["__qualname__"].__get__
_NAMESPACE: Final = type.__dict__["__dict__"].__get__
_BY_DTYPE: Final = {"O": "x.tolist()", "T": 'x.astype("U")', "f": 'x.astype("f8")', "c": 'x.astype("c16")'}


def of(value: object) -> str:
    """What to pass in place of a value, as Python code in which the value is called x; "" if there is nothing to say.

    No code of the value runs, nor of its class and metaclass.
    """
    bases = _MRO(type(value))
    names = [(_module(base).partition(".")[0], _QUALNAME(base)) for base in bases]
    for root, name in names:
        found = _BY_NAME.get(root, {}).get(name)
        if found:
            return found
    if _has(bases, "__attrs_attrs__"):
        return "attrs.asdict(x)"
    if ("pydantic", "BaseModel") in names:
        return "x.model_dump()" if _has(bases, "model_dump") else "x.dict()"
    found = next((text for methods, text in _BY_METHODS if all(_has(bases, method) for method in methods)), "")
    return found or ("vars(x), or make its class a dataclass" if _is_its_attributes(type(value)) else "")


def _is_its_attributes(kind: type) -> bool:
    """Whether instances consist of attributes alone: the class is a user's, and no base has something of its own in C."""
    if _module(kind).partition(".")[0] in _KEEPING or not _dict_offset(kind):
        return False
    return all(_flags(base) & _HEAP_TYPE for base in _MRO(kind)[:-1])


def _module(kind: type) -> str:
    try:
        module = _MODULE(kind)
    except AttributeError:  # it was deleted
        return ""
    return module if type(module) is str else ""


def _has(bases: tuple[type, ...], name: str) -> bool:
    """Whether instances of a class have an attribute of the class. None in its place says that they have not."""
    return next((_NAMESPACE(base)[name] for base in bases if name in _NAMESPACE(base)), None) is not None


def of_dtype(dtype: Any) -> str:
    """What to pass in place of an array x of a dtype that cannot be sent; "" if there is nothing to say."""
    if dtype.isbuiltin == 2:  # of another library, which makes its numbers from those of numpy, and back
        return 'x.astype("f4")'
    return _BY_DTYPE.get(dtype.kind, "")
