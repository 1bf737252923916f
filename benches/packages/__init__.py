"""Real packages from the index, each with a small real task whose result is compared with native CPython's: see `run`."""
