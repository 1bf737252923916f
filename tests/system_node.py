"""A node that uses what natively stands on the operating system, as far as that needs none: one function for each module.

Run natively and in the sandbox by tests/guest/test_library.py and tests/runtime/test_standard_library.py.
"""

import contextlib
import os
import tempfile


class Checks:
    """process(name) runs that check."""

    def process(self, name):
        assert globals()[name]() is None
        return name


@contextlib.contextmanager
def _folder():
    with tempfile.TemporaryDirectory() as path:
        yield path


def _raises(kind, function, *arguments):
    try:
        function(*arguments)
    except kind as error:
        return error
    raise AssertionError(f"{function} did not raise {kind}")


def check_tempfile():
    with tempfile.NamedTemporaryFile("w+", suffix=".txt") as file:
        file.write("text")
        file.flush()
        with open(file.name) as again:
            assert again.read() == "text"
    with _folder() as path:
        descriptor, name = tempfile.mkstemp(dir=path)
        os.write(descriptor, b"1")
        os.close(descriptor)
        assert os.listdir(path) == [os.path.basename(name)]
    assert not os.path.exists(path)
    with tempfile.SpooledTemporaryFile(max_size=3) as spooled:
        spooled.write(b"longer than three")
        spooled.seek(0)
        assert spooled.read() == b"longer than three"


def check_devices():
    with open(os.devnull, "w") as null:
        assert null.write("gone") == 4
        assert not null.isatty()
    with open("/dev/null", "rb") as null:
        assert null.read() == b""
    with open("/dev/zero", "rb") as zero:
        assert zero.read(5) == bytes(5)
    with open("/dev/urandom", "rb") as source:
        assert len(set(source.read(1000))) > 200
    with open("/dev/full", "wb", 0) as full:
        _raises(OSError, full.write, b"x")
    assert os.path.exists("/dev/null") and not os.path.isfile("/dev/null") and os.path.isdir("/dev")
    assert not os.path.exists("/dev/nothing")


def check_home():
    import getpass
    import pathlib
    import pwd

    home = pathlib.Path.home()
    assert home.is_absolute() and str(home) == os.path.expanduser("~")
    user = pwd.getpwuid(os.getuid())
    assert user.pw_uid == os.getuid() == os.geteuid() and user[2] == user.pw_uid
    assert pwd.getpwnam(user.pw_name) == user and user in pwd.getpwall()
    assert getpass.getuser()
    _raises(KeyError, pwd.getpwnam, "nobody-of-this-name")


def check_os():
    assert os.getgid() == os.getegid() and isinstance(os.getgroups(), list)
    assert os.getppid() != os.getpid() and os.getpgid(0) == os.getpgrp()
    before = os.umask(0o077)
    assert os.umask(before) == 0o077
    assert os.waitstatus_to_exitcode(256) == 1 and os.waitstatus_to_exitcode(9) == -9
    assert os.WIFEXITED(256) and os.WEXITSTATUS(256) == 1 and os.WIFSIGNALED(9) and os.WTERMSIG(9) == 9
    assert (os.major(0x801), os.minor(0x801), os.makedev(8, 1)) == (8, 1, 0x801)
    os.kill(os.getpid(), 0)
    _raises(ProcessLookupError, os.kill, 2**30, 0)
    assert len(os.getrandom(8)) == 8
    assert len(os.sched_getaffinity(0)) >= 1 and os.cpu_count() >= 1
    assert os.get_exec_path() and os.ctermid() == "/dev/tty"
    with _folder() as path:
        name = os.path.join(path, "f")
        fd = os.open(name, os.O_RDWR | os.O_CREAT)
        assert os.writev(fd, [b"ab", b"cd"]) == 4
        first, second = bytearray(3), bytearray(3)
        os.lseek(fd, 0, 0)
        assert os.readv(fd, [first, second]) == 4 and first + second == b"abcd\0\0"
        os.posix_fallocate(fd, 0, 10)
        assert os.fstat(fd).st_size == 10
        os.fchmod(fd, 0o600)
        os.chown(name, os.getuid(), -1)
        os.close(fd)
        assert os.listxattr(name) == []


def check_owner():
    """pytest's tmp_path, among others, trusts a folder of its own user only; archives keep modes, and nobody can read 0."""
    import io
    import pathlib
    import shutil
    import stat
    import tarfile
    import zipfile

    with _folder() as folder:
        path = pathlib.Path(folder, "file")
        path.write_text("x")
        me = (os.getuid(), os.getgid())
        found = [os.stat(path), os.lstat(path), os.stat(folder), path.stat(follow_symlinks=False)]
        found += [entry.stat() for entry in os.scandir(folder)]
        with open(path) as file:
            found.append(os.fstat(file.fileno()))
        assert [(status.st_uid, status.st_gid) for status in found] == [me] * 6
        assert (path.owner(), path.group()) == (_user().pw_name, _group().gr_name)
        shutil.chown(path, me[0], me[1])
        os.chmod(path, 0o600)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        assert stat.filemode(os.stat(path).st_mode) == "-rw-------"
        body = io.BytesIO()
        with tarfile.open(fileobj=body, mode="w") as archive:
            archive.add(path, "file")
        body.seek(0)
        with tarfile.open(fileobj=body) as archive:
            (member,) = archive.getmembers()
        assert (member.uname, member.uid, member.mode) == (_user().pw_name, me[0], 0o600)
        assert zipfile.ZipInfo.from_file(path).external_attr >> 16 == stat.S_IFREG | 0o600


def _user():
    import pwd

    return pwd.getpwuid(os.getuid())


def _group():
    import grp

    return grp.getgrgid(os.getgid())


def check_clocks():
    import resource
    import time

    same = {
        "CLOCK_MONOTONIC": time.monotonic,
        "CLOCK_PROCESS_CPUTIME_ID": time.process_time,
        "CLOCK_REALTIME": time.time,
        "CLOCK_THREAD_CPUTIME_ID": time.thread_time,
    }
    for name, function in same.items():
        clock = getattr(time, name)
        before = function()
        read = time.clock_gettime(clock)
        after = time.clock_gettime_ns(clock)
        assert before <= read <= after / 1e9 + 1e-6, name
        assert 0 < time.clock_getres(clock) <= 1, name
    assert [time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME] == [0, 1, 7]
    for clock in (-99, 99, 2**31 - 1):
        _raises(OSError, time.clock_gettime, clock)
        _raises(OSError, time.clock_getres, clock)
    used = time.process_time()
    assert 0 <= used <= time.process_time()
    times, usage = os.times(), resource.getrusage(resource.RUSAGE_SELF)
    assert 0 <= times.user + times.system <= time.process_time() + 0.1
    assert 0 <= usage.ru_utime + usage.ru_stime <= time.process_time() + 0.1
    assert times.elapsed > 0


def check_signal():
    import signal

    seen = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.raise_signal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before or signal.SIG_DFL)
    assert seen == [signal.SIGUSR1, signal.SIGUSR1]
    assert signal.SIGTERM in signal.valid_signals() and signal.SIGRTMIN > signal.SIGUSR2
    assert signal.alarm(0) == 0 and signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    old = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    assert signal.SIGUSR2 in signal.pthread_sigmask(signal.SIG_SETMASK, old)
    assert signal.sigpending() == set()


def check_socket():
    import socket

    assert socket.inet_pton(socket.AF_INET6, "2001:db8::1")[:4] == b" \x01\r\xb8"
    for text in ("::1", "::", "1:2::", "::ffff:1.2.3.4", "fe80::1", "2001:db8:0:8:800:200c:417a:1"):
        assert socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, text)) == text
    assert [socket.inet_aton(text) for text in ("127.1", "0x7f.1", "017.0.0.1")] == [
        b"\x7f\0\0\1",
        b"\x7f\0\0\1",
        b"\x0f\0\0\1",
    ]
    for text in ("1.2.3", "1.2.3.4.5", "x", "::g"):
        _raises(OSError, socket.inet_pton, socket.AF_INET, text)
        _raises(OSError, socket.inet_pton, socket.AF_INET6, text)
    assert socket.htons(1) == 256 and socket.ntohl(1) == 1 << 24
    _raises(OverflowError, socket.htons, 1 << 16)
    assert socket.AF_INET.name == "AF_INET" and socket.SOCK_STREAM == 1 and socket.SO_KEEPALIVE == 9
    found = socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    assert found == [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]
    assert socket.gethostbyname("127.0.0.1") == "127.0.0.1" and socket.gethostname()
    assert issubclass(socket.gaierror, OSError) and socket.timeout is TimeoutError
    socket.setdefaulttimeout(2.5)
    assert socket.getdefaulttimeout() == 2.5
    socket.setdefaulttimeout(None)


def check_ssl():
    import ssl

    context = ssl.create_default_context()
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
    error = _raises(ValueError, setattr, context, "verify_mode", ssl.CERT_NONE)
    assert "check_hostname" in str(error)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2 and context.protocol is ssl.PROTOCOL_TLS_CLIENT
    context.options |= ssl.OP_NO_COMPRESSION
    context.set_ciphers("ECDHE+AESGCM:!aNULL")
    context.set_alpn_protocols(["h2", "http/1.1"])
    assert {"name", "protocol"} <= set(context.get_ciphers()[0])
    _raises(ssl.SSLError, context.set_ciphers, "no-such-thing")
    _raises(FileNotFoundError, context.load_verify_locations, "/no/such/file.pem")
    assert ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).verify_mode is ssl.CERT_NONE
    buffer = ssl.MemoryBIO()
    assert buffer.write(b"abc") == 3 and buffer.pending == 3 and buffer.read(2) == b"ab" and not buffer.eof
    buffer.write_eof()
    assert buffer.read() == b"c" and buffer.eof
    _raises(ssl.SSLError, buffer.write, b"x")
    assert issubclass(ssl.SSLCertVerificationError, ValueError) and len(ssl.RAND_bytes(4)) == 4
    assert ssl.Purpose.SERVER_AUTH.oid == "1.3.6.1.5.5.7.3.1" and ssl.HAS_SNI and ssl.OPENSSL_VERSION


def check_ctypes():
    import ctypes
    import ctypes.util

    class Point(ctypes.Structure):
        _fields_ = (("x", ctypes.c_int32), ("y", ctypes.c_double), ("flag", ctypes.c_uint8, 3))

    class Both(ctypes.Union):
        _fields_ = (("number", ctypes.c_uint32), ("bytes", ctypes.c_uint8 * 4))

    assert ctypes.c_uint8(300).value == 44 and ctypes.sizeof(ctypes.c_int64) == 8
    assert ctypes.sizeof(Point) == 24 and Point.y.offset == 8
    point = Point(1, 2.5, 9)
    assert (point.x, point.y, point.flag) == (1, 2.5, 1)
    assert Point.from_buffer_copy(bytes(point)).y == 2.5
    assert bytes(Both(0x01020304).bytes) == b"\x04\x03\x02\x01"
    numbers = (ctypes.c_int * 3)(1, 2, 3)
    pointer = ctypes.cast(numbers, ctypes.POINTER(ctypes.c_int))
    pointer[1] = 20
    assert list(numbers) == [1, 20, 3] and pointer.contents.value == 1
    text = ctypes.create_string_buffer(b"abc", 6)
    assert text.raw == b"abc\0\0\0" and text.value == b"abc" and ctypes.string_at(text, 2) == b"ab"
    ctypes.memset(text, 0x78, 2)
    ctypes.memmove(ctypes.addressof(text) + 2, b"yz", 2)
    assert text.value == b"xxyz"
    own = bytearray(8)
    ctypes.c_uint16.from_buffer(own).value = 0x0201
    assert own[:2] == b"\x01\x02"
    add = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double, ctypes.c_int)(lambda a, b: a + b)
    assert add(1.5, 2) == 3.5
    assert ctypes.byref(point) is not None and ctypes.c_char_p(b"q").value == b"q"
    assert ctypes.py_object("o").value == "o" and ctypes.BigEndianStructure
    _raises(OSError, ctypes.CDLL, "libnothing.so.0")
    assert ctypes.util.find_library("a-library-of-no-name") is None


def check_mmap():
    import mmap

    with mmap.mmap(-1, 100) as area:
        area[:5] = b"hello"
        area.seek(2)
        assert area.read(3) == b"llo" and area.find(b"l", 0) == 2 and area.rfind(b"l", 0) == 3 and len(area) == 100
        assert bytes(memoryview(area)[:2]) == b"he"
    with _folder() as path:
        name = os.path.join(path, "f")
        with open(name, "wb") as file:
            file.write(bytes(range(256)) * 40)
        with open(name, "r+b") as file:
            with mmap.mmap(file.fileno(), 0) as area:
                assert area.size() == len(area) == 10240 and area[255] == 255
                area[5000:5003] = b"xyz"
                area.flush()
                os.pwrite(file.fileno(), b"file", 0)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as area:
                assert area[5000:5003] == b"xyz" and area[:4] == b"file"
                _raises(TypeError, area.__setitem__, 0, 1)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as area:
                area[0] = 0
            area = mmap.mmap(file.fileno(), 0)
            view = memoryview(area)
            _raises(BufferError, area.close)
            view.release()
            area.resize(10250)
            area[10240:] = b"0123456789"
            area.close()
            _raises(ValueError, area.read)
        with open(name, "rb") as file:
            body = file.read()
            _raises(PermissionError, mmap.mmap, file.fileno(), 0)
        assert len(body) == 10250 and body[-3:] == b"789" and body[:5] == b"file\x04"


def check_fcntl():
    import fcntl

    with _folder() as path, open(os.path.join(path, "lock"), "w") as file, open(file.name) as other:
        assert fcntl.fcntl(file, fcntl.F_GETFD) == fcntl.FD_CLOEXEC
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _raises(BlockingIOError, fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(file, fcntl.LOCK_UN)
        fcntl.flock(other, fcntl.LOCK_SH)
        fcntl.flock(file, fcntl.LOCK_SH)
        fcntl.flock(file, fcntl.LOCK_UN)
        fcntl.lockf(file, fcntl.LOCK_EX)
        _raises(OSError, fcntl.ioctl, file, 0x5413)


def check_resource():
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    assert used.ru_utime >= 0 and used.ru_maxrss > 1000 and used[0] == used.ru_utime
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    _raises(ValueError, resource.getrlimit, 1000)
    assert resource.getpagesize() >= 4096


def check_terminals():
    import curses
    import curses.ascii
    import pty
    import readline
    import termios
    import tty

    with _folder() as path, open(os.path.join(path, "f"), "w") as file:
        _raises(termios.error, termios.tcgetattr, file)
        _raises(termios.error, tty.setraw, file)
        _raises(OSError, os.get_terminal_size, file.fileno())
    assert curses.KEY_UP == 259 and curses.ascii.isdigit("1") and issubclass(curses.error, Exception)
    assert pty.STDIN_FILENO == 0 and termios.ECHO == 8
    readline.clear_history()
    readline.add_history("one")
    assert readline.get_history_item(1) == "one" and readline.get_current_history_length() == 1
    readline.clear_history()


def check_thread_pool():
    from multiprocessing.dummy import Pool
    from multiprocessing.pool import ThreadPool

    with ThreadPool(2) as pool:
        assert pool.map(abs, [-1, 2, -3]) == [1, 2, 3]
        assert pool.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
        assert list(pool.imap(str, range(3))) == ["0", "1", "2"]
        assert sorted(pool.imap_unordered(str, range(5), chunksize=2)) == list("01234")
        assert pool.apply(divmod, (7, 2)) == (3, 1)
        seen = []
        result = pool.apply_async(int, ("12",), callback=seen.append)
        assert result.get(10) == 12 and result.successful() and seen == [12]
        failed = pool.apply_async(int, ("x",))
        _raises(ValueError, failed.get, 10)
        _raises(ValueError, pool.map, int, ["1", "x"])
        assert pool.map_async(abs, []).get(10) == []
        lazy = pool.imap(int, ["1", "x", "3"])
        assert next(lazy) == 1
        _raises(ValueError, next, lazy)
        assert next(lazy) == 3
    pool = Pool(1)
    assert pool.map(len, ["a", "bc"]) == [1, 2]
    _raises(ValueError, pool.join)
    pool.close()
    pool.join()
    _raises(ValueError, pool.map, len, [])
    _raises(ValueError, ThreadPool, 0)


def check_multiprocessing():
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    assert multiprocessing.cpu_count() >= 1 and multiprocessing.current_process().name == "MainProcess"
    assert multiprocessing.active_children() == [] and "spawn" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("spawn")
    lock = context.Lock()
    with lock:
        assert not lock.acquire(block=False)
    event = context.Event()
    assert not event.is_set()
    event.set()
    assert event.wait(0)
    semaphore = context.BoundedSemaphore(1)
    semaphore.acquire()
    semaphore.release()
    _raises(ValueError, semaphore.release)
    with context.RLock() as held:
        assert held
    number = context.Value("i", 3)
    with number.get_lock():
        number.value += 1
    assert number.value == 4 and list(context.Array("d", [1.0, 2.0], lock=False)) == [1.0, 2.0]
    assert issubclass(BrokenProcessPool, Exception) and ProcessPoolExecutor


def check_dbm():
    import dbm.dumb
    import shelve

    with _folder() as path:
        with dbm.dumb.open(os.path.join(path, "d"), "c") as store:
            store["key"] = b"value"
        with dbm.dumb.open(os.path.join(path, "d")) as store:
            assert store["key"] == b"value" and list(store.keys()) == [b"key"]
        with shelve.open(os.path.join(path, "s")) as shelf:
            shelf["a"] = [1, 2]
        with shelve.open(os.path.join(path, "s")) as shelf:
            assert shelf["a"] == [1, 2]


def check_logging_config():
    import io
    import logging.config

    stream = io.StringIO()
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"plain": {"format": "%(levelname)s %(message)s"}},
            "handlers": {"own": {"class": "logging.StreamHandler", "formatter": "plain", "stream": stream}},
            "loggers": {"configured": {"level": "INFO", "handlers": ["own"], "propagate": False}},
        }
    )
    logging.getLogger("configured").info("said %d", 1)
    assert stream.getvalue() == "INFO said 1\n"


def check_servers():
    import http.server
    import socketserver
    import wsgiref.util
    import wsgiref.validate
    import xmlrpc.client
    import xmlrpc.server

    assert issubclass(http.server.ThreadingHTTPServer, socketserver.ThreadingMixIn)
    assert xmlrpc.client.loads(xmlrpc.client.dumps((1, "a"), "f")) == ((1, "a"), "f")
    dispatcher = xmlrpc.server.SimpleXMLRPCDispatcher()
    dispatcher.register_function(pow)
    assert b"8" in dispatcher._marshaled_dispatch(xmlrpc.client.dumps((2, 3), "pow").encode())
    environ = {}
    wsgiref.util.setup_testing_defaults(environ)
    assert wsgiref.util.request_uri(environ) == "http://127.0.0.1/" and wsgiref.validate.validator


def check_mail():
    import ftplib
    import imaplib
    import mailbox
    import poplib
    import smtplib

    assert smtplib.SMTP().timeout and smtplib.SMTP_PORT == 25 and poplib.POP3_PORT == 110 and ftplib.FTP().port == 21
    assert imaplib.Internaldate2tuple(b'25 (INTERNALDATE "01-Jan-2000 11:30:00 +0000")').tm_year == 2000
    with _folder() as path:
        box = mailbox.mbox(os.path.join(path, "box"))
        box.add("Subject: x\n\nbody")
        box.flush()
        assert len(box) == 1 and next(iter(box))["subject"] == "x"
        box.close()


def check_sqlite():
    import sqlite3

    with contextlib.closing(sqlite3.connect(":memory:")) as base:
        base.execute("create table t (a integer primary key, b text, c blob)")
        with base:
            base.executemany("insert into t (b, c) values (?, ?)", [(str(i), bytes([i])) for i in range(100)])
        assert base.execute("select count(*), sum(a), max(b) from t").fetchone() == (100, 5050, "99")
        _raises(sqlite3.IntegrityError, base.execute, "insert into t (a) values (1)")
        base.create_function("twice", 1, lambda x: 2 * x)
        assert base.execute("select twice(21)").fetchone() == (42,)
        assert base.execute("select json_extract('{\"a\": [1, 2]}', '$.a[1]')").fetchone() == (2,)
        base.execute("create virtual table words using fts5(body)")
        base.execute("insert into words values ('the quick brown fox'), ('a slow dog')")
        assert base.execute("select body from words where words match 'quick'").fetchall() == [("the quick brown fox",)]
        base.execute("create virtual table boxes using rtree(id, a, b)")
        base.commit()
        base.row_factory = sqlite3.Row
        row = base.execute("select a, b from t where a = 7").fetchone()
        assert row["b"] == "6" and row.keys() == ["a", "b"]
        copy = sqlite3.connect(":memory:")
        copy.deserialize(base.serialize())
        assert copy.execute("select count(*) from words").fetchone() == (2,)
        base.backup(copy)
        assert copy.execute("select count(*) from t").fetchone() == (100,)
        assert "CREATE TABLE t" in "\n".join(copy.iterdump()).replace("create table", "CREATE TABLE")
        copy.close()


def check_sqlite_files():
    import sqlite3

    with _folder() as path:
        name = os.path.join(path, "base.db")
        with contextlib.closing(sqlite3.connect(name)) as base:
            base.execute("create table t (a)")
            with base:
                base.executemany("insert into t values (?)", [(i,) for i in range(5000)])
            try:
                with base:
                    base.execute("delete from t")
                    raise KeyError
            except KeyError:
                pass
            assert base.execute("select count(*) from t").fetchone() == (5000,)
        with contextlib.closing(sqlite3.connect(f"file:{name}?mode=ro", uri=True)) as base:
            assert base.execute("select sum(a) from t").fetchone() == (12497500,)
            assert base.execute("pragma integrity_check").fetchone() == ("ok",)
            _raises(sqlite3.OperationalError, base.execute, "delete from t")
        first, second = sqlite3.connect(name, timeout=0), sqlite3.connect(name, timeout=0)
        first.execute("insert into t values (1)")
        error = _raises(sqlite3.OperationalError, second.execute, "insert into t values (2)")
        assert "locked" in str(error) and second.execute("select count(*) from t").fetchone() == (5000,)
        first.rollback()
        second.execute("insert into t values (2)")
        second.rollback()
        first.close()
        second.close()
        assert os.listdir(path) == ["base.db"]
        _raises(sqlite3.OperationalError, sqlite3.connect, os.path.join(path, "no", "such.db"))
        with open(os.path.join(path, "text"), "w") as file:
            file.write("no database" * 100)
        with contextlib.closing(sqlite3.connect(file.name)) as base:
            _raises(sqlite3.DatabaseError, base.execute, "select * from t")


def check_hashlib():
    import hashlib

    key = hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 2)
    assert key.hex() == "ae4d0c95af6b46d32d0adff928f06dd02a303f8ef3c251dfd6e2d85a95474c43"
    assert (
        hashlib.pbkdf2_hmac("sha1", b"password", b"salt", 1, 30).hex()[:40]
        == "0c60c80f961f0e71f3a9b524af6012062fe037a6"
    )
    _raises(ValueError, hashlib.pbkdf2_hmac, "sha1", b"", b"", 0)
    _raises(ValueError, hashlib.pbkdf2_hmac, "no-such-hash", b"", b"", 1)


def check_time():
    import time

    before = time.thread_time(), time.thread_time_ns()
    assert time.thread_time() >= before[0] and time.thread_time_ns() >= before[1]
    assert time.CLOCK_PROCESS_CPUTIME_ID == 2 and time.CLOCK_BOOTTIME == 7


def check_locale():
    import gettext
    import locale

    assert locale.gettext("text") == "text" and locale.dgettext(None, "text") == "text"
    assert gettext.gettext("text") == "text"


def check_small_modules():
    import pydoc
    import select
    import selectors
    import shutil
    import syslog
    import threading
    import venv
    import webbrowser

    assert (
        select.EPOLLIN == 1 and select.PIPE_BUF == 4096 and issubclass(selectors.EpollSelector, selectors.BaseSelector)
    )
    assert syslog.LOG_MASK(3) == 8 and syslog.LOG_UPTO(3) == 15 and syslog.LOG_ERR == 3
    assert threading.get_native_id() and venv.EnvBuilder and webbrowser.Error
    assert shutil.get_terminal_size((1, 2)).lines > 0
    assert "abs" in pydoc.render_doc(abs)
    assert callable(exit) and callable(quit) and "Python" in str(copyright)
