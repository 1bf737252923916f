"""A node that checks Python itself from the inside: one function for each part of the language and the library.

Run natively and in the sandbox by tests/guest/test_library.py and tests/runtime/test_library.py. An assertion that fails, fails there.
"""

import math


class Checks:
    """process(name) runs that check."""

    async def process(self, name):
        result = globals()[name]()
        if hasattr(result, "__await__"):
            result = await result
        assert result is None
        return name


def check_json():
    import json

    value = {"a": [1, 2.5, None, True, "é"], "b": {"c": []}}
    assert json.loads(json.dumps(value)) == value
    assert json.dumps({"b": 1, "a": 2}, sort_keys=True, separators=(",", ":")) == '{"a":2,"b":1}'
    try:
        json.loads('{"a": }')
    except json.JSONDecodeError as error:
        assert (error.lineno, error.colno) == (1, 7)
    else:
        raise AssertionError


def check_sys():
    import sys

    assert sys.version_info >= (3, 11)
    assert sys.byteorder == "little"
    assert sys.intern("abc") is sys.intern("abc")
    assert sys.getrefcount(object()) >= 1
    assert sys.exc_info() == (None, None, None)


def check_os():
    import os

    assert os.path.join("a", "..", "b") == "a/../b"
    assert os.path.normpath("a/../b") == "b"
    assert os.path.splitext("x.tar.gz") == ("x.tar", ".gz")
    assert len(os.urandom(16)) == 16
    assert os.fspath("p") == "p"
    assert os.environ.get("CLOCHE_NO_SUCH_VARIABLE", "default") == "default"


def check_collections():
    from collections import ChainMap, Counter, OrderedDict, defaultdict, deque, namedtuple

    assert Counter("mississippi").most_common(2) == [("i", 4), ("s", 4)]
    groups = defaultdict(list)
    groups["a"].append(1)
    assert dict(groups) == {"a": [1]}
    queue = deque(range(5), maxlen=3)
    queue.rotate(1)
    assert list(queue) == [4, 2, 3]
    ordered = OrderedDict(a=1, b=2)
    ordered.move_to_end("a")
    assert list(ordered) == ["b", "a"]
    assert ChainMap({"a": 1}, {"a": 2, "b": 3})["b"] == 3
    point = namedtuple("Point", "x y")(1, 2)
    assert point._replace(y=5) == (1, 5)


def check_itertools():
    import itertools as it

    assert list(it.accumulate([1, 2, 3])) == [1, 3, 6]
    assert list(it.islice(it.count(5, 2), 3)) == [5, 7, 9]
    assert [(k, len(list(g))) for k, g in it.groupby("aabccc")] == [("a", 2), ("b", 1), ("c", 3)]
    assert list(it.pairwise("abc")) == [("a", "b"), ("b", "c")]
    assert len(list(it.product(range(3), repeat=2))) == 9
    assert list(it.combinations("abc", 2))[-1] == ("b", "c")
    assert list(it.zip_longest("ab", "c", fillvalue="-")) == [("a", "c"), ("b", "-")]
    assert list(it.chain.from_iterable(["ab", "c"])) == ["a", "b", "c"]


def check_functools():
    import functools

    calls = []

    @functools.lru_cache(maxsize=None)
    def fib(n):
        calls.append(n)
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert fib(30) == 832040
    assert len(calls) == 31
    assert functools.reduce(lambda a, b: a * b, range(1, 6)) == 120
    assert functools.partial(pow, 2)(5) == 32

    @functools.singledispatch
    def kind(x):
        return "other"

    @kind.register
    def _(x: int):
        return "int"

    assert (kind(1), kind("a")) == ("int", "other")

    class Lazy:
        made = 0

        @functools.cached_property
        def value(self):
            self.made += 1
            return 7

    lazy = Lazy()
    assert (lazy.value, lazy.value, lazy.made) == (7, 7, 1)


def check_math():
    assert math.isclose(math.sin(math.pi / 6), 0.5)
    assert math.isqrt(10**30) == 10**15
    assert math.comb(52, 5) == 2598960
    assert math.gcd(84, 36) == 12
    assert math.fsum([0.1] * 10) == 1.0
    assert math.isnan(math.nan)
    assert math.copysign(1, -0.0) == -1
    assert math.factorial(20) == 2432902008176640000


def check_statistics():
    import statistics

    assert statistics.mean([1, 2, 3, 4]) == 2.5
    assert statistics.median([3, 1, 2]) == 2
    assert statistics.pstdev([2, 4, 4, 4, 5, 5, 7, 9]) == 2
    assert statistics.quantiles([1, 2, 3, 4, 5], n=4) == [1.5, 3.0, 4.5]


def check_random():
    import random

    rng = random.Random(42)
    assert [rng.randrange(100) for _ in range(5)] == [81, 14, 3, 94, 35]
    assert 0 <= random.random() < 1
    assert sorted(random.sample(range(10), 10)) == list(range(10))
    assert random.SystemRandom().getrandbits(64) != random.SystemRandom().getrandbits(64)


def check_re():
    import re

    match = re.fullmatch(r"(?P<year>\d{4})-(?P<month>\d\d)", "2024-02")
    assert match.groupdict() == {"year": "2024", "month": "02"}
    assert re.sub(r"(\w+) (\w+)", r"\2 \1", "hello world") == "world hello"
    assert re.findall(r"(?<=\$)\d+", "$5 and $10") == ["5", "10"]
    assert re.split(r"[;,]\s*", "a, b;c") == ["a", "b", "c"]
    assert re.search("é+", "caféé", re.IGNORECASE).span() == (3, 5)


def check_datetime():
    from datetime import date, datetime, timedelta, timezone

    moment = datetime(2024, 2, 29, 12, 30, tzinfo=timezone.utc)
    assert moment.isoformat() == "2024-02-29T12:30:00+00:00"
    assert datetime.fromisoformat("2024-02-29T12:30:00+00:00") == moment
    assert (moment + timedelta(days=366)).date() == date(2025, 3, 1)
    assert moment.timestamp() == 1709209800
    assert moment.strftime("%Y/%j %H:%M") == "2024/060 12:30"
    assert datetime.strptime("1 Mar 2024", "%d %b %Y").month == 3
    assert abs(datetime.now(timezone.utc) - datetime(2020, 1, 1, tzinfo=timezone.utc)) > timedelta(days=365)


def check_zoneinfo():
    from datetime import datetime
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    berlin = ZoneInfo("Europe/Berlin")
    assert datetime(2024, 7, 1, tzinfo=berlin).utcoffset().total_seconds() == 7200
    assert datetime(2024, 1, 1, tzinfo=berlin).tzname() == "CET"
    assert datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=berlin).utcoffset().total_seconds() == 3600
    try:
        ZoneInfo("No/Where")
    except ZoneInfoNotFoundError:
        pass
    else:
        raise AssertionError


def check_decimal():
    from decimal import ROUND_HALF_EVEN, Decimal, getcontext, localcontext

    assert Decimal("0.1") + Decimal("0.2") == Decimal("0.3")
    assert Decimal("2.675").quantize(Decimal("0.01"), ROUND_HALF_EVEN) == Decimal("2.68")
    with localcontext() as context:
        context.prec = 50
        assert str(Decimal(2).sqrt()).startswith("1.4142135623730950488016887242096980785696718753769")
    assert getcontext().prec == 28


def check_fractions():
    from fractions import Fraction

    assert Fraction(1, 3) + Fraction("1/6") == Fraction(1, 2)
    assert Fraction(math.pi).limit_denominator(1000) == Fraction(355, 113)
    assert float(Fraction(3, 8)) == 0.375


def check_hashlib():
    import hashlib

    assert hashlib.md5(b"").hexdigest() == "d41d8cd98f00b204e9800998ecf8427e"
    assert hashlib.sha1(b"abc").hexdigest() == "a9993e364706816aba3e25717850c26c9cd0d89d"
    assert hashlib.sha256(b"abc").hexdigest().startswith("ba7816bf8f01cfea")
    assert hashlib.sha512(b"abc").hexdigest().startswith("ddaf35a193617aba")
    assert hashlib.sha3_256(b"abc").hexdigest().startswith("3a985da74fe225b2")
    assert hashlib.blake2b(b"abc", digest_size=8).hexdigest() == "d8bb14d833d59559"


def check_hmac():
    import hmac

    digest = hmac.new(b"key", b"The quick brown fox jumps over the lazy dog", "sha256").hexdigest()
    assert digest == "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"
    assert hmac.compare_digest(digest, digest)


def check_base64():
    import base64
    import binascii

    assert base64.b64encode(b"\xff\xfe") == b"//4="
    assert base64.urlsafe_b64decode(b"__4=") == b"\xff\xfe"
    assert base64.b85decode(base64.b85encode(bytes(range(256)))) == bytes(range(256))
    assert binascii.crc32(b"123456789") == 0xCBF43926
    assert bytes.fromhex("00 ff").hex("-") == "00-ff"


def check_struct():
    import struct

    assert struct.pack("<hIf", -2, 7, 0.5) == b"\xfe\xff\x07\x00\x00\x00\x00\x00\x00?"
    assert struct.unpack(">d", struct.pack(">d", math.pi)) == (math.pi,)
    assert struct.calcsize("<qB") == 9
    assert [x for (x,) in struct.iter_unpack("<H", b"\x01\x00\x02\x00")] == [1, 2]


def check_zlib():
    import gzip
    import zlib

    data = b"abc" * 1000
    packed = zlib.compress(data, 9)
    assert len(packed) < 50
    assert zlib.decompress(packed) == data
    assert gzip.decompress(gzip.compress(data)) == data
    assert zlib.adler32(b"abc") == 0x024D0127


def check_bz2_and_lzma():
    import bz2
    import lzma

    data = bytes(range(256)) * 20
    assert bz2.decompress(bz2.compress(data)) == data
    assert lzma.decompress(lzma.compress(data)) == data


def check_uuid():
    import uuid

    assert uuid.uuid5(uuid.NAMESPACE_DNS, "python.org") == uuid.UUID("886313e1-3b8a-5372-9b90-0c9aee199e5d")
    assert uuid.uuid4() != uuid.uuid4()
    assert uuid.uuid1().version == 1
    assert uuid.UUID(int=1).hex == "0" * 31 + "1"


def check_typing():
    import typing

    class Movie(typing.TypedDict):
        title: str
        year: typing.NotRequired[int]

    assert Movie.__required_keys__ == {"title"}
    assert typing.get_origin(dict[str, int]) is dict
    assert typing.get_args(int | None) == (int, type(None))

    @typing.runtime_checkable
    class Closes(typing.Protocol):
        def close(self) -> None: ...

    class Door:
        def close(self):
            pass

    assert isinstance(Door(), Closes)
    assert not isinstance(5, Closes)


def check_enum():
    import enum

    class Color(enum.Enum):
        RED = enum.auto()
        BLUE = enum.auto()

    class Mode(enum.Flag):
        READ = 1
        WRITE = 2

    assert [c.name for c in Color] == ["RED", "BLUE"]
    assert Color(2) is Color.BLUE
    assert Mode.READ | Mode.WRITE == Mode(3)
    assert enum.StrEnum("S", ["a"]).a == "a"


def check_dataclasses():
    import dataclasses

    @dataclasses.dataclass(frozen=True, slots=True, order=True)
    class Item:
        name: str
        tags: list = dataclasses.field(default_factory=list, compare=False)

    item = Item("a")
    assert dataclasses.replace(item, name="b") > item
    assert dataclasses.asdict(item) == {"name": "a", "tags": []}
    try:
        item.name = "c"
    except dataclasses.FrozenInstanceError:
        pass
    else:
        raise AssertionError


def check_contextlib():
    import contextlib

    log = []

    @contextlib.contextmanager
    def section(name):
        log.append(f"+{name}")
        try:
            yield name
        finally:
            log.append(f"-{name}")

    with contextlib.ExitStack() as stack:
        stack.enter_context(section("a"))
        stack.callback(log.append, "callback")
        with contextlib.suppress(KeyError):
            raise KeyError
    assert log == ["+a", "callback", "-a"]


def check_pathlib():
    from pathlib import PurePosixPath, PureWindowsPath

    path = PurePosixPath("/data") / "audio" / "a.tar.gz"
    assert (path.name, path.suffixes, path.stem) == ("a.tar.gz", [".tar", ".gz"], "a.tar")
    assert path.relative_to("/data") == PurePosixPath("audio/a.tar.gz")
    assert path.match("*.gz")
    assert PureWindowsPath("C:\\x\\y").parts == ("C:\\", "x", "y")


def check_io():
    import io

    text = io.StringIO("a\nb\n")
    assert list(text) == ["a\n", "b\n"]
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="utf-8", newline="\n") as wrapper:
        wrapper.write("é")
        wrapper.flush()
        assert raw.getvalue() == b"\xc3\xa9"


def check_csv():
    import csv
    import io

    out = io.StringIO()
    csv.writer(out).writerows([["a", "b,c"], [1, 'q"q']])
    assert out.getvalue() == 'a,"b,c"\r\n1,"q""q"\r\n'
    assert list(csv.DictReader(io.StringIO("x,y\n1,2\n"))) == [{"x": "1", "y": "2"}]


class Picklable:
    def __init__(self, value):
        self.value = value


def check_pickle():
    import pickle

    value = {"a": [1, (2, 3)], "b": {4}, "c": Picklable(5)}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        copied = pickle.loads(pickle.dumps(value, protocol))
        assert copied["a"] == [1, (2, 3)]
        assert (type(copied["c"]), copied["c"].value) == (Picklable, 5)


def check_copy():
    import copy

    inner = [1]
    value = {"x": inner, "y": inner}
    deep = copy.deepcopy(value)
    assert deep["x"] is deep["y"] is not inner
    assert copy.copy(value)["x"] is inner


async def check_asyncio():
    import asyncio

    queue = asyncio.Queue()
    async with asyncio.TaskGroup() as group:
        group.create_task(queue.put(1))
        task = group.create_task(queue.get())
    assert task.result() == 1
    assert await asyncio.gather(asyncio.sleep(0, "a"), asyncio.to_thread(len, "bb")) == ["a", 2]
    try:
        async with asyncio.timeout(0.001):
            await asyncio.sleep(60)
    except TimeoutError:
        pass
    else:
        raise AssertionError


def check_logging():
    import io
    import logging

    out = io.StringIO()
    logger = logging.getLogger("library_node.check")
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("%(levelname)s:%(name)s:%(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
    logger.error("%d%%", 5)
    logger.removeHandler(handler)
    assert out.getvalue() == "ERROR:library_node.check:5%\n"


def check_traceback():
    import traceback

    def fail():
        raise ValueError("inside")

    try:
        fail()
    except ValueError as error:
        text = "".join(traceback.format_exception(error))
        assert "in fail" in text
        assert 'raise ValueError("inside")' in text
        assert traceback.extract_tb(error.__traceback__)[-1].name == "fail"


def check_textwrap():
    import textwrap

    assert textwrap.dedent("  a\n    b") == "a\n  b"
    assert textwrap.wrap("the quick brown fox", 10) == ["the quick", "brown fox"]
    assert textwrap.shorten("hello big world", 11, placeholder="...") == "hello..."


def check_string():
    import string

    assert string.Template("$who likes $what").substitute(who="tim", what="pie") == "tim likes pie"
    assert string.ascii_lowercase[:3] == "abc"
    assert string.capwords("a bc") == "A Bc"
    assert list(string.Formatter().parse("{a!r:>5}"))[0][1:] == ("a", ">5", "r")


def check_unicode():
    import unicodedata

    assert unicodedata.normalize("NFD", "é") == "e\u0301"
    assert "ß".casefold() == "ss"
    assert "\N{GREEK SMALL LETTER ALPHA}".upper() == "Α"
    assert len("👩‍🚀") == 3
    assert "é".encode("latin-1") == b"\xe9"
    assert "a\udc80".encode("utf-8", "surrogateescape") == b"a\x80"


def check_generators():
    def averager():
        total = count = 0
        average = None
        while True:
            value = yield average
            if value is None:
                return count
            total, count = total + value, count + 1
            average = total / count

    def outer(box):
        box.append((yield from averager()))

    box = []
    gen = outer(box)
    next(gen)
    assert [gen.send(10), gen.send(20)] == [10, 15]
    for _ in gen:
        pass
    assert box == [2]


def check_decorators():
    import functools

    def repeat(times):
        def decorate(function):
            @functools.wraps(function)
            def wrapper(*args, **kwargs):
                return [function(*args, **kwargs) for _ in range(times)]

            return wrapper

        return decorate

    @repeat(3)
    def hello(name, *, mark="!"):
        """Greets."""
        return name + mark

    assert hello("a", mark="?") == ["a?"] * 3
    assert (hello.__name__, hello.__doc__) == ("hello", "Greets.")


def check_closures():
    def counter():
        count = 0

        def increment(by=1):
            nonlocal count
            count += by
            return count

        return increment

    one, two = counter(), counter()
    assert [one(), one(5), two()] == [1, 6, 1]
    assert [f() for f in [lambda i=i: i for i in range(3)]] == [0, 1, 2]


def check_pattern_matching():
    from dataclasses import dataclass

    @dataclass
    class Point:
        x: int
        y: int

    def describe(value):
        match value:
            case Point(x=0, y=0):
                return "origin"
            case Point(x, y) if x == y:
                return "diagonal"
            case {"type": "a" | "b" as kind, **rest}:
                return kind, rest
            case [first, *_, last]:
                return first, last
            case str() | bytes():
                return "text"
            case _:
                return None

    assert describe(Point(0, 0)) == "origin"
    assert describe(Point(2, 2)) == "diagonal"
    assert describe({"type": "b", "n": 1}) == ("b", {"n": 1})
    assert describe([1, 2, 3]) == (1, 3)
    assert describe("x") == "text"
    assert describe(5) is None


def check_metaclasses():
    class Registry(type):
        known = []

        def __new__(mcs, name, bases, namespace, **options):
            made = super().__new__(mcs, name, bases, namespace)
            mcs.known.append((name, options))
            return made

        def __init__(cls, name, bases, namespace, **options):
            super().__init__(name, bases, namespace)

    class Base(metaclass=Registry):
        subclasses = []

        def __init_subclass__(cls, **options):
            cls.subclasses.append(cls.__name__)

    class Child(Base, tag="t"):
        pass

    assert Registry.known == [("Base", {}), ("Child", {"tag": "t"})]
    assert Base.subclasses == ["Child"]


def check_descriptors():
    class Positive:
        def __set_name__(self, owner, name):
            self.name = "_" + name

        def __get__(self, instance, owner):
            return self if instance is None else getattr(instance, self.name)

        def __set__(self, instance, value):
            if value <= 0:
                raise ValueError("must be positive")
            setattr(instance, self.name, value)

    class Order:
        amount = Positive()

    order = Order()
    order.amount = 5
    assert order.amount == 5
    try:
        order.amount = -1
    except ValueError as error:
        assert str(error) == "must be positive"
    else:
        raise AssertionError


def check_exception_groups():
    caught = []
    try:
        raise ExceptionGroup("many", [ValueError(1), ExceptionGroup("inner", [TypeError(2), KeyError(3)])])
    except* ValueError as group:
        caught += [type(e).__name__ for e in group.exceptions]
    except* (TypeError, KeyError) as group:
        caught.append(len(group.exceptions[0].exceptions))
    assert caught == ["ValueError", 2]


def check_exceptions():
    log = []
    try:
        try:
            raise KeyError("k")
        except KeyError as error:
            error.add_note("note")
            raise RuntimeError from error
        else:
            log.append("else")
        finally:
            log.append("finally")
    except RuntimeError as error:
        assert isinstance(error.__cause__, KeyError)
        assert error.__cause__.__notes__ == ["note"]
    assert log == ["finally"]


def check_f_strings():
    name, value = "x", 3.14159
    assert f"{name!r:>5}|{value:.2f}|{value:{8}.{3}}" == "  'x'|3.14|    3.14"
    assert f"{name=}" == "name='x'"
    assert f"{{}} {'nested'} {12345678:,} {255:#x} {0.5:%}" == "{} nested 12,345,678 0xff 50.000000%"


async def check_async_comprehensions():
    import asyncio

    async def numbers(n):
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    assert [x * 2 async for x in numbers(3)] == [0, 2, 4]
    assert {x: await asyncio.sleep(0, x) async for x in numbers(3) if x} == {1: 1, 2: 2}
    assert sum([x async for x in numbers(4)]) == 6


async def check_async_context_managers():
    import contextlib

    log = []

    @contextlib.asynccontextmanager
    async def resource(name):
        log.append(f"open {name}")
        try:
            yield name
        finally:
            log.append(f"close {name}")

    async with contextlib.AsyncExitStack() as stack:
        assert await stack.enter_async_context(resource("a")) == "a"
        async with resource("b"):
            pass
    assert log == ["open a", "open b", "close b", "close a"]


def check_abc():
    import abc

    class Shape(abc.ABC):
        @abc.abstractmethod
        def area(self): ...

    class Square(Shape):
        def area(self):
            return 4

    assert Square().area() == 4
    try:
        Shape()
    except TypeError as error:
        assert "abstract" in str(error)
    else:
        raise AssertionError


def check_contextvars():
    import contextvars

    var = contextvars.ContextVar("var", default=1)
    token = var.set(2)
    context = contextvars.copy_context()
    var.reset(token)
    assert (var.get(), context[var], context.run(var.get)) == (1, 2, 2)


def check_integers():
    assert (1 << 200) % 1000003 == pow(2, 200, 1000003)
    assert int("ff", 16) == 255
    assert (-7) // 2 == -4
    assert (10**50).bit_length() == 167
    assert int.from_bytes((2**70).to_bytes(10, "big"), "big") == 2**70
    assert pow(3, -1, 7) == 5


def check_floats():
    assert 0.1 + 0.2 != 0.3
    assert (0.1).hex() == "0x1.999999999999ap-4"
    assert float("1e400") == math.inf
    assert repr(5e-324) == "5e-324"
    assert round(2.5) == 2
    assert (2.0).is_integer()
    assert float.fromhex("0x1.8p1") == 3.0


def check_threading_primitives():
    import queue
    import threading

    with threading.Lock(), threading.RLock():
        event = threading.Event()
        event.set()
        assert event.wait(0)
    local = threading.local()
    local.x = 1
    assert local.x == 1
    box = queue.Queue()
    box.put(5)
    assert box.get_nowait() == 5


def check_weakref_and_gc():
    import gc
    import weakref

    class Thing:
        pass

    thing = Thing()
    thing.me = thing
    ref = weakref.ref(thing)
    del thing
    gc.collect()
    assert ref() is None


def check_urllib_parse():
    from urllib.parse import parse_qs, urlencode, urlsplit

    assert urlsplit("https://a.b:8/c?d=e#f").port == 8
    assert parse_qs(urlencode({"a": "b c", "d": ["e"]}, doseq=True)) == {"a": ["b c"], "d": ["e"]}
