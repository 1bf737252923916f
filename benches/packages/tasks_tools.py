"""Tasks for packages about the web, asynchronous code, tools and tests: what works without a network is what is tried."""

from .task import package


@package()
def requests():
    import requests
    from requests.adapters import BaseAdapter

    class Echo(BaseAdapter):
        def send(self, request, **options):
            answer = requests.Response()
            answer.status_code, answer._content, answer.url = 200, request.body, request.url
            answer.request = request
            return answer

        def close(self):
            pass

    with requests.Session() as session:
        session.mount("echo://", Echo())
        answer = session.post("echo://x/y", json={"a": 1}, params={"q": "1"})
    return [answer.json(), answer.url, answer.ok]


@package("requests-toolbelt")
def requests_toolbelt():
    from requests_toolbelt import MultipartEncoder

    return MultipartEncoder({"a": "1"}, boundary="b").to_string()


@package("requests-oauthlib")
def requests_oauthlib():
    from requests_oauthlib import OAuth2Session

    return OAuth2Session("id", redirect_uri="https://a/cb", state="s").authorization_url("https://b/auth")[0]


@package()
def responses():
    import requests
    import responses

    with responses.RequestsMock() as mock:
        mock.add(responses.GET, "https://a.test/x", json={"a": 1})
        return requests.get("https://a.test/x").json()


@package()
def urllib3():
    import urllib3

    return [
        str(urllib3.util.parse_url("http://u:p@a.de:80/x?y#z")),
        urllib3.Retry(3).total,
        urllib3.PoolManager().connection_pool_kw,
    ]


@package()
def idna():
    import idna

    return [idna.encode("пример.рф"), idna.decode(b"xn--e1afmkfd.xn--p1ai")]


@package()
def certifi():
    import certifi

    return certifi.contents().count("BEGIN CERTIFICATE") > 50


@package()
def httpx():
    import httpx

    def answer(request):
        return httpx.Response(200, json={"path": request.url.path})

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        return client.get("https://a.test/x").json()


@package()
def httpcore():
    import httpcore

    return repr(httpcore.Request("GET", "https://a.test/x"))


@package()
def h11():
    import h11

    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    return connection.next_event().target


@package()
def h2():
    import h2.config
    import h2.connection

    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.initiate_connection()
    return connection.data_to_send()[:24]


@package()
def hpack():
    import hpack

    return [tuple(pair) for pair in hpack.Decoder().decode(hpack.Encoder().encode([(b"a", b"b")]))]


@package()
def wsproto():
    from wsproto import ConnectionType, WSConnection
    from wsproto.events import Request

    return WSConnection(ConnectionType.CLIENT).send(Request("a.test", "/x"))[:15]


@package()
def anyio():
    import anyio

    async def main():
        seen = []
        async with anyio.create_task_group() as group:
            for n in (2, 1):
                group.start_soon(work, seen, n)
        return seen

    async def work(seen, n):
        await anyio.sleep(n / 1000)
        seen.append(n)

    return anyio.run(main)


@package()
def sniffio():
    import asyncio

    import sniffio

    async def main():
        return sniffio.current_async_library()

    return asyncio.run(main())


@package()
def starlette():
    import asyncio

    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def home(request):
        return JSONResponse({"n": request.path_params["n"]})

    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b""}

    scope = {"type": "http", "method": "GET", "path": "/5", "query_string": b"", "headers": [], "root_path": ""}
    asyncio.run(Starlette(routes=[Route("/{n:int}", home)])(scope, receive, send))
    return [sent[0]["status"], sent[1]["body"]]


@package("Werkzeug")
def werkzeug():
    from werkzeug.routing import Map, Rule
    from werkzeug.test import Client
    from werkzeug.wrappers import Response

    routes = Map([Rule("/x/<int:n>", endpoint="x")]).bind("a.test")
    return [routes.match("/x/3"), Client(lambda e, s: Response("hi")(e, s)).get("/").text]


@package("Flask")
def flask():
    from flask import Flask, jsonify

    app = Flask(__name__)

    @app.route("/x/<int:n>")
    def x(n):
        return jsonify(n=n * 2)

    return app.test_client().get("/x/4").get_json()


@package()
def bottle():
    import bottle

    app = bottle.Bottle()
    app.route("/x/<n:int>")(lambda n: {"n": n})
    status = []
    body = app(
        {"REQUEST_METHOD": "GET", "PATH_INFO": "/x/4", "wsgi.errors": None}, lambda s, h, e=None: status.append(s)
    )
    return [status, b"".join(body)]


@package("Django", version="<6", reason="6 needs Python 3.12")
def django():
    import django
    from django.conf import settings
    from django.template import Context, Template

    settings.configure(TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}])
    django.setup()
    return Template("{% for x in xs %}{{ x|add:1 }},{% endfor %}").render(Context({"xs": [1, 2]}))


@package()
def asgiref():
    import asyncio

    from asgiref.sync import async_to_sync

    async def double(x):
        await asyncio.sleep(0)
        return x * 2

    return async_to_sync(double)(4)


@package()
def itsdangerous():
    from itsdangerous import URLSafeSerializer

    signer = URLSafeSerializer("key", salt="s")
    return [signer.dumps([1, "a"]), signer.loads(signer.dumps([1, "a"]))]


@package()
def blinker():
    from blinker import signal

    seen = []
    ready = signal("ready")
    ready.connect(seen.append, weak=False)
    ready.send("a")
    return seen


@package("WebOb")
def webob():
    from webob import Request

    return dict(Request.blank("/x?a=1").params)


@package("uritemplate")
def uritemplate():
    from uritemplate import expand

    return expand("https://a.test{/path*}{?q}", path=["x", "y"], q=1)


@package()
def rfc3986():
    import rfc3986

    return rfc3986.normalize_uri("HTTP://A.test/%7ex/../y")


@package()
def hyperlink():
    import hyperlink

    return hyperlink.parse("http://a.test/x").child("y").set("q", "1").to_text()


@package()
def furl():
    from furl import furl

    return furl("http://a.test/x?a=1").add({"b": "2"}).url


@package()
def yarl():
    from yarl import URL

    return str(URL("http://a.test") / "x" % {"a": "1"})


@package()
def tldextract():
    import tldextract

    found = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)("http://www.a.co.uk/x")
    return [found.subdomain, found.domain, found.suffix]


@package()
def validators():
    import validators

    return [validators.email("a@b.de"), bool(validators.url("nope"))]


@package("email-validator")
def email_validator():
    from email_validator import validate_email

    return validate_email("A.b@Example.com", check_deliverability=False).normalized


@package()
def dnspython():
    import dns.message
    import dns.name

    message = dns.message.make_query("example.com", "A", id=7)
    return [dns.message.from_wire(message.to_wire()).question[0].to_text(), dns.name.from_text("a.b").to_text()]


@package()
def oauthlib():
    from oauthlib.oauth2 import WebApplicationClient

    return WebApplicationClient("id").prepare_request_uri("https://a/auth", scope=["x"], state="s")


@package("google-auth")
def google_auth():
    from google.oauth2.credentials import Credentials

    return Credentials("token", scopes=["x"]).to_json(strip=["expiry"])


@package("googleapis-common-protos")
def googleapis():
    from google.rpc import status_pb2

    return status_pb2.Status(code=3, message="x").SerializeToString()


@package()
def boto3():
    import boto3
    from botocore.stub import Stubber

    client = boto3.client("s3", region_name="eu-central-1", aws_access_key_id="a", aws_secret_access_key="b")
    with Stubber(client) as stub:
        stub.add_response("list_buckets", {"Buckets": [{"Name": "one"}]})
        return [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]


@package()
def botocore():
    import botocore.session

    return "s3" in botocore.session.get_session().get_available_services()


@package()
def s3transfer():
    import s3transfer

    return s3transfer.TransferConfig().multipart_threshold


@package()
def redis():
    import redis

    return repr(redis.Redis(host="a.test").connection_pool.connection_kwargs["host"])


@package()
def pymysql():
    from pymysql.converters import escape_item

    return escape_item("a'b", "utf8")


@package("pg8000")
def pg8000():
    from pg8000.converters import identifier, literal

    return [identifier("a b"), literal("it's")]


@package()
def kombu():
    from kombu import serialization

    return serialization.loads(*(serialization.dumps({"a": 1}, "json")[i] for i in (2, 0, 1)))


@package()
def vine():
    from vine import promise

    done = promise(lambda x: x * 2)
    done(4)
    return done.value


@package()
def amqp():
    import amqp.serialization

    return amqp.serialization.dumps("ss", ["a", "b"])


@package()
def celery():
    from celery import Celery

    app = Celery("x", broker="memory://")
    app.conf.task_always_eager = True

    @app.task
    def add(a, b):
        return a + b

    return add.delay(2, 3).get()


@package("APScheduler")
def apscheduler():
    from datetime import datetime, timezone

    from apscheduler.triggers.cron import CronTrigger

    return (
        CronTrigger(hour=5, timezone="UTC")
        .get_next_fire_time(None, datetime(2024, 5, 6, 7, tzinfo=timezone.utc))
        .isoformat()
    )


@package()
def schedule():
    import schedule

    seen = []
    schedule.every().second.do(seen.append, 1)
    schedule.run_all()
    return seen


@package()
def tenacity():
    from tenacity import retry, stop_after_attempt, wait_none

    tries = []

    @retry(stop=stop_after_attempt(3), wait=wait_none())
    def flaky():
        tries.append(1)
        if len(tries) < 3:
            raise ValueError
        return len(tries)

    return flaky()


@package()
def backoff():
    import backoff

    tries = []

    @backoff.on_exception(backoff.constant, ValueError, interval=0, max_tries=3)
    def flaky():
        tries.append(1)
        if len(tries) < 2:
            raise ValueError
        return len(tries)

    return flaky()


@package()
def aiofiles():
    import asyncio

    import aiofiles.tempfile

    async def main():
        async with aiofiles.tempfile.TemporaryFile("w+") as file:
            await file.write("hello")
            await file.seek(0)
            return await file.read()

    return asyncio.run(main())


@package()
def aiosignal():
    import asyncio

    from aiosignal import Signal

    async def main():
        seen = []

        async def look(x):
            seen.append(x)

        signal = Signal(owner=None)
        signal.append(look)
        signal.freeze()
        await signal.send(5)
        return seen

    return asyncio.run(main())


@package()
def janus():
    import asyncio

    import janus

    async def main():
        queue = janus.Queue()
        queue.sync_q.put(3)
        return await queue.async_q.get()

    return asyncio.run(main())


@package()
def outcome():
    import outcome

    return [outcome.capture(lambda: 3).unwrap(), type(outcome.capture(lambda: 1 / 0)).__name__]


@package()
def trio():
    import trio

    return trio.Event.__name__


@package("typing-extensions")
def typing_extensions():
    from typing_extensions import Literal, TypedDict, get_args

    class Point(TypedDict):
        x: int

    return [get_args(Literal["a", 1]), list(Point.__annotations__)]


@package("mypy-extensions")
def mypy_extensions():
    from mypy_extensions import TypedDict

    return TypedDict.__name__


@package()
def packaging():
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

    return [Version("1.10") > Version("1.9"), "1.5" in SpecifierSet(">=1,<2"), str(Version("1.0RC1"))]


@package()
def setuptools():
    import setuptools

    return sorted(setuptools.find_namespace_packages("/nowhere"))


@package()
def wheel():
    import wheel

    return isinstance(wheel.__version__, str)


@package()
def pip():
    from pip._internal.models.link import Link

    return Link("https://a.test/x-1.0-py3-none-any.whl#sha256=00").filename


@package()
def distlib():
    from distlib.version import NormalizedVersion

    return NormalizedVersion("1.2") < NormalizedVersion("1.10")


@package()
def platformdirs():
    import platformdirs

    return platformdirs.user_cache_dir("x").rpartition("/")[2]


@package()
def appdirs():
    import appdirs

    return appdirs.user_cache_dir("x").rpartition("/")[2]


@package()
def filelock():
    import os
    import tempfile

    from filelock import FileLock, SoftFileLock  # noqa: F401

    with SoftFileLock(os.path.join(tempfile.mkdtemp(), "l")) as lock:
        return lock.is_locked


@package()
def pathspec():
    import pathspec

    return list(
        pathspec.PathSpec.from_lines("gitwildmatch", ["*.pyc", "!keep.pyc"]).match_files(["a.pyc", "keep.pyc", "b.py"])
    )


@package()
def identify():
    from identify import identify

    return sorted(identify.tags_from_filename("x.py"))


@package()
def semver():
    import semver

    return [str(semver.Version.parse("1.2.3").bump_minor()), semver.compare("1.0.0", "2.0.0")]


@package("importlib-metadata")
def importlib_metadata():
    import importlib_metadata

    return isinstance(importlib_metadata.version("importlib-metadata"), str)


@package("importlib-resources")
def importlib_resources():
    import importlib_resources

    return importlib_resources.files("importlib_resources").joinpath("__init__.py").is_file()


@package()
def zipp():
    import io
    import zipfile

    import zipp

    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("a/b.txt", "x")
    return zipp.Path(zipfile.ZipFile(data), "a/").joinpath("b.txt").read_text()


@package()
def pluggy():
    import pluggy

    hook, impl = pluggy.HookspecMarker("x"), pluggy.HookimplMarker("x")

    class Spec:
        @hook
        def add(self, n):
            """Add."""

    class One:
        @impl
        def add(self, n):
            return n + 1

    manager = pluggy.PluginManager("x")
    manager.add_hookspecs(Spec)
    manager.register(One())
    return manager.hook.add(n=1)


@package()
def stevedore():
    from stevedore import ExtensionManager

    return ExtensionManager("nothing.here").names()


@package()
def iniconfig():
    from iniconfig import IniConfig

    return dict(IniConfig("x", data="[a]\nb = 1\n")["a"].items())


@package()
def pytest():
    import os
    import tempfile

    import pytest

    folder = tempfile.mkdtemp()
    with open(os.path.join(folder, "test_x.py"), "w") as file:
        file.write("import pytest\n@pytest.mark.parametrize('n', [1, 2])\ndef test_a(n, tmp_path): assert n < 3\n")
    return int(pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:faulthandler", "--capture=sys", folder]))


@package()
def hypothesis():
    from hypothesis import given, settings
    from hypothesis import strategies as st

    seen = []

    @settings(max_examples=20, database=None, deadline=None)
    @given(st.lists(st.integers()))
    def check(values):
        seen.append(1)
        assert sorted(values) == sorted(values)

    check()
    return len(seen) > 5


@package()
def mock():
    import mock

    value = mock.Mock(return_value=3)
    value(1)
    return value.call_args[0]


@package()
def freezegun():
    import datetime

    from freezegun import freeze_time

    with freeze_time("2024-05-06"):
        return datetime.datetime.now().isoformat()


@package()
def parameterized():
    from parameterized import parameterized

    return [list(case) for case in parameterized.input_as_callable([(1, 2)])()]


@package()
def coverage():
    import coverage

    return coverage.CoverageData(no_disk=True).measured_files()


@package()
def black():
    import black

    return black.format_str("def f( a,b ):\n  return {'x':a}\n", mode=black.Mode())


@package()
def isort():
    import isort

    return isort.code("import sys\nimport os\n")


@package()
def autopep8():
    import autopep8

    return autopep8.fix_code("x=1\nif x==1 : y = 2\n")


@package()
def pycodestyle():
    import pycodestyle

    checker = pycodestyle.Checker("x.py", lines=["x=1\n"], quiet=2)
    return checker.check_all()


@package()
def pyflakes():
    import ast

    from pyflakes.checker import Checker

    return [type(message).__name__ for message in Checker(ast.parse("import os\nx = y\n")).messages]


@package()
def mccabe():
    import ast

    from mccabe import PathGraphingAstVisitor

    visitor = PathGraphingAstVisitor()
    visitor.preorder(ast.parse("def f(x):\n    if x: return 1\n    return 2\n"), visitor)
    return [graph.complexity() for graph in visitor.graphs.values()]


@package()
def astroid():
    import astroid

    return [found.value for found in astroid.extract_node("x = 1 + 2\nx #@").infer()]


@package()
def yapf():
    from yapf.yapflib.yapf_api import FormatCode

    return FormatCode("x = {  'a':1 }\n")[0]


@package()
def radon():
    from radon.complexity import cc_visit

    return [block.complexity for block in cc_visit("def f(x):\n    return 1 if x else 2\n")]


@package()
def vulture():
    from vulture import Vulture

    found = Vulture()
    found.scan("def unused(): pass\n")
    return [item.name for item in found.get_unused_code()]


@package("docstring-parser")
def docstring_parser():
    from docstring_parser import parse

    return [p.arg_name for p in parse("Do.\n\nArgs:\n    a: x\n    b: y\n").params]


@package()
def decorator():
    import inspect

    from decorator import decorator

    @decorator
    def twice(f, *a, **k):
        return f(*a, **k) * 2

    @twice
    def add(a, b=1):
        return a + b

    return [add(1), str(inspect.signature(add))]


@package()
def wrapt():
    import wrapt

    @wrapt.decorator
    def twice(wrapped, instance, args, kwargs):
        return wrapped(*args, **kwargs) * 2

    return twice(lambda x: x)(4)


@package()
def deprecated():
    import warnings

    from deprecated import deprecated

    @deprecated(version="1", reason="old")
    def f():
        return 1

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        f()
    return str(seen[0].message)


@package()
def deprecation():
    import deprecation

    return str(deprecation.DeprecatedWarning("f", "1", "2", "x"))


@package()
def loguru():
    import io

    from loguru import logger

    out = io.StringIO()
    logger.remove()
    logger.add(out, format="{level} {message}")
    logger.info("hi {}", 3)
    return out.getvalue()


@package()
def structlog():
    import structlog

    logger = structlog.wrap_logger(
        structlog.ReturnLogger(), processors=[structlog.processors.KeyValueRenderer(sort_keys=True)]
    )
    return logger.bind(a=1).info("hi", b=2)


@package("python-json-logger")
def json_logger():
    import io
    import logging

    from pythonjsonlogger.json import JsonFormatter

    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonFormatter("%(message)s"))
    logger = logging.getLogger("x")
    logger.setLevel("INFO")
    logger.addHandler(handler)
    logger.info("hi", extra={"n": 1})
    return out.getvalue()


@package()
def colorlog():
    import logging

    import colorlog

    return colorlog.ColoredFormatter("%(log_color)s%(message)s").format(
        logging.LogRecord("x", 20, "", 1, "hi", (), None)
    )


@package()
def icecream():
    from icecream import ic

    ic.configureOutput(outputFunction=lambda s: None)
    return ic(3)


@package()
def traitlets():
    from traitlets import HasTraits, Int, TraitError

    class Box(HasTraits):
        n = Int(3)

    try:
        Box(n="x")
    except TraitError:
        return Box(n=4).n


@package("lazy-loader")
def lazy_loader():
    import lazy_loader

    return lazy_loader.load("json").dumps([1])


@package()
def dulwich():
    from dulwich.objects import Blob

    return Blob.from_string(b"hello").id


@package()
def smmap():
    import smmap

    return smmap.SlidingWindowMapManager().window_size() > 0


@package("pexpect")
def pexpect():
    import pexpect

    return sorted(["EOF", "TIMEOUT"]) == sorted(name for name in ("EOF", "TIMEOUT") if hasattr(pexpect, name))


@package("ptyprocess")
def ptyprocess():
    import ptyprocess

    return ptyprocess.PtyProcess.__name__


@package()
def plumbum():
    from plumbum.cli import Application

    class App(Application):
        def main(self, name):
            print(name)

    return App.run(["app", "x"], exit=False)[1]


@package("nest-asyncio")
def nest_asyncio():
    import asyncio

    import nest_asyncio

    nest_asyncio.apply()

    async def main():
        return 3

    return asyncio.get_event_loop_policy().__class__.__name__ != "" and asyncio.run(main())


@package("trove-classifiers")
def trove_classifiers():
    from trove_classifiers import classifiers

    return "Programming Language :: Python :: 3" in classifiers


@package("pyproject-hooks")
def pyproject_hooks():
    import pyproject_hooks

    return pyproject_hooks.BuildBackendHookCaller.__name__


@package()
def hatchling():
    from hatchling.metadata.core import ProjectMetadata

    return ProjectMetadata.__name__


@package("graphviz")
def graphviz():
    import graphviz

    dot = graphviz.Digraph()
    dot.edge("a", "b")
    return dot.source


@package()
def pydot():
    import pydot

    return [graph.get_name() for graph in pydot.graph_from_dot_data("digraph G { a -> b }")]


@package("graphql-core")
def graphql():
    from graphql import build_schema, graphql_sync

    return graphql_sync(build_schema("type Query { a: Int }"), "{ a }", {"a": 5}).data


@package()
def graphene():
    import graphene

    class Query(graphene.ObjectType):
        a = graphene.Int()

        def resolve_a(self, info):
            return 5

    return graphene.Schema(query=Query).execute("{ a }").data


@package("opentelemetry-api")
def opentelemetry_api():
    from opentelemetry import trace

    with trace.get_tracer("x").start_as_current_span("y") as span:
        return span.is_recording()


@package("prometheus-client")
def prometheus_client():
    from prometheus_client import CollectorRegistry, Counter, generate_latest

    registry = CollectorRegistry()
    Counter("calls", "Calls", registry=registry).inc(3)
    return [line for line in generate_latest(registry).decode().splitlines() if line.startswith("calls_total")]


@package("sentry-sdk")
def sentry_sdk():
    import sentry_sdk

    sent = []
    sentry_sdk.init(
        transport=type("T", (sentry_sdk.transport.Transport,), {"capture_envelope": lambda self, e: sent.append(e)}),
        default_integrations=False,
    )
    sentry_sdk.capture_message("hi")
    return len(sent)
