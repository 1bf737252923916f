"""What nodes do to `logging`, and the records that the host is to get then: each record once, with its level, logger and extra fields.

Each program runs in a node that has ``logging``, ``sys``, ``io``, ``warnings`` and the logger ``log``, named "L".
"""

from __future__ import annotations

LIST_HANDLER = "class Keep(logging.Handler):\n def __init__(self):\n  super().__init__()\n  self.got = []\n def emit(self, record): self.got.append(record.getMessage())\nkeep = Keep()\n"
SAY = "\nlog.warning('a %s', 1, extra={'k': 2})"
SAID = [("warning", "L", "a 1", {"k": 2})]

SETUPS: dict[str, tuple[str, list[tuple[str, str, str, dict[str, int] | None]]]] = {
    "basicConfig": (f"logging.basicConfig(){SAY}", SAID),
    "basicConfig twice": (f"logging.basicConfig(force=True)\nlogging.basicConfig(force=True){SAY}", SAID),
    "basicConfig to stdout": (f"logging.basicConfig(stream=sys.stdout, force=True){SAY}", SAID),
    "basicConfig of a level": ("logging.basicConfig(level=logging.ERROR, force=True)\nlog.warning('a')\nlog.error('b')", [("error", "L", "b", None)]),
    "level below the host's": ("logging.basicConfig(level=1, force=True)\nlog.debug('a')\nlog.info('b')", [("info", "L", "b", None)]),
    "shutdown": (f"logging.shutdown(){SAY}", SAID),
    "shutdown after basicConfig": (f"logging.basicConfig(force=True)\nlogging.shutdown(){SAY}", SAID),
    "no handlers": (f"logging.root.handlers.clear(){SAY}", SAID),
    "handlers removed": (f"for h in logging.root.handlers[:]: logging.root.removeHandler(h){SAY}", SAID),
    "handlers replaced": (f"logging.root.handlers = [logging.NullHandler()]{SAY}", SAID),
    "dictConfig": (
        "import logging.config\nlogging.config.dictConfig({'version': 1, 'disable_existing_loggers': False, 'formatters': {'f': {'format': '%(levelname)s %(message)s'}},"
        "'handlers': {'c': {'class': 'logging.StreamHandler', 'formatter': 'f', 'stream': 'ext://sys.stdout'}}, 'root': {'level': 'INFO', 'handlers': ['c']}})" + SAY, SAID),
    "dictConfig that disables": (
        "import logging.config\nlogging.config.dictConfig({'version': 1, 'root': {'level': 'INFO'}})\nlog.error('gone')\nlogging.getLogger('new').error('b')\nwarnings.warn('c')",
        [("error", "new", "b", None), ("warning", "py.warnings", "UserWarning: c", {"category": "UserWarning", "file": "<string>", "line": 5})]),  # type: ignore[dict-item]
    "fileConfig": (
        "import logging.config, configparser\np = configparser.RawConfigParser()\np.read_string('[loggers]\\nkeys=root\\n[handlers]\\nkeys=h\\n[formatters]\\nkeys=f\\n"
        "[logger_root]\\nlevel=INFO\\nhandlers=h\\n[handler_h]\\nclass=StreamHandler\\nargs=(sys.stderr,)\\nformatter=f\\n[formatter_f]\\nformat=%(message)s\\n')\n"
        "logging.config.fileConfig(p, disable_existing_loggers=False)" + SAY, SAID),
    "own StreamHandler": (f"log.addHandler(logging.StreamHandler()){SAY}", SAID),
    "two StreamHandlers": (f"log.addHandler(logging.StreamHandler())\nlogging.root.addHandler(logging.StreamHandler(sys.stdout)){SAY}", SAID),
    "own StreamHandler, not propagated": (f"log.propagate = False\nlog.addHandler(logging.StreamHandler(sys.stdout)){SAY}", SAID),
    "not propagated": (f"log.propagate = False{SAY}", SAID),
    "own handler, not propagated": (f"{LIST_HANDLER}log.propagate = False\nlog.addHandler(keep){SAY}\nassert keep.got == ['a 1']", SAID),
    "switched off": (f"log.propagate = False\nlog.addHandler(logging.NullHandler()){SAY}", []),
    "library's NullHandler": (f"log.addHandler(logging.NullHandler()){SAY}", SAID),
    "disabled logger": (f"log.disabled = True{SAY}", []),
    "disable": (f"logging.disable(logging.WARNING){SAY}\nlog.error('b')", [("error", "L", "b", None)]),
    "nothing disabled": ("logging.disable(logging.NOTSET)\nlog.debug('a')\nlog.info('b')", [("info", "L", "b", None)]),
    "own level": ("log.setLevel(logging.ERROR)\nlog.warning('a')\nlog.error('b')", [("error", "L", "b", None)]),
    "own handler below the host's level": (f"{LIST_HANDLER}log.setLevel(1)\nlog.addHandler(keep)\nlog.debug('a')\nlog.info('b')\nassert keep.got == ['a', 'b']", [("info", "L", "b", None)]),
    "handler's level": (f"{LIST_HANDLER}keep.setLevel(logging.ERROR)\nlog.addHandler(keep)\nlog.info('a')\nassert keep.got == []", [("info", "L", "a", None)]),
    "formatter with a traceback": (
        "logging.basicConfig(format='%(asctime)s %(message)s', force=True)\ntry: 1 / 0\nexcept ZeroDivisionError: log.exception('a')", [("error", "L", "a", None)]),
    "several lines": ("logging.basicConfig(force=True)\nlog.info('a\\nb')", [("info", "L", "a\nb", None)]),
    "empty message": ("logging.basicConfig(format='%(message)s', force=True)\nlog.info('')", [("info", "L", "", None)]),
    "handler that prints the record": (
        f"class P(logging.Handler):\n def emit(self, record): print('>', self.format(record))\nlog.addHandler(P()){SAY}", SAID),
    "handler that prints without a line end": (
        f"class P(logging.Handler):\n def emit(self, record): print(self.format(record), end='')\nlog.addHandler(P()){SAY}", SAID),
    "handler that says something else": (
        f"class P(logging.Handler):\n def emit(self, record): print('alert')\nlog.addHandler(P()){SAY}", [*SAID, ("info", "stdout", "alert", None)]),
    "StreamHandler with colours": (
        f"class C(logging.StreamHandler):\n def emit(self, record): self.stream.write(chr(27) + '[1m' + self.format(record) + chr(27) + '[0m' + self.terminator)\nlog.addHandler(C()){SAY}", SAID),
    "StreamHandler to memory, printed later": (
        f"s = io.StringIO()\nlog.addHandler(logging.StreamHandler(s)){SAY}\nprint(s.getvalue(), end='')", [*SAID, ("info", "stdout", "a 1", None)]),
    "MemoryHandler": (
        f"import logging.handlers\nh = logging.handlers.MemoryHandler(9, target=logging.StreamHandler())\nlog.addHandler(h){SAY}\nh.flush()", SAID),
    "QueueHandler": (
        f"import logging.handlers, queue\nq = queue.Queue()\nlog.addHandler(logging.handlers.QueueHandler(q)){SAY}\nlogging.StreamHandler().handle(q.get())", SAID),
    "record that never was at a logger": (
        "logging.StreamHandler().handle(logging.makeLogRecord({'msg': 'a', 'levelno': 40}))", [("warning", "stderr", "a", None)]),
    "setLoggerClass": (
        "class Mine(logging.Logger):\n def loud(self, text): self.error(text + '!')\nlogging.setLoggerClass(Mine)\nlogging.getLogger('mine').loud('b')", [("error", "mine", "b!", None)]),
    "setLogRecordFactory": (
        f"old = logging.getLogRecordFactory()\ndef made(*a, **k):\n r = old(*a, **k)\n r.run = 7\n return r\nlogging.setLogRecordFactory(made){SAY}", [("warning", "L", "a 1", {"run": 7, "k": 2})]),
    "filter": (f"def only(r):\n r.seen = 1\n return r.levelno >= 40\nlog.addFilter(only){SAY}\nlog.error('b')", [("error", "L", "b", {"seen": 1})]),
    "LoggerAdapter": ("logging.LoggerAdapter(log, {'k': 3}).info('a')", [("info", "L", "a", {"k": 3})]),
    "captureWarnings": ("logging.captureWarnings(True)\nwarnings.warn('old')", None),  # type: ignore[dict-item]  # the text has a path: see the test
    "captureWarnings and back": (
        "logging.captureWarnings(True)\nlogging.captureWarnings(False)\nwarnings.warn('a')", [("warning", "py.warnings", "UserWarning: a", {"category": "UserWarning", "file": "<string>", "line": 3})]),  # type: ignore[dict-item]
    "log level by name": ("logging.basicConfig(level='WARNING', force=True)\nlog.info('a')\nlog.warning('b')", [("warning", "L", "b", None)]),
    "odd extra keys": ("logging.basicConfig(force=True)\nlog.info('a', extra={1: 2, (3,): 4})", [("info", "L", "a", {"1": 2, "(3,)": 4})]),
    "stderr directly": ("sys.stderr.write('| INFO | a\\n')", [("warning", "stderr", "| INFO | a", None)]),
    "stdout in another encoding": ("sys.stdout = io.TextIOWrapper(sys.stdout.detach(), 'utf-8', line_buffering=True)\nprint('ä')\nlogging.basicConfig(stream=sys.stdout, force=True)" + SAY, None),  # type: ignore[dict-item]  # see the test
}  # fmt: skip
