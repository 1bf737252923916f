"""What can be done about a module that a node cannot import: advice for the host, in one or two sentences.

Each text is true of the image that comes with this version. The advice can be shown to the author of a node: it says what is
granted, and nothing of what else the host has.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cloche.source import Modules, Source
    from cloche_wire import Failure

__all__ = ["Surroundings", "for_failure", "for_module", "is_compiled"]

PYTHON: Final = "3.13"
"""The version of Python in the image."""
_HOST: Final = (
    "Do that part on the host: pass its result to process(), or offer a function of yours with Grants(services=...)."
)
_FETCH: Final = (
    "Let the host fetch, and pass the data to process(), or offer a function of yours with Grants(services=...)."
)


def _words(table: Mapping[str, str]) -> dict[str, str]:
    return {word: text for words, text in table.items() for word in words.split()}


_REMOVED: Final = _words({
    "formatter parser symbol": "3.10",
    "binhex": "3.11",
    "asynchat asyncore distutils imp smtpd": "3.12",
    """aifc audioop cgi cgitb chunk crypt imghdr lib2to3 mailcap msilib nis nntplib ossaudiodev pipes sndhdr spwd sunau
    telnetlib uu xdrlib""": "3.13",
})  # fmt: skip
_SUCCESSORS: Final = {
    "asynchat": "asyncio", "asyncore": "asyncio", "audioop": "numpy", "cgi": "urllib.parse, email and html",
    "crypt": "hashlib", "distutils": "sysconfig, shutil and packaging", "imp": "importlib", "lib2to3": "ast",
    "mailcap": "mimetypes", "parser": "ast", "pipes": "shlex", "symbol": "ast", "uu": "binascii.a2b_uu and b2a_uu",
    "xdrlib": "struct",
}  # fmt: skip
_REDISTRIBUTED: Final = frozenset(
    "aifc asynchat asyncore cgi cgitb chunk imghdr mailcap nntplib pipes smtpd sndhdr sunau telnetlib uu xdrlib".split()
)
"""Removed modules of which PyPI has a copy in pure Python, ``standard-<name>``."""
_NEW: Final = {
    "annotationlib": "3.14",
    "compression": "3.14",
    "string.templatelib": "3.14",
    "concurrent.interpreters": "3.14",
}
_PYTHON_2: Final = {
    "ConfigParser": "configparser", "Cookie": "http.cookies", "HTMLParser": "html.parser", "Queue": "queue",
    "SocketServer": "socketserver", "StringIO": "io", "Tkinter": "tkinter", "UserDict": "collections",
    "__builtin__": "builtins", "anydbm": "dbm", "cPickle": "pickle", "cStringIO": "io", "commands": "subprocess",
    "cookielib": "http.cookiejar", "copy_reg": "copyreg", "dummy_thread": "_thread", "htmlentitydefs": "html.entities",
    "httplib": "http.client", "md5": "hashlib", "sets": "set", "sha": "hashlib", "thread": "_thread",
    "urllib2": "urllib.request", "urlparse": "urllib.parse", "xmlrpclib": "xmlrpc.client",
}  # fmt: skip
_WINDOWS: Final = frozenset("_overlapped _winapi _winreg _wmi msvcrt nt win32api win32con winreg winsound".split())
_STANDARD: Final = _words({
    "tkinter turtle turtledemo idlelib": "The sandbox has no window.",
    "ensurepip": "Nothing can be installed in the sandbox; packages are granted, with Grants(packages=[...]).",
    "pydoc_data": "It has the texts of help() on words of the language.",
    "test": "The tests of the standard library are not in the image.",
})  # fmt: skip
"""What the image leaves out of Python's own library -> why."""
_COMPILED: Final = _words({
    "scipy sklearn skimage statsmodels bottleneck numexpr": "Compute with numpy",
    "numba": "Leave its decorators out, and compute with numpy",
    "pandas polars pyarrow duckdb fastparquet": "Pass columns as lists or numpy arrays",
    "PIL cv2 imageio_ffmpeg av pyvips": "Decode on the host, and pass pixels as a numpy array",
    "soundfile soxr samplerate pyaudio sounddevice webrtcvad pyworld pedalboard":
        "Decode on the host, and pass samples as a numpy array",
    "torchaudio": "Pass features or samples as numpy arrays",
    "lxml": "Use xml.etree.ElementTree or html.parser",
    "orjson ujson rapidjson simdjson": "Use json",
    "regex re2": "Use re",
    "cryptography Crypto nacl bcrypt argon2": "Use hashlib, hmac and secrets, if they do",
    "zstandard lz4 snappy brotli blosc": "Use zlib, bz2 or lzma",
    "pydantic pydantic_core": "Use dataclasses, or a release of pydantic before 2.0, which is pure Python",
    "rapidfuzz Levenshtein jellyfish": "Use difflib",
    "uvloop": "Leave it out: asyncio has a loop of its own",
    """torch torchvision tensorflow tflite_runtime jaxlib onnx onnxruntime xgboost lightgbm catboost openvino triton paddle
    mxnet tokenizers sentencepiece tiktoken spacy thinc blis fasttext faiss annoy hnswlib gensim ctranslate2 llama_cpp
    matplotlib contourpy kiwisolver h5py tables netCDF4 shapely pyproj fiona rasterio osgeo psycopg2 MySQLdb pymssql pyodbc
    cx_Oracle oracledb asyncpg grpc gevent greenlet zmq psutil cffi _cffi_backend pycares cairo gi wx PyQt5 PyQt6 PySide2
    PySide6 pygame fitz pikepdf rpds mmh3 xxhash blake3 igraph pysam rdkit cupy numcodecs dlib mediapipe ray""": "",
})  # fmt: skip
"""Packages of which no version runs without its compiled code -> what else there is."""
_ON_COMPILED: Final = frozenset(
    "flax jax keras librosa resampy transformers whisper face_recognition zarr seaborn torchmetrics".split()
)
"""Packages in pure Python that import compiled ones."""
_NETWORK: Final = frozenset(
    """aiohttp anthropic azure boto3 botocore google.cloud httpx kafka openai paramiko pika pymongo redis requests selenium
    socks twisted urllib3 websocket websockets""".split()
)
_PROJECTS: Final = {
    "Crypto": "pycryptodome", "MySQLdb": "mysqlclient", "OpenSSL": "pyOpenSSL", "PIL": "Pillow", "attr": "attrs",
    "bs4": "beautifulsoup4", "cv2": "opencv-python", "dateutil": "python-dateutil", "docx": "python-docx",
    "dotenv": "python-dotenv", "git": "GitPython", "jose": "python-jose", "jwt": "PyJWT", "magic": "python-magic",
    "multipart": "python-multipart", "nacl": "PyNaCl", "pkg_resources": "setuptools", "pptx": "python-pptx",
    "serial": "pyserial", "skimage": "scikit-image", "sklearn": "scikit-learn", "slugify": "python-slugify",
    "usb": "pyusb", "websocket": "websocket-client", "yaml": "PyYAML", "zmq": "pyzmq",
}  # fmt: skip
"""Import name -> the project's name on PyPI, where they differ."""
_NUMPY: Final = {
    "numpy.distutils": "it is not in numpy for Python 3.12 and newer either",
    "numpy.linalg.lapack_lite": "numpy.linalg has the public functions",
}
_MOVED: Final = {
    **{("collections", name): "collections.abc" for name in (
        "Callable Container Generator Hashable Iterable Iterator ItemsView KeysView Mapping MappingView MutableMapping "
        "MutableSequence MutableSet Sequence Set Sized ValuesView"
    ).split()},
    ("fractions", "gcd"): "math", ("cgi", "escape"): "html", ("inspect", "getargspec"): "inspect, as getfullargspec",
    ("time", "clock"): "time, as perf_counter", ("asyncio", "coroutine"): "the language, as async def",
    ("os", "errno"): "the module errno", ("string", "maketrans"): "str, as str.maketrans", ("itertools", "izip"): "zip",
    ("itertools", "imap"): "map",
}  # fmt: skip
_NO_MODULE: Final = re.compile(r"No module named '?([\w.]+)'?(; '[\w.]+' is not a package)?")
_NO_NAME: Final = re.compile(r"cannot import name '(\w+)' from '([\w.]+)'")
_FILE_ERRORS: Final = frozenset(("FileNotFoundError", "NotADirectoryError", "PermissionError"))
_CLOSE: Final = 0.8
_MOST_LETTERS: Final = 60
_MOST_ALIKE: Final = 30
_MOST_BYTES: Final = 16 << 20
_MAX_NAMES: Final = 5000


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a node was loaded with, by names of modules.

    Attributes:
        main: the node's main module; "" if it is not known.
        own: the node's own modules.
        granted: name of a granted package -> the modules in it.
        single: whether the node is one module, not a package folder.
        file: the node's file or folder on the host; "" for source text.
    """

    main: str = ""
    own: frozenset[str] = frozenset()
    granted: Mapping[str, frozenset[str]] = field(default_factory=dict, hash=False)
    single: bool = False
    file: str = ""

    @classmethod
    def of(
        cls, source: Source | str | os.PathLike[str], modules: Modules, archives: Mapping[str, bytes]
    ) -> Surroundings:
        """The surroundings of a node.

        Args:
            source: what was given to `Runtime.load`.
            modules: the code that was read from there.
            archives: the granted packages: name -> content of a wheel, a zip or a tree.
        """
        single = not any(package for _, _, package in modules.files.values())
        granted = {name: _modules_in(content) for name, content in archives.items()}
        file = os.fspath(source) if isinstance(source, (str, os.PathLike)) and modules.files else ""
        return cls(modules.main, frozenset(modules.files), granted, single, file)

    def has_beside(self, name: str) -> bool:
        """Whether a module of that name lies in the folder of the node's file."""
        if not self.file or not name.isidentifier():
            return False
        folder = Path(self.file).parent
        return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()


_UNKNOWN: Final = Surroundings()
_OPTION: Final = re.compile(r"unexpected keyword argument '(deadline_s|on_log)'")
"""What CPython says if an option of `Node.with_options` is given to ``process``."""


def _names_in_zip(archive: bytes) -> list[str]:
    import io
    import zipfile

    if len(archive) > _MOST_BYTES:  # it may list very many files
        return []
    try:
        return zipfile.ZipFile(io.BytesIO(archive)).namelist()
    except zipfile.BadZipFile:
        return []


def _modules_in(archive: bytes) -> frozenset[str]:
    from cloche_wire import tree  # all three are rarely needed

    try:
        names = list(tree.files(archive)) if tree.is_tree(archive) else _names_in_zip(archive)
    except ValueError:
        return frozenset()
    return frozenset(islice(tree.modules(names), _MAX_NAMES))


def is_compiled(module: str) -> bool:
    """Whether a module belongs to a package that is known to be compiled code."""
    return module.partition(".")[0] in _COMPILED


def for_failure(failure: Failure, around: Surroundings = _UNKNOWN) -> str:
    """What the caller can do about a node that failed; "" if there is no advice.

    Args:
        failure: what failed: loading, or a call.
        around: what the node was loaded with.
    """
    link: Failure | None = failure
    while link is not None:  # packages often raise an ImportError of their own from the one that matters
        if link.exc_type in ("ModuleNotFoundError", "ImportError") and (found := _for_import(link.message, around)):
            return found
        link = link.cause if failure.exc_type in ("ModuleNotFoundError", "ImportError") else None
    if failure.exc_type in ("SyntaxError", "IndentationError", "TabError") and failure.phase in ("compile", "import"):
        where = f" in {failure.frames[-1].file}" if failure.phase == "import" and failure.frames else ""
        return f"The source{where} has to be valid Python {PYTHON}, which the sandbox runs."
    if failure.exc_type in _FILE_ERRORS and failure.message.startswith("[Errno"):
        return (
            "Of the host's files a node sees only the folders of Grants(mounts=...). Data of its own package comes along if the "
            "source is the package's folder, and importlib.resources reads it."
        )
    if failure.exc_type == "TypeError" and failure.phase == "call" and (match := _OPTION.search(failure.message)):
        return f"Keyword arguments are the node's own. For an option of the call: node.with_options({match[1]}=...)."
    if failure.phase == "init" and (notes := _about_params(failure.notes)):
        return f"Check `params`: {'; '.join(notes)}."
    return ""


def _about_params(notes: Iterable[str]) -> list[str]:
    """The notes that `cloche_guest.entry` adds if the parameters do not fit; none if the TypeError has another reason."""
    found = [note for note in notes if "is not a parameter" in note or note.startswith("parameters: ")]
    return found if any(note.startswith("parameters: ") for note in found) else []


def _for_import(message: str, around: Surroundings) -> str:
    if match := _NO_MODULE.match(message):
        if match[2] and match[1].partition(".")[0] in around.own:
            return _own(match[1], around)
        return for_module(match[1], around)
    if match := _NO_NAME.match(message):
        if place := _MOVED.get((match[2], match[1])):
            return f"In Python {PYTHON} it is not in {match[2]}: its place is {place}."
        if match[2].partition(".")[0] == "numpy" and "circular" not in message:
            return "The sandbox has numpy 2, which removed some names of numpy 1: its migration guide lists them."
        return ""
    if "is a compiled extension" in message:
        return (
            "The sandbox cannot run compiled code. Grant a pure-Python version of the package, whose wheel ends in "
            f"-none-any.whl, if there is one. If not: d{_HOST[1:]}"
        )
    if message.startswith("attempted relative import with no known parent package"):
        return (
            "The node was loaded as a single module. Load the folder of its package, with an __init__.py, instead of the "
            "file: then its modules come along."
        )
    if message.startswith("attempted relative import beyond top-level package"):
        return f"The import leads out of the folder that was loaded ({around.main or 'the package'}): load the folder above."
    return ""


def for_module(name: str, around: Surroundings = _UNKNOWN) -> str:
    """What can be done about a module that could not be found.

    Args:
        name: the module's full name.
        around: what the node was loaded with.
    """
    top = name.partition(".")[0]
    if top in around.own or (around.main and top == around.main.partition(".")[0]):
        return _own(name, around)
    for package, modules in around.granted.items():
        if any(module == top or module.startswith(f"{top}.") for module in modules):
            return f"The granted package {package} has no module {name}{_meant(name, modules)}: is it another version?"
    inside = next((module for module in sorted(around.own) if module.endswith(f".{name}")), None)
    if inside is not None:
        return f"The node's package has {inside}: write `import {inside}`, or import it relatively."
    if around.single and around.has_beside(top):
        return (
            f"A module {top} lies beside the node's file, but a single file is loaded alone: put an __init__.py into their "
            "folder, load the folder, and import the module as part of that package."
        )
    return _standard(name) or _third_party(name, top, around)


def _own(name: str, around: Surroundings) -> str:
    if around.single:
        return (
            f"{name.partition('.')[0]} is the node's own module, a single file. For more modules load the folder of its "
            "package, with an __init__.py."
        )
    meant = _meant(name, around.own)
    return f"The node's package has no module {name}{meant}. Its modules are the .py files below the folder that is loaded."


def _standard(name: str) -> str:
    """Advice for a module of some version of Python's own library; "" for any other."""
    top = name.partition(".")[0]
    plain = top.removeprefix("_")
    if plain in _REMOVED:
        use = f" Use {_SUCCESSORS[plain]} instead." if plain in _SUCCESSORS else ""
        copy = f" PyPI has a copy that can be granted: standard-{plain}." if plain in _REDISTRIBUTED else ""
        return f"{plain} was removed from Python in {_REMOVED[plain]}, and the sandbox runs {PYTHON}.{use}{copy}"
    for new, version in _NEW.items():
        if name == new or name.startswith(f"{new}."):
            return f"{new} is new in Python {version}, and the sandbox runs {PYTHON}."
    if top in _PYTHON_2:
        return f"{top} is a name of Python 2, and the sandbox runs {PYTHON}. Use {_PYTHON_2[top]}."
    if top in _WINDOWS:
        return f"{top} is there on Windows only."
    if top == "pip":
        return "Nothing can be installed in the sandbox. Packages are granted, with Grants(packages=[...])."
    if top == "numpy":
        part = next((part for part in _NUMPY if name == part or name.startswith(f"{part}.")), None)
        return (
            f"The sandbox has numpy, but not {part}: {_NUMPY[part]}." if part else f"The sandbox's numpy has no {name}."
        )
    if plain in _STANDARD:
        return f"{name} is in Python's standard library, but not in the sandbox. {_STANDARD[plain]}"
    if top not in sys.stdlib_module_names or (top.startswith("_") and name == top):
        return ""
    parent, _, last = name.rpartition(".")
    if parent:
        return f"{parent} of Python {PYTHON}, which the sandbox runs, has no module {last}."
    return f"{top} is not in the standard library of Python {PYTHON}, which the sandbox runs."


def _third_party(name: str, top: str, around: Surroundings) -> str:
    if top in _COMPILED or top in _ON_COMPILED:
        what = "is compiled code" if top in _COMPILED else "needs compiled packages"
        use = f"{hint}. Or d{_HOST[1:]}" if (hint := _COMPILED.get(top)) else _HOST
        shown = f"{top} ({_PROJECTS[top]})" if top in _PROJECTS else top
        return f"{shown} {what}, which the sandbox cannot run. {use}"
    if top not in _NETWORK and top not in _PROJECTS and (close := _close(top, _known(around))):
        return f"There is no {top} in the sandbox. Did you mean {close}?"
    if top.startswith("_"):
        return f"{top} is a private part of another module or package, often compiled code, and not in the sandbox. {_HOST}"
    network = f" The sandbox has no network, though. {_FETCH}" if top in _NETWORK or name in _NETWORK else ""
    project = _PROJECTS.get(top, top.replace("_", "-"))
    return (
        "The sandbox has the standard library, numpy and cloudpickle. A module of the node's own package comes along if the "
        "source is its folder. Other packages have to be granted, if they are pure Python: "
        f"`pip download --no-deps --only-binary=:all: {project}`, then Grants(packages=[the wheel]), with those that it needs."
        f"{network}"
    )


def _known(around: Surroundings) -> Iterator[str]:
    """Names of which an unknown one may be a misspelling."""
    yield from (name for name in sys.stdlib_module_names if not name.startswith("_"))
    yield from ("numpy", *_COMPILED, *_ON_COMPILED, *_NETWORK, *_PROJECTS, *around.own)
    for modules in around.granted.values():
        yield from {module.partition(".")[0] for module in modules}


def _close(name: str, names: Iterable[str]) -> str | None:
    """The name that may have been meant. A stranger chooses the names, so only a few that are nearly alike are compared."""
    import difflib  # rarely needed

    if len(name) > _MOST_LETTERS:
        return None
    letters = set(name)
    alike = (one for one in names if abs(len(one) - len(name)) <= 2 and one != name and len(letters ^ set(one)) <= 2)
    found = difflib.get_close_matches(name, islice(alike, _MOST_ALIKE), n=1, cutoff=_CLOSE)
    return found[0] if found else None


def _meant(name: str, names: Iterable[str]) -> str:
    close = _close(name, names)
    return f" (did you mean {close}?)" if close else ""
