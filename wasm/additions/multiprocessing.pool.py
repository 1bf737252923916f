# Behind CPython's multiprocessing.pool: a ThreadPool without threads. A task runs when it is submitted, and the items of imap when
# they are asked for, so that an endless iterable works as well.

from concurrent.futures import Future as _Future

from cloche_guest.loop import run_inline as _run_inline


class _InlineTasks:
    """Stands in for the queue of tasks: what is put is done at once."""

    def __init__(self, cache):
        self._cache = cache

    def put(self, batch):
        for job, index, function, arguments, keywords in batch[0]:
            done = _Future()
            _run_inline(done, function, *arguments, **keywords)
            error = done.exception()
            self._cache[job]._set(index, (True, done.result()) if error is None else (False, error))


class _InlineIterator:
    def __init__(self, function, iterable):
        self._function = function
        self._items = iter(iterable)

    def __iter__(self):
        return self

    def __next__(self, timeout=None):
        item = next(self._items)
        done = _Future()
        _run_inline(done, self._function, item)
        return done.result()

    next = __next__


class ThreadPool(Pool):  # noqa: F821  # replaces the one above
    _wrap_exception = False

    @staticmethod
    def Process(ctx, *args, **kwds):  # noqa: N802
        from .dummy import Process

        return Process(*args, **kwds)

    def __init__(self, processes=None, initializer=None, initargs=()):
        self._pool = []
        self._state = INIT  # noqa: F821
        if processes is None:
            processes = os.process_cpu_count() or 1  # noqa: F821
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._processes = processes
        self._pool = [None] * processes
        self._cache = {}
        self._taskqueue = _InlineTasks(self._cache)
        if initializer is not None:
            initializer(*initargs)
        self._state = RUN  # noqa: F821

    def imap(self, func, iterable, chunksize=1):
        self._check_running()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        results = _InlineIterator(func, iterable)
        return results if chunksize == 1 else (item for item in results)

    imap_unordered = imap

    def close(self):
        if self._state == RUN:  # noqa: F821
            self._state = CLOSE  # noqa: F821

    def terminate(self):
        self._state = TERMINATE  # noqa: F821

    def join(self):
        if self._state == RUN:  # noqa: F821
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):  # noqa: F821
            raise ValueError("In unknown state")
