"""Runs once while the image is built: imports the modules that the image contains, and connects the guest to ``_cloche``.

The only module of this package with side effects at import.
"""

from __future__ import annotations

import functools
import gc
import importlib
import logging
import os
import sys
from typing import Any

import _cloche

from cloche_guest import (
    Cancelled,
    DeadlineExceeded,
    Interrupted,
    asking,
    logs,
    loop_policy,
    reseed,
    threads,
    values,
    warm,
)
from cloche_guest.dispatch import Guest
from cloche_guest.node import PLAIN
from cloche_wire.files import SCRATCH_BYTES

_LIBRARY = """
    abc argparse array ast asyncio base64 binascii bisect calendar cmath codecs collections collections.abc
    concurrent.futures concurrent.futures.thread configparser contextlib contextvars copy copyreg csv dataclasses
    datetime decimal difflib encodings.ascii encodings.idna encodings.latin_1 encodings.utf_8 enum errno fnmatch
    fractions functools gc getpass glob gzip hashlib heapq hmac html importlib.abc importlib.machinery
    importlib.metadata importlib.resources importlib.util inspect io ipaddress itertools json keyword linecache locale
    logging logging.handlers math numbers operator os os.path pathlib pickle pickletools platform pprint queue random
    re secrets shlex shutil signal stat statistics string struct tempfile textwrap threading time timeit tokenize
    traceback types typing unicodedata urllib.parse uuid warnings weakref zipfile zlib zoneinfo
""".split()
_OPTIONAL = """
    bz2 lzma cloudpickle numpy numpy.linalg numpy.fft numpy.random numpy.ma numpy.polynomial numpy.lib.stride_tricks
    cloche_guest.services cloche_guest.wheels
""".split()


def _import_all() -> None:
    for name in _LIBRARY:
        importlib.import_module(name)
    for name in _OPTIONAL:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as exc:
            if exc.name is None or name.partition(".")[0] != exc.name.partition(".")[0]:
                raise


def _unraisable(hooked: Any) -> None:
    """Replaces `sys.unraisablehook`, so that a finaliser cannot swallow an `Interrupted`."""
    if isinstance(hooked.exc_value, Interrupted):
        _cloche.raise_again(hooked.exc_value)
    else:
        sys.__unraisablehook__(hooked)


def _boot() -> Guest:
    _import_all()
    try:
        from cloche_tzdata import install as install_zones
    except ModuleNotFoundError:
        pass
    else:
        install_zones()
    try:
        from numpy import ndarray
    except ModuleNotFoundError:
        pass
    else:
        PLAIN.add(ndarray)
        from numpy.random.mtrand import _rand

        reseed.numpy_seeder = functools.partial(_cloche.seed_mt19937, _rand._bit_generator.capsule)
    os.dup = _cloche.dup
    _cloche.scratch(SCRATCH_BYTES)
    threads.install()
    sys.unraisablehook = _unraisable
    logs.prepare()
    warm.rehearse(_cloche, values.encode, values.decode)
    guest = Guest(_cloche)
    loop_policy.install(guest.loop)
    guest.loop.watch_generators()
    guest.streams.install()
    guest.logs.install()
    guest.logs.apply(logging.INFO)
    _cloche.register(guest.handle, values.encode, values.decode, guest.fail, guest.recover, DeadlineExceeded, Cancelled)
    asking.bind(_cloche.call)
    return guest


GUEST = _boot()
gc.collect()
gc.freeze()
