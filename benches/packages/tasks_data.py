"""Tasks for packages about data: containers, numbers, dates, tables, graphs, schemas."""

from .task import package


@package()
def six():
    import six

    return [six.PY2, six.ensure_str(b"abc"), list(six.moves.range(3)), six.text_type("x")]


@package("python-dateutil")
def dateutil():
    from datetime import datetime

    from dateutil import parser, relativedelta, rrule, tz

    start = parser.parse("2024-01-31T10:00:00+02:00")
    rule = rrule.rrule(rrule.MONTHLY, count=3, dtstart=datetime(2024, 1, 31))
    return [
        start.isoformat(),
        (start + relativedelta.relativedelta(months=1)).isoformat(),
        [moment.isoformat() for moment in rule],
        start.astimezone(tz.UTC).isoformat(),
    ]


@package()
def pytz():
    from datetime import datetime

    import pytz

    zone = pytz.timezone("Europe/Berlin")
    return [zone.localize(datetime(2024, 7, 1, 12)).isoformat(), len(pytz.common_timezones) > 400]


@package()
def tzdata():
    import importlib.resources
    import zoneinfo

    return [
        importlib.resources.files("tzdata").joinpath("zones").read_text().count("\n") > 300,
        str(zoneinfo.ZoneInfo("Asia/Tokyo")),
    ]


@package()
def tzlocal():
    import tzlocal.utils

    return tzlocal.utils.get_tz_offset(__import__("zoneinfo").ZoneInfo("UTC"))


@package()
def arrow():
    import arrow

    moment = arrow.get("2024-02-29T12:30:00+00:00")
    return [
        moment.shift(years=1).isoformat(),
        moment.humanize(moment.shift(hours=3)),
        moment.to("US/Pacific").format("YYYY-MM-DD HH:mm ZZ"),
    ]


@package()
def isodate():
    import isodate

    return [str(isodate.parse_duration("P3DT4H")), isodate.parse_datetime("2024-05-06T07:08:09Z").isoformat()]


@package()
def parsedatetime():
    from datetime import datetime

    import parsedatetime

    found, kind = parsedatetime.Calendar().parseDT("next friday at 5pm", sourceTime=datetime(2024, 5, 6))
    return [found.isoformat(), kind]


@package()
def croniter():
    from datetime import datetime

    from croniter import croniter

    steps = croniter("*/15 8-9 * * mon", datetime(2024, 5, 6))
    return [steps.get_next(datetime).isoformat() for _ in range(5)]


@package()
def holidays():
    import holidays

    return sorted(f"{day} {name}" for day, name in holidays.Germany(years=2024, language="en_US").items())


@package()
def humanize():
    from datetime import timedelta

    import humanize

    return [
        humanize.intcomma(1234567),
        humanize.naturalsize(10**9),
        humanize.naturaldelta(timedelta(hours=30)),
        humanize.ordinal(22),
    ]


@package()
def attrs():
    import attr
    from attrs import define, field, validators

    @define
    class Point:
        x: int = field(validator=validators.instance_of(int))
        y: int = 3

    try:
        Point("a")
    except TypeError as error:
        refused = type(error).__name__
    return [attr.asdict(Point(1)), repr(Point(1, 2)), refused]


@package()
def cattrs():
    import attrs
    import cattrs

    @attrs.define
    class Point:
        x: int
        y: float

    return [cattrs.unstructure(Point(1, 2.5)), repr(cattrs.structure({"x": "4", "y": "5.5"}, Point))]


@package()
def toolz():
    import toolz

    return [toolz.frequencies("banana"), list(toolz.partition(2, range(5))), toolz.get_in(["a", 0], {"a": [7]})]


@package("more-itertools")
def more_itertools():
    import more_itertools

    return [
        list(more_itertools.chunked(range(7), 3)),
        more_itertools.ilen(x for x in "abc"),
        list(more_itertools.windowed([1, 2, 3], 2)),
    ]


@package()
def sortedcontainers():
    from sortedcontainers import SortedDict, SortedList

    values = SortedList([5, 1, 4])
    values.add(3)
    return [list(values), values.bisect(4), list(SortedDict(b=2, a=1).items())]


@package()
def cachetools():
    from cachetools import LRUCache, cached

    seen = []

    @cached(LRUCache(maxsize=2))
    def double(x):
        seen.append(x)
        return x * 2

    return [[double(x) for x in (1, 1, 2, 3, 1)], seen]


@package()
def boltons():
    from boltons import iterutils, strutils

    return [
        iterutils.chunked(list(range(5)), 2),
        strutils.slugify("Hello, World!"),
        iterutils.remap({"a": {"b": None}}, lambda p, k, v: v is not None),
    ]


@package()
def glom():
    import glom

    return [glom.glom({"a": {"b": [1, 2]}}, "a.b.1"), glom.glom([{"x": 1}, {"x": 2}], ["x"])]


@package()
def deepdiff():
    from deepdiff import DeepDiff

    return DeepDiff({"a": 1, "b": [1, 2]}, {"a": 2, "b": [1, 3]}).to_dict()


@package()
def dictdiffer():
    import dictdiffer

    changes = list(dictdiffer.diff({"a": 1}, {"a": 2, "b": 3}))
    return [changes, dictdiffer.patch(changes, {"a": 1})]


@package()
def munch():
    from munch import munchify

    value = munchify({"a": {"b": 1}})
    return [value.a.b, dict(value.toDict())]


@package("python-box")
def box():
    from box import Box

    value = Box({"a": {"b": [1, {"c": 2}]}}, box_dots=True)
    return [value.a.b[1].c, value["a.b[0]"], value.to_dict()]


@package()
def addict():
    from addict import Dict

    value = Dict()
    value.a.b.c = 1
    return value.to_dict()


@package("frozenlist")
def frozenlist():
    from frozenlist import FrozenList

    values = FrozenList([1, 2])
    values.append(3)
    values.freeze()
    return [list(values), values.frozen, hash(values) == hash(tuple(values))]


@package()
def multidict():
    from multidict import CIMultiDict

    headers = CIMultiDict([("A", "1"), ("a", "2")])
    return [headers.getall("a"), len(headers)]


@package()
def intervaltree():
    from intervaltree import IntervalTree

    tree = IntervalTree.from_tuples([(1, 4, "a"), (3, 7, "b")])
    return sorted(found.data for found in tree[3])


@package()
def heapdict():
    from heapdict import heapdict

    heap = heapdict({"a": 3, "b": 1})
    return [heap.popitem(), heap.peekitem()]


@package()
def networkx():
    import networkx

    graph = networkx.karate_club_graph()
    ranks = networkx.degree_centrality(graph)
    return [
        networkx.shortest_path(graph, 0, 33),
        sorted(ranks, key=ranks.get)[-3:],
        networkx.is_connected(graph),
        round(networkx.average_clustering(graph), 9),
    ]


@package()
def simpy():
    import simpy

    log = []

    def car(env):
        for _ in range(2):
            yield env.timeout(5)
            log.append(env.now)

    env = simpy.Environment()
    env.process(car(env))
    env.run(until=12)
    return log


@package()
def sympy():
    import sympy

    x = sympy.Symbol("x")
    return [
        str(sympy.integrate(sympy.sin(x) ** 2, x)),
        [str(root) for root in sympy.solve(x**2 - 2, x)],
        str(sympy.factor(x**3 - 1)),
    ]


@package()
def mpmath():
    import mpmath

    with mpmath.workdps(40):
        return [str(mpmath.zeta(3)), str(mpmath.quad(mpmath.sin, [0, mpmath.pi]))]


@package()
def pint():
    import pint

    units = pint.UnitRegistry()
    return [str((3 * units.meter / units.second).to("km/hour")), str(units("5 feet").to("meter").magnitude)]


@package()
def uncertainties():
    from uncertainties import ufloat, umath

    return [str(ufloat(2, 0.1) * 3), str(umath.sin(ufloat(1, 0.01)))]


@package("opt-einsum")
def opt_einsum():
    import numpy
    import opt_einsum

    a = numpy.arange(6.0).reshape(2, 3)
    return opt_einsum.contract("ij,kj->ik", a, a).tolist()


@package()
def einops():
    import numpy
    from einops import rearrange, reduce

    a = numpy.arange(24).reshape(2, 3, 4)
    return [rearrange(a, "b h w -> h (b w)").shape, reduce(a, "b h w -> b", "sum").tolist()]


@package(needs=False)
def autograd():
    import autograd.numpy as np
    from autograd import grad

    return [float(grad(lambda x: np.sin(x) * x)(1.0)), grad(lambda v: np.sum(v**2))(np.array([1.0, 2.0])).tolist()]


@package(needs=False)
def patsy():
    from patsy import dmatrix

    return [list(row) for row in dmatrix("a + b", {"a": ["x", "y", "x"], "b": [1.0, 2.0, 3.0]})]


@package(needs=False)
def quantities():
    import quantities as pq

    return str((3 * pq.m).rescale(pq.ft).round(3))


@package()
def dask():
    import dask
    from dask.delayed import delayed

    add = delayed(lambda a, b: a + b)
    with dask.config.set(scheduler="synchronous"):
        return [add(add(1, 2), 3).compute(), delayed(sorted)([add(2, 3), 1]).compute()]


@package()
def fsspec():
    import fsspec

    fs = fsspec.filesystem("memory")
    with fs.open("/a/b.txt", "wb") as file:
        file.write(b"hello")
    return [fs.cat("/a/b.txt"), fs.ls("/a", detail=False)]


@package()
def partd():
    import partd

    store = partd.Dict()
    store.append({"x": b"ab"})
    store.append({"x": b"c"})
    return store.get("x")


@package()
def joblib():
    import joblib
    from joblib import Parallel, delayed

    return [Parallel(n_jobs=1)(delayed(pow)(x, 2) for x in range(5)), joblib.hash([1, 2]) == joblib.hash([1, 2])]


@package()
def cloudpickle():
    import pickle

    import cloudpickle

    n = 3
    return pickle.loads(cloudpickle.dumps(lambda x: x * n))(14)


@package()
def dill():
    import dill

    return dill.loads(dill.dumps(lambda x: [x, x + 1]))(4)


@package()
def tblib():
    import tblib

    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError as error:
        return tblib.Traceback(error.__traceback__).to_dict()["tb_frame"]["f_code"]["co_name"]


@package()
def openpyxl():
    import io

    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["name", 1, 2.5])
    book.active["C2"] = "=SUM(B1:C1)"
    data = io.BytesIO()
    book.save(data)
    read = openpyxl.load_workbook(io.BytesIO(data.getvalue())).active
    return [[cell.value for cell in row] for row in read.iter_rows()]


@package("XlsxWriter")
def xlsxwriter():
    import io
    import zipfile

    import xlsxwriter

    data = io.BytesIO()
    with xlsxwriter.Workbook(data, {"in_memory": True}) as book:
        book.add_worksheet("one").write_row(0, 0, ["a", 1, 2])
    return sorted(zipfile.ZipFile(data).namelist())


@package("et-xmlfile")
def et_xmlfile():
    import io

    from et_xmlfile import xmlfile

    data = io.BytesIO()
    with xmlfile(data) as out, out.element("a", x="1"):
        out.write("text")
    return data.getvalue()


@package()
def tabulate():
    from tabulate import tabulate

    return tabulate([["a", 1.25], ["bb", 22]], headers=["name", "n"], tablefmt="github")


@package()
def prettytable():
    from prettytable import PrettyTable

    table = PrettyTable(["a", "b"])
    table.add_row([1, "x"])
    return str(table)


@package()
def texttable():
    from texttable import Texttable

    table = Texttable()
    table.add_rows([["a", "b"], [1, 2]])
    return table.draw()


@package()
def petl():
    import petl

    table = petl.convert([["a", "b"], ["1", 2], ["3", 4]], "a", int)
    return [list(row) for row in petl.sort(table, "a", reverse=True)]


@package()
def agate():
    import agate

    table = agate.Table([[1, "a"], [3, "b"]], ["n", "t"])
    return str(table.aggregate(agate.Sum("n")))


@package()
def tinydb():
    from tinydb import TinyDB, where
    from tinydb.storages import MemoryStorage

    base = TinyDB(storage=MemoryStorage)
    base.insert_multiple([{"a": 1}, {"a": 2}])
    return base.search(where("a") > 1)


@package("SQLAlchemy")
def sqlalchemy():
    import sqlalchemy as sa
    from sqlalchemy.orm import Session, declarative_base

    base = declarative_base()

    class User(base):
        __tablename__ = "user"
        id = sa.Column(sa.Integer, primary_key=True)
        name = sa.Column(sa.String)

    engine = sa.create_engine("sqlite://")
    base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([User(name="ann"), User(name="bob")])
        session.commit()
        return [user.name for user in session.scalars(sa.select(User).where(User.name > "b"))]


@package()
def peewee():
    from peewee import CharField, Model, SqliteDatabase

    base = SqliteDatabase(":memory:")

    class User(Model):
        name = CharField()

        class Meta:
            database = base

    base.create_tables([User])
    User.create(name="ann")
    return [user.name for user in User.select()]


@package()
def sqlparse():
    import sqlparse

    return [
        sqlparse.format("select a,b from t where x=1", reindent=True, keyword_case="upper"),
        len(sqlparse.split("select 1; select 2")),
    ]


@package()
def sqlglot():
    import sqlglot

    return [
        sqlglot.transpile("SELECT a, IFNULL(b, 0) FROM t LIMIT 3", read="mysql", write="postgres"),
        repr(sqlglot.parse_one("1 + 2").sql()),
    ]


@package()
def marshmallow():
    from marshmallow import Schema, ValidationError, fields

    class User(Schema):
        name = fields.Str(required=True)
        age = fields.Int()

    try:
        User().load({"age": "x"})
    except ValidationError as error:
        return [User().load({"name": "a", "age": "3"}), error.messages]


@package()
def cerberus():
    from cerberus import Validator

    check = Validator({"a": {"type": "integer", "min": 3}})
    return [check.validate({"a": 5}), check.validate({"a": 1}), check.errors]


@package()
def voluptuous():
    from voluptuous import Invalid, Required, Schema

    schema = Schema({Required("a"): int})
    try:
        schema({})
    except Invalid as error:
        return [schema({"a": 1}), str(error)]


@package()
def schema():
    from schema import And, Schema, Use

    return Schema({"a": And(Use(int), lambda n: n > 0)}).validate({"a": "5"})


@package("pydantic", version="<2", reason="2 has a compiled core")
def pydantic():
    from pydantic import BaseModel, ValidationError

    class Order(BaseModel):
        id: int
        items: list[str] = []

    try:
        Order(id="x")
    except ValidationError as error:
        return [Order(id="4", items=["a"]).dict(), [e["loc"] for e in error.errors()]]


@package()
def typeguard():
    from typeguard import TypeCheckError, check_type

    try:
        check_type(["a"], list[int])
    except TypeCheckError as error:
        return [check_type([1], list[int]), str(error)]


@package()
def beartype():
    from beartype import beartype
    from beartype.roar import BeartypeCallHintParamViolation

    @beartype
    def double(x: int) -> int:
        return x * 2

    try:
        double("a")
    except BeartypeCallHintParamViolation:
        return double(2)


@package()
def fastjsonschema():
    import fastjsonschema

    check = fastjsonschema.compile({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
    try:
        check({"a": "x"})
    except fastjsonschema.JsonSchemaException as error:
        return [check({"a": 1}), str(error)]


@package("jsonschema", version="<4.18", reason="from 4.18 on it needs a compiled package")
def jsonschema():
    import jsonschema

    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    try:
        jsonschema.validate({"a": "x"}, schema)
    except jsonschema.ValidationError as error:
        return [list(error.path), error.message]


@package()
def pyrsistent():
    from pyrsistent import pmap, pvector

    values = pvector([1, 2]).append(3)
    return [list(values), sorted(pmap({"a": 1}).set("b", 2).items())]


@package()
def jmespath():
    import jmespath

    return jmespath.search("people[?age > `20`].name", {"people": [{"name": "a", "age": 30}, {"name": "b", "age": 10}]})


@package("jsonpath-ng")
def jsonpath_ng():
    from jsonpath_ng.ext import parse

    return [found.value for found in parse("$.a[?(@.b > 1)].b").find({"a": [{"b": 1}, {"b": 2}]})]


@package()
def jsonpatch():
    import jsonpatch

    return [
        jsonpatch.make_patch({"a": 1}, {"a": 2, "b": 3}).patch,
        jsonpatch.apply_patch({"a": 1}, [{"op": "remove", "path": "/a"}]),
    ]


@package()
def jsonpointer():
    import jsonpointer

    return jsonpointer.resolve_pointer({"a": [{"b": 7}]}, "/a/0/b")


@package()
def dpath():
    import dpath

    return [dpath.get({"a": {"b": 1}}, "a/b"), dpath.search({"a": {"b": 1, "c": 2}}, "a/*")]


@package()
def simplejson():
    from decimal import Decimal

    import simplejson

    return [simplejson.dumps({"a": Decimal("1.10")}, use_decimal=True), simplejson.loads('[1, "x"]')]


@package()
def json5():
    import json5

    return json5.loads("{a: 1, /* c */ b: [1, 2,], c: 'x'}")


@package()
def hjson():
    import hjson

    return dict(hjson.loads("{\n a: 1\n b: text\n}"))


@package()
def xmltodict():
    import xmltodict

    return [xmltodict.parse("<a x='1'><b>t</b></a>"), xmltodict.unparse({"a": {"b": "1"}})]


@package()
def defusedxml():
    from defusedxml import ElementTree, EntitiesForbidden

    try:
        ElementTree.fromstring('<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>')
    except EntitiesForbidden:
        return ElementTree.fromstring("<a><b/></a>")[0].tag


@package()
def untangle():
    import untangle

    return untangle.parse("<a><b x='1'>t</b></a>").a.b["x"]


@package()
def feedparser():
    import feedparser

    feed = feedparser.parse("<rss><channel><title>T</title><item><title>one</title></item></channel></rss>")
    return [feed.feed.title, [entry.title for entry in feed.entries]]


@package()
def protobuf():
    from google.protobuf import struct_pb2, timestamp_pb2

    message = struct_pb2.Struct()
    message.update({"a": [1, "x"]})
    again = struct_pb2.Struct.FromString(message.SerializeToString())
    return [again["a"][1], timestamp_pb2.Timestamp(seconds=5).ToJsonString()]


@package()
def cbor2():
    import cbor2

    return cbor2.loads(cbor2.dumps({"a": [1, 2.5, None, "x"]}))


@package()
def construct():
    from construct import Byte, Int16ub, PrefixedArray, Struct

    form = Struct("n" / Int16ub, "items" / PrefixedArray(Byte, Byte))
    return [form.build({"n": 258, "items": [1, 2]}), list(form.parse(b"\x01\x02\x02\x05\x06")["items"])]


@package()
def kaitaistruct():
    import io

    from kaitaistruct import KaitaiStream

    return KaitaiStream(io.BytesIO(b"\x01\x02\x03\x04")).read_u4be()


@package()
def ecdsa():
    from ecdsa import NIST256p, SigningKey

    key = SigningKey.from_secret_exponent(12345, NIST256p)
    signature = key.sign_deterministic(b"hello")
    return [signature.hex(), key.verifying_key.verify(signature, b"hello")]


@package()
def rsa():
    import rsa

    public, private = rsa.newkeys(256)
    return rsa.decrypt(rsa.encrypt(b"hello", public), private)


@package()
def pyasn1():
    from pyasn1.codec.der import decoder, encoder
    from pyasn1.type import univ

    return [encoder.encode(univ.Integer(300)), int(decoder.decode(b"\x02\x02\x01,")[0])]


@package("pyasn1-modules")
def pyasn1_modules():
    from pyasn1_modules import rfc2459

    return rfc2459.Name().__class__.__name__


@package()
def base58():
    import base58

    return base58.b58decode(base58.b58encode_check(b"hello"))


@package()
def passlib():
    from passlib.hash import pbkdf2_sha256, sha512_crypt

    return [
        pbkdf2_sha256.using(rounds=1000, salt=b"12345678").hash("pw"),
        sha512_crypt.using(rounds=1000, salt="abc").hash("pw"),
    ]


@package("PyJWT")
def pyjwt():
    import jwt

    token = jwt.encode({"a": 1}, "secret-secret-secret-secret-secret", algorithm="HS256")
    return [token, jwt.decode(token, "secret-secret-secret-secret-secret", algorithms=["HS256"])]


@package()
def shortuuid():
    import uuid

    import shortuuid

    return shortuuid.encode(uuid.UUID(int=12345))


@package()
def hashids():
    from hashids import Hashids

    return Hashids(salt="x").encode(1, 2, 3)


@package("python-stdnum")
def stdnum():
    from stdnum import iban, isbn, luhn

    return [
        isbn.validate("978-9024538270"),
        iban.compact("GR16 0110 1050 0000 1054 7023 795"),
        luhn.is_valid("79927398713"),
    ]


@package()
def pycountry():
    import pycountry

    return [pycountry.countries.get(alpha_2="DE").name, len(pycountry.currencies) > 150]


@package()
def phonenumbers():
    import phonenumbers

    number = phonenumbers.parse("+442083661177")
    return [
        phonenumbers.is_valid_number(number),
        phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL),
    ]


@package()
def faker():
    from faker import Faker

    fake = Faker("de_DE")
    fake.seed_instance(4)
    return [fake.name(), fake.address(), fake.iban()]


@package()
def mimesis():
    from mimesis import Person

    return Person(seed=5).full_name()


@package("geographiclib")
def geographiclib():
    from geographiclib.geodesic import Geodesic

    return round(Geodesic.WGS84.Inverse(-41.32, 174.81, 40.96, -5.50)["s12"], 3)


@package()
def geopy():
    from geopy.distance import geodesic

    return round(geodesic((41.49, -71.31), (41.5, -81.7)).km, 6)


@package()
def geojson():
    import geojson

    return geojson.dumps(geojson.Feature(geometry=geojson.Point((1.5, 2.5))), sort_keys=True)


@package()
def transitions():
    from transitions import Machine

    class Lamp:
        pass

    lamp = Lamp()
    Machine(lamp, states=["off", "on"], transitions=[["press", "off", "on"]], initial="off")
    lamp.press()
    return lamp.state


@package()
def textdistance():
    import textdistance

    return [textdistance.levenshtein("kitten", "sitting"), round(textdistance.jaro_winkler("martha", "marhta"), 6)]


@package()
def pulp():
    from pulp import LpMaximize, LpProblem, LpVariable

    problem = LpProblem("p", LpMaximize)
    x, y = LpVariable("x", 0, 4), LpVariable("y", -1, 1)
    problem += x + 4 * y
    problem += x + y <= 5
    return str(problem.objective)
