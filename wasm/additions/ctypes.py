# Behind CPython's ctypes. Libraries look for `pythonapi` to learn whether they may call C functions. PyPy has none, too.

del pythonapi  # noqa: F821


def __getattr__(name):
    if name == "pythonapi":
        raise AttributeError("a sandboxed node has no C functions to call, so ctypes has no pythonapi, as in PyPy")
    raise AttributeError(f"module 'ctypes' has no attribute {name!r}")
