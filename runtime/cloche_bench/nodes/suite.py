"""Runs a program of the pyperformance suite, given as text. A stand-in for pyperf collects what the program wants to time."""

import argparse
import sys
import time
import types


class Runner:
    """Stands for pyperf.Runner, as far as the programs use it: it keeps the functions that a program wants to time."""

    registered = []

    def __init__(self, *_args, **_options):
        self.argparser = argparse.ArgumentParser()
        self.metadata = {}
        self.args = argparse.Namespace()

    def parse_args(self, _args=None):
        self.args = self.argparser.parse_args([])
        return self.args

    def bench_func(self, name, function, *args, **_options):
        def run(loops):
            for _ in range(loops):
                result = function(*args)
            return result

        self.registered.append((name, run))

    def bench_time_func(self, name, function, *args, **_options):
        def run(loops):
            function(loops, *args)

        self.registered.append((name, run))


class Program:
    """The benchmarks of one program; `process` runs each of them once."""

    def __init__(self, source, filename):
        stub = types.ModuleType("pyperf")
        stub.Runner = Runner
        stub.perf_counter = time.perf_counter
        stub.python_implementation = lambda: "cpython"
        main = types.ModuleType("__main__")
        main.__file__ = filename
        Runner.registered = []
        saved = {name: sys.modules.get(name) for name in ("pyperf", "__main__")}
        sys.modules.update(pyperf=stub, __main__=main)
        try:
            exec(compile(source, filename, "exec"), main.__dict__)
        finally:
            for name, module in saved.items():
                if module is None:
                    del sys.modules[name]
                else:
                    sys.modules[name] = module
        self.benchmarks = Runner.registered

    def process(self, loops):
        results = {}
        for name, run in self.benchmarks:
            value = run(loops)
            results[name] = value if isinstance(value, (int, float, str, bool)) else type(value).__name__
        return results
