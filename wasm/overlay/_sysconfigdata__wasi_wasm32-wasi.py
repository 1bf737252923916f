"""What sysconfig asks for. Its real contents (compiler flags, install paths) mean nothing in the guest."""

build_time_vars = {
    "EXT_SUFFIX": ".wasm",
    "HAVE_FORK": 0,
    "Py_DEBUG": 0,
    "Py_GIL_DISABLED": 0,
    "SOABI": "",
    "TZPATH": "",
    "VERSION": "3.13",
    "exec_prefix": "/",
    "prefix": "/",
}
