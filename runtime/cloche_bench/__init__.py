"""Native CPython against WebAssembly: what moving a node into the sandbox costs. Used by ``cloche bench``."""
