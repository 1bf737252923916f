# Behind CPython's ctypes: libraries ask for `pythonapi` to learn whether they may call C functions of the interpreter. PyPy has none, too.

del pythonapi  # noqa: F821


def __getattr__(name):
    if name == "pythonapi":
        raise AttributeError("a sandboxed node has no C functions to call, so ctypes has no pythonapi, as in PyPy")
    raise AttributeError(f"module 'ctypes' has no attribute {name!r}")
