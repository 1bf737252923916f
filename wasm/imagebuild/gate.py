"""The two proofs that the image can be stopped, as the build runs them: on the module, and on what wasmtime makes of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import wasmtime

from imagebuild import compiledcheck, stopcheck
from imagebuild.stages import BuildError


def check_stops(wasm: bytes, spared: list[int]) -> stopcheck.Checked:
    """Whatever the image does, it soon loads from the stop page.

    Raises:
        BuildError: it need not.
    """
    checked = stopcheck.check(wasm, spared)
    if checked.problems:
        called = stopcheck.names(wasm)
        first = [
            f"{called.get(problem.function, problem.function)}: {problem.what}" for problem in checked.problems[:5]
        ]
        raise BuildError(f"{len(checked.problems)} functions cannot be stopped: {'; '.join(first)}")
    return checked


def check_compiled_stops(engine: wasmtime.Engine, wasm: bytes, spared: list[int]) -> tuple[wasmtime.Module, str]:
    """The proof of `check_stops`, and that each of those loads is in the code that wasmtime makes of the image.

    Args:
        engine: a `compiledcheck.engine`.
        wasm: the image.
        spared: the opcodes whose handlers have no load.

    Returns:
        The compiled image, and a line that says what was found.

    Raises:
        BuildError: some loads are missing.
    """
    with ThreadPoolExecutor(1) as pool:  # wasmtime compiles without Python's lock
        compiling = pool.submit(wasmtime.Module, engine, wasm)
        checked = check_stops(wasm, spared)
        module = compiling.result()
    lost = compiledcheck.lost(engine, bytes(module.serialize()), checked)
    if lost:
        called = stopcheck.names(wasm)
        worst = sorted(lost, key=lambda function: -lost[function])[:5]
        named = ", ".join(f"{lost[function]} of {called.get(function, function)}" for function in worst)
        raise BuildError(f"{sum(lost.values())} loads from the stop page are not in compiled code: {named}")
    count = sum(map(len, checked.loads.values()))
    return module, (
        f"{count} loads from the stop page in {len(checked.loads)} functions; {len(checked.unstopped)} opcodes spared\n"
    )
