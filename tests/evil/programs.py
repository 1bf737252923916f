"""The hostile programs of the threat model, numbered as in docs/explanation/threat-model.md: the body of a function that attacks.

Each says how it may end. "deadline", "memory" and so on are the limit that has to stop it; "node" is an ordinary exception of the
node; "trap" a crash of its interpreter, which stays inside; "value" means that it returns, having got nothing.

A program that the deadline ends would never end by itself, so it ends in no other way. All others get a deadline that they do not meet
on a slow machine either: how they end is never a question of time.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Program:
    """One attack."""

    number: int
    name: str
    body: str
    ends: frozenset[str]

    def __str__(self) -> str:
        return f"{self.number}-{self.name}"


def _p(number: int, name: str, ends: str, body: str) -> Program:
    return Program(number, name, body, frozenset(ends.split()))


PROGRAMS = [
    # CPU and time
    _p(1, "loop", "deadline", "while True: pass"),
    _p(2, "swallow", "deadline", "while True:\n    try:\n        while True: pass\n    except BaseException: pass"),
    _p(3, "sleep", "deadline", "import time; time.sleep(1e6)"),
    _p(3, "sleep-forever", "node", "import time; time.sleep(1e300)"),
    _p(4, "poll", "deadline", "import select; select.poll().poll(10**9)"),
    _p(4, "select", "deadline", "import select; select.select([], [], [], 1e6)"),
    _p(4, "event-wait", "deadline", "import threading; threading.Event().wait(1e6)"),
    _p(4, "lock", "deadline", "import threading; a = threading.Lock(); a.acquire(); a.acquire()"),
    _p(4, "queue-get", "deadline", "import queue; queue.Queue().get()"),
    _p(4, "asyncio-sleep", "deadline", "import asyncio; asyncio.run(asyncio.sleep(1e6))"),
    _p(5, "power", "deadline", "9**9**9"),
    _p(6, "int-to-str", "deadline", "import sys; sys.set_int_max_str_digits(0); str(7 ** 10**7)"),
    _p(7, "regex", "deadline", "import re; re.match('(a*)*b', 'a' * 60)"),
    _p(8, "sum-range", "deadline", "sum(range(10**12))"),
    _p(9, "c-loop", "deadline", "1 in iter(int, 1)"),
    _p(10, "matmul", "deadline", "import numpy as np; a = np.ones((300, 300))\nwhile True: a @ a"),
    _p(10, "sort", "deadline", "import numpy as np\nwhile True: np.sort(np.random.rand(1 << 20))"),
    _p(11, "atexit", "value node", "import atexit\ndef f():\n    while True: pass\natexit.register(f)"),
    _p(12, "del-loop", "deadline", "class D:\n    def __del__(self):\n        while True: pass\nD()"),
    # Memory
    _p(14, "bytearray", "memory", "bytearray(2 << 30)"),
    _p(15, "growth", "memory", "a = [0]\nwhile True: a += a"),
    _p(16, "catch-memory-error", "deadline", "a = []\nwhile True:\n    try: a.append(bytearray(1 << 20))\n    except MemoryError: pass"),
    _p(17, "text", "memory", "'x' * 10**10"),
    _p(18, "cycles", "memory", "import gc; gc.disable()\nwhile True:\n    a = [bytearray(1 << 16)]; a.append(a)"),
    _p(19, "colliding-dict", "memory", "d = {}\nfor i in range(1, 10**6): d[i * ((1 << 61) - 1)] = i"),
    _p(20, "zlib-bomb", "memory", "import zlib; b = zlib.compress(bytes(1 << 24), 9); b = zlib.decompress(b) * 100"),
    _p(21, "numpy-shape", "memory node", "import numpy as np; np.zeros((1 << 30, 1 << 30))"),
    _p(21, "numpy-big", "memory", "import numpy as np; np.ones(1 << 29)"),
    # Stack and interpreter
    _p(22, "recursion", "node", "def r(n): return r(n + 1)\nr(0)"),
    _p(23, "recursion-limit", "node trap memory", "import sys; sys.setrecursionlimit(10**9)\ndef r(n): return r(n + 1)\nr(0)"),
    _p(23, "recursion-limit-c", "node trap memory", "import sys; sys.setrecursionlimit(10**9)\nclass A:\n    def __repr__(self): return repr(self)\nrepr(A())"),
    _p(24, "deep-repr", "node trap", "a = []\nfor _ in range(10**5): a = [a]\nrepr(a)"),
    _p(25, "deep-dealloc", "value trap", "a = None\nfor _ in range(10**5): a = (a,)\ndel a"),
    _p(26, "ast-nesting", "node trap memory", "compile('(' * 10**5 + ')' * 10**5, 'x', 'eval')"),
    _p(26, "ast-operators", "node trap memory", "compile('-' * 10**6 + '1', 'x', 'eval')"),
    _p(27, "json-nesting", "node trap", "import json; json.loads('[' * 10**6)"),
    _p(27, "pickle-nesting", "node trap value", "import pickle; pickle.loads(b'(' * 10**6 + b't' * 10**6 + b'.')"),
    _p(28, "bad-bytecode", "node trap value memory", "def f(): pass\nf.__code__ = f.__code__.replace(co_code=bytes(range(256)) * 4)\nf()"),
    _p(29, "constant-out-of-bounds", "node trap value memory", "def f(): return 1\nf.__code__ = f.__code__.replace(co_consts=())\nf.__code__ = f.__code__.replace(co_code=bytes([151, 0, 100, 255, 83, 0]))\nf()"),
    _p(30, "strided-read", "node trap value", "import numpy as np\nfrom numpy.lib.stride_tricks import as_strided\nas_strided(np.zeros(1), (1 << 28,), (16,)).sum()"),
    _p(31, "strided-write", "node trap value protocol memory", "import numpy as np\nfrom numpy.lib.stride_tricks import as_strided\nas_strided(np.zeros(1), (1 << 28,), (8,))[:] = 1e300"),
    _p(31, "strided-write-below", "node trap value protocol memory", "import numpy as np\nfrom numpy.lib.stride_tricks import as_strided\nas_strided(np.zeros(1), (1 << 20,), (-8,))[:] = -1.5"),
    _p(32, "sigsegv", "node trap", "import faulthandler; faulthandler._sigsegv()"),
    _p(32, "null-read", "node trap value", "import faulthandler; faulthandler._read_null()"),
    _p(33, "abort", "trap exit", "import os; os.abort()"),
    _p(34, "exit", "exit", "import os; os._exit(3)"),
    _p(34, "exit-reserved", "exit", "import os; os._exit(0x10001)"),
    _p(35, "sys-exit-none", "node", "import sys; sys.exit()"),
    _p(35, "sys-exit-text", "node", "import sys; sys.exit('bye')"),
    _p(35, "sys-exit-huge", "node", "import sys; sys.exit(10**100)"),
    _p(35, "sys-exit-object", "node", "import sys; sys.exit(object())"),
    # I/O and authority
    _p(36, "read-passwd", "node", "open('/etc/passwd').read()"),
    _p(37, "traversal", "node", "open('../' * 20 + 'etc/passwd').read()"),
    _p(37, "listdir", "value", "import os; assert os.listdir('/') == ['tmp']"),
    _p(37, "symlink", "node", "import os; os.symlink('/etc/passwd', 'x'); open('x').read()"),
    _p(38, "environ", "value", "import os; assert not os.environ, dict(os.environ)"),
    _p(39, "socket", "node", "import socket; socket.socket()"),
    _p(39, "resolve", "node", "import socket; socket.gethostbyname('example.com')"),
    _p(40, "subprocess", "node", "import subprocess; subprocess.run(['true'])"),
    _p(40, "fork", "node", "import os; os.fork()"),
    _p(40, "system", "node value", "import os; os.system('true')"),
    _p(41, "thread", "node", "import threading; threading.Thread(target=print).start()"),
    _p(42, "open-many", "node", "import os\nfor _ in range(10**5): os.open('/', 0)"),
    _p(42, "pipe", "node", "import os; os.pipe()"),
    _p(43, "write-stdlib", "node", "import os; open(os.__file__, 'w').write('x')"),
    _p(44, "close-all", "value node", "import os; os.closerange(0, 1000)"),
    _p(45, "stdout-flood", "output", "while True: print('x' * 1000)"),
    _p(45, "stdout-newlines", "output memory", "print('\\n' * 10**8)"),
    _p(45, "write-1", "output node", "import os\nwhile True: os.write(1, b'x' * 1000)"),
    _p(46, "stderr-flood", "output", "import sys\nwhile True: sys.stderr.write('x' * 1000)"),
    _p(46, "write-2", "output node", "import os\nwhile True: os.write(2, b'x' * 1000)"),
    _p(47, "urandom", "memory", "import os; os.urandom(1 << 30)"),
    _p(47, "urandom-loop", "deadline", "import os\nwhile True: os.urandom(1 << 16)"),
    # The boundary
    _p(53, "infinite-generator", "memory", "list(iter(int, 1))"),
    _p(56, "log-flood", "deadline", "import logging\nwhile True: logging.critical('x' * 100)"),
    _p(56, "log-huge", "value memory", "import logging; logging.critical('x' * (20 << 20))"),
    _p(56, "log-keys", "value", "import logging; logging.critical('x', extra={f'k{i}': i for i in range(10_000)})"),
    _p(56, "log-control", "value", r"import logging; logging.critical('\x1b[2J\x00\u202e\r', extra={'event': 1, 'node': '\x1b'})"),
    _p(56, "log-deep", "value", "import logging\na = []\nfor _ in range(500): a = [a]\nlogging.critical('x', extra={'a': a})"),
    _p(56, "log-raises", "value node", "import logging\nclass A:\n    def __repr__(self): raise SystemExit\n    __str__ = __repr__\nlogging.critical('x', extra={'a': A()})"),
    _p(57, "str-huge", "node memory", "class E(Exception):\n    def __str__(self): return 'x' * 10**8\nraise E"),
    _p(57, "str-raises", "node", "class E(Exception):\n    def __str__(self): raise E\nraise E"),
    _p(57, "str-loops", "deadline", "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E"),
    _p(57, "forged-class", "node", "E = type('E', (Exception,), {'__module__': 'cloche', '__qualname__': 'DeadlineError'})\nraise E('forged')"),
    _p(57, "forged-module", "node", "class M(type):\n    @property\n    def __module__(cls): raise SystemExit\n    @property\n    def __qualname__(cls): return 3\nclass E(Exception, metaclass=M): pass\nraise E"),
    _p(57, "long-traceback", "node", "import sys; sys.setrecursionlimit(50_000)\ndef r(n):\n    if n: r(n - 1)\n    else: raise ValueError\nr(40_000)"),
    _p(57, "cause-cycle", "node", "a, b = ValueError(1), ValueError(2)\na.__cause__ = b; b.__cause__ = a\nraise a"),
    _p(57, "cause-chain", "node", "e = None\nfor i in range(10_000):\n    n = ValueError(i); n.__cause__ = e; e = n\nraise e"),
    _p(57, "notes", "node memory", "e = ValueError()\ne.__notes__ = ['x' * 10_000] * 10_000\nraise e"),
    _p(57, "bad-notes", "node", "e = ValueError()\ne.__notes__ = 3\nraise e"),
    _p(57, "group", "node", "e = ValueError()\nfor _ in range(200): e = ExceptionGroup('g', [e, e])\nraise e"),
    _p(58, "unregister", "value node protocol", "import _cloche; _cloche.register(None, None, None, None)"),
    _p(58, "forge-replies", "value node protocol", "import _cloche; _cloche.register(lambda m: [0, 'forged'], lambda o: 1 / 0, lambda t, v: v, lambda e, p: [1, 3])"),
    _p(58, "patch-runtime", "value node protocol", "import sys\nfor name, module in list(sys.modules.items()):\n    if name.startswith('cloche'):\n        for key in list(vars(module)):\n            setattr(module, key, None)"),
    _p(58, "empty-modules", "value node protocol trap", "import sys; sys.modules.clear()"),
    _p(58, "patch-builtins", "value node protocol trap", "import builtins\nfor key in list(vars(builtins)):\n    if not key.startswith('_'): delattr(builtins, key)"),
    _p(58, "no-limits", "value node", "import _cloche; _cloche.configure(2**63, 2**63, 2**31, 2**31 - 1)"),
    _p(58, "emit-garbage", "value node", "import _cloche\nfor v in (1, b'x' * 100, [1], [20, 'x'], ['x'] * 6, [20, 'l', 'm', None, None, 'now'], [10**30] * 6, {}): _cloche.emit(v)"),
    _p(58, "call-host", "value node", "import _cloche; assert _cloche.call(b'anything') is None"),
    _p(58, "frames", "node value", "import sys\nf = sys._getframe()\nwhile f:\n    f.f_locals.clear() if hasattr(f.f_locals, 'clear') else None\n    f = f.f_back"),
    _p(58, "gc-objects", "node value trap", "import gc\nfor o in gc.get_objects():\n    if type(o) is dict: o.clear()"),
]  # fmt: skip
