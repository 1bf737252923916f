"""Tasks for packages about text: markup, parsers, templates, languages, terminals."""

from .task import package


@package()
def beautifulsoup4():
    from bs4 import BeautifulSoup

    page = BeautifulSoup("<p>a <b class='x'>bold</b><a href='/1'>l</a></p>", "html.parser")
    return [page.find("b", class_="x").text, [link["href"] for link in page.select("p > a")], page.prettify()]


@package()
def html5lib():
    import html5lib

    tree = html5lib.parse("<p>one<p>two", namespaceHTMLElements=False)
    return [p.text for p in tree.iter("p")]


@package()
def webencodings():
    import webencodings

    return webencodings.decode(b"\xe9", "latin1")[0]


@package()
def bleach():
    import bleach

    return [bleach.clean("<script>x</script><b>ok</b>"), bleach.linkify("see example.com")]


@package("Markdown")
def markdown():
    import markdown

    return markdown.markdown("# T\n\n| a | b |\n|---|---|\n| 1 | 2 |\n", extensions=["tables", "toc"])


@package()
def mistune():
    import mistune

    return mistune.html("**b** `c`\n\n- x\n- y\n")


@package("markdown-it-py")
def markdown_it():
    from markdown_it import MarkdownIt

    return MarkdownIt().enable("table").render("*a*\n\n|x|\n|-|\n|1|\n")


@package()
def mdurl():
    import mdurl

    return [mdurl.encode("a b/ü"), mdurl.parse("http://a.de/b?c").hostname]


@package()
def commonmark():
    import commonmark

    return commonmark.commonmark("> q\n\n1. a\n2. b\n")


@package()
def docutils():
    from docutils.core import publish_string

    return publish_string("Title\n=====\n\n* a\n* b\n", writer_name="pseudoxml").decode()


@package("Jinja2")
def jinja2():
    import jinja2

    return (
        jinja2.Environment(autoescape=True)
        .from_string("{% for x in xs %}{{ loop.index }}:{{ x|upper }} {% endfor %}")
        .render(xs=["a", "<b>"])
    )


@package("MarkupSafe")
def markupsafe():
    from markupsafe import Markup, escape

    return [str(escape("<a & 'b'>")), str(Markup("<b>%s</b>") % "<x>")]


@package("Mako")
def mako():
    from mako.template import Template

    return Template("% for x in xs:\n${x}\n% endfor\n").render(xs=[1, 2])


@package()
def chevron():
    import chevron

    return chevron.render("{{#xs}}<{{.}}>{{/xs}}", {"xs": [1, 2]})


@package()
def pystache():
    import pystache

    return pystache.render("Hi {{name}}", {"name": "<a>"})


@package("PyYAML")
def pyyaml():
    import yaml

    return [yaml.safe_load("a: [1, 2.5, {b: null}]\nc: |\n  text\n"), yaml.safe_dump({"x": [1, "y"]})]


@package("ruamel.yaml")
def ruamel_yaml():
    import io

    from ruamel.yaml import YAML

    yaml, out = YAML(pure=True), io.StringIO()
    data = yaml.load("# c\na: 1  # one\nb: [x]\n")
    data["a"] = 2
    yaml.dump(data, out)
    return out.getvalue()


@package()
def strictyaml():
    from strictyaml import Int, Map, load

    return load("a: 5\n", Map({"a": Int()})).data


@package()
def toml():
    import toml

    return [toml.loads('a = 1\n[b]\nc = ["x"]\n'), toml.dumps({"a": 1})]


@package()
def tomli():
    import tomli

    return tomli.loads("a = 1\nd = 2024-01-02\n")


@package("tomli-w")
def tomli_w():
    import tomli_w

    return tomli_w.dumps({"a": [1, 2], "b": {"c": "x"}})


@package()
def tomlkit():
    import tomlkit

    document = tomlkit.parse("# c\n[a]\nb = 1\n")
    document["a"]["b"] = 2
    return tomlkit.dumps(document)


@package()
def configobj():
    from configobj import ConfigObj

    return ConfigObj(["a = 1", "[b]", "c = x, y"]).dict()


@package("python-dotenv")
def dotenv():
    import io

    import dotenv

    return dict(dotenv.dotenv_values(stream=io.StringIO("A=1\nB='x ${A}'\n")))


@package()
def environs():
    import os

    from environs import Env

    os.environ["CLOCHE_LIST"] = "1,2"
    return Env().list("CLOCHE_LIST", subcast=int)


@package()
def omegaconf():
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.create({"a": 1, "b": "${a}"}), resolve=True)


@package("antlr4-python3-runtime")
def antlr4():
    from antlr4 import InputStream

    return InputStream("abc").getText(0, 1)


@package()
def pyparsing():
    import pyparsing as pp

    number = pp.Word(pp.nums).set_parse_action(lambda t: int(t[0]))
    grammar = pp.infix_notation(number, [("*", 2, pp.OpAssoc.LEFT), ("+", 2, pp.OpAssoc.LEFT)])
    return grammar.parse_string("1+2*3").as_list()


@package()
def lark():
    from lark import Lark

    tree = Lark('start: (WORD ","?)+\n%import common.WORD\n%ignore " "', parser="lalr").parse("a, b c")
    return [str(token) for token in tree.children]


@package()
def ply():
    import ply.lex

    return ply.lex.__version__


@package()
def textx():
    from textx import metamodel_from_str

    model = metamodel_from_str("M: items+=I; I: 'item' name=ID;").model_from_str("item a item b")
    return [item.name for item in model.items]


@package()
def pycparser():
    from pycparser import c_generator, c_parser

    return c_generator.CGenerator().visit(c_parser.CParser().parse("int f(int a) { return a ? 1 : 2; }"))


@package()
def parso():
    import parso

    module = parso.parse("def f(x):\n    return x +\n")
    return [module.children[0].name.value, len(list(parso.load_grammar().iter_errors(module)))]


@package()
def jedi():
    import jedi

    return [name.name for name in jedi.Script("import json\njson.lo").complete(2, 7)]


@package()
def asttokens():
    import asttokens

    tokens = asttokens.ASTTokens("a = [1, 2]", parse=True)
    return tokens.get_text(tokens.tree.body[0].value)


@package()
def executing():
    import executing

    return executing.only([5])


@package()
def pygments():
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name

    return highlight("def f(): return 'x'\n", get_lexer_by_name("python"), HtmlFormatter())


@package()
def rich():
    import io

    from rich.console import Console
    from rich.table import Table

    table = Table("a", "b", title="T")
    table.add_row("1", "[bold]x[/bold]")
    console = Console(file=io.StringIO(), width=40, force_terminal=False)
    console.print(table)
    return console.file.getvalue()


@package()
def colorama():
    import colorama

    return colorama.Fore.RED + "x" + colorama.Style.RESET_ALL


@package()
def termcolor():
    import termcolor

    return termcolor.colored("x", "red", force_color=True)


@package()
def tqdm():
    import io

    from tqdm import tqdm

    out = io.StringIO()
    return [sum(tqdm(range(10), file=out)), "10/10" in out.getvalue()]


@package()
def wcwidth():
    from wcwidth import wcswidth

    return [wcswidth("コンニチハ"), wcswidth("abc")]


@package("prompt-toolkit")
def prompt_toolkit():
    from prompt_toolkit.formatted_text import HTML, to_formatted_text

    return [tuple(part) for part in to_formatted_text(HTML("<b>x</b>y"))]


@package()
def click():
    import click
    from click.testing import CliRunner

    @click.command()
    @click.option("--n", default=1)
    @click.argument("name")
    def hello(n, name):
        click.echo(f"hi {name} " * n)

    return [CliRunner().invoke(hello, ["--n", "2", "a"]).output, CliRunner().invoke(hello, ["--x"]).exit_code]


@package()
def typer():
    import typer
    from typer.testing import CliRunner

    app = typer.Typer()

    @app.command()
    def hello(name: str, n: int = 1):
        typer.echo(name * n)

    return CliRunner().invoke(app, ["a", "--n", "3"]).output


@package()
def docopt():
    from docopt import docopt

    return dict(docopt("Usage: x [--n=<n>] <name>", ["--n=3", "a"]))


@package()
def fire():
    import fire

    return fire.Fire({"add": lambda a, b: a + b}, command=["add", "1", "2"])


@package()
def argcomplete():
    import argcomplete

    return sorted(argcomplete.split_line("prog --x val")[2])


@package()
def plac():
    import plac

    return plac.call(lambda a, b="x": [a, b], ["1"])


@package()
def invoke():
    from invoke import Collection, task

    @task
    def build(c):
        """Build."""

    return sorted(Collection(build).task_names)


@package()
def inflect():
    import inflect

    engine = inflect.engine()
    return [engine.plural("child"), engine.number_to_words(1234), engine.a("hour")]


@package()
def inflection():
    import inflection

    return [inflection.camelize("device_type"), inflection.pluralize("person"), inflection.underscore("DeviceType")]


@package("python-slugify")
def slugify():
    from slugify import slugify

    return slugify("Größe & Maß — 影師嗎")


@package("text-unidecode")
def text_unidecode():
    from text_unidecode import unidecode

    return unidecode("北京 Žluťoučký")


@package("Unidecode")
def unidecode():
    from unidecode import unidecode

    return unidecode("北京 Žluťoučký")


@package()
def ftfy():
    import ftfy

    return ftfy.fix_text("schÃ¶n â€” l&rsquo;Ã©tÃ©")


@package()
def chardet():
    import chardet

    return chardet.detect("Größenänderung für alle Übungen".encode("latin-1"))["encoding"]


@package("charset-normalizer")
def charset_normalizer():
    from charset_normalizer import from_bytes

    return str(from_bytes("Größenänderung für alle".encode()).best())


@package()
def emoji():
    import emoji

    return [emoji.emojize("ok :thumbs_up:"), emoji.demojize("👍"), emoji.emoji_count("a👍b👍")]


@package()
def num2words():
    from num2words import num2words

    return [num2words(42, lang="fr"), num2words(3, to="ordinal")]


@package()
def roman():
    import roman

    return [roman.toRoman(1994), roman.fromRoman("MCMXCIV")]


@package()
def snowballstemmer():
    import snowballstemmer

    return snowballstemmer.stemmer("english").stemWords(["running", "flies"])


@package()
def pyphen():
    import pyphen

    return pyphen.Pyphen(lang="de_DE").inserted("Donaudampfschiff")


@package("babel")
def babel():
    from datetime import date

    from babel.dates import format_date
    from babel.numbers import format_currency

    return [format_date(date(2024, 5, 6), "long", locale="de"), format_currency(1234.5, "EUR", locale="fr")]


@package()
def polib():
    import polib

    return [entry.msgstr for entry in polib.pofile('msgid "a"\nmsgstr "b"\n')]


@package()
def pypdf():
    import io

    from pypdf import PdfReader, PdfWriter

    writer, out = PdfWriter(), io.BytesIO()
    writer.add_blank_page(200, 100)
    writer.add_metadata({"/Title": "T"})
    writer.write(out)
    reader = PdfReader(io.BytesIO(out.getvalue()))
    return [len(reader.pages), reader.metadata.title, [float(side) for side in reader.pages[0].mediabox]]


@package()
def pyqrcode():
    import pyqrcode

    return pyqrcode.create("hello").text()


@package()
def segno():
    import segno

    return segno.make("hello", error="m").designator


@package()
def qrcode():
    import qrcode

    code = qrcode.QRCode()
    code.add_data("hello")
    code.make()
    return len(code.get_matrix())


@package("python-barcode")
def barcode():
    import barcode

    return barcode.get("ean13", "590123412345").get_fullcode()


@package()
def svgwrite():
    import svgwrite

    return svgwrite.Drawing(size=(10, 10)).tostring()


@package()
def cssselect():
    from cssselect import HTMLTranslator

    return HTMLTranslator().css_to_xpath("div.content > a[href]")


@package()
def tinycss2():
    import tinycss2

    return [rule.type for rule in tinycss2.parse_stylesheet("a { b: c } @media x {}", skip_whitespace=True)]


@package("cssutils")
def cssutils():
    import cssutils

    return cssutils.parseString("a { color: red }").cssText


@package()
def ansi2html():
    from ansi2html import Ansi2HTMLConverter

    return Ansi2HTMLConverter().convert("\x1b[31mred", full=False)


@package()
def pyfiglet():
    import pyfiglet

    return pyfiglet.figlet_format("Hi")


@package()
def bibtexparser():
    import bibtexparser

    return [field.value for field in bibtexparser.parse_string("@book{a, title={T}, year=2024}").entries[0].fields]


@package()
def icalendar():
    from icalendar import Calendar

    return str(
        Calendar.from_ical("BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nSUMMARY:x\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n").walk(
            "VEVENT"
        )[0]["SUMMARY"]
    )


@package()
def vobject():
    import vobject

    return vobject.readOne("BEGIN:VCARD\nVERSION:3.0\nFN:A B\nN:B;A;;;\nEND:VCARD\n").fn.value


@package()
def pysrt():
    import pysrt

    return [item.text for item in pysrt.from_string("1\n00:00:01,000 --> 00:00:02,000\nhi\n")]
