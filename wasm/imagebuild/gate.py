"""The two proofs that the image can be stopped, as the build runs them: on the module, and on what wasmtime makes of it."""

from __future__ import annotations

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


def check_compiled_stops(wasm: bytes, spared: list[int]) -> str:
    """Each load from the stop page is in the code that wasmtime makes of the image; a line that says so.

    Raises:
        BuildError: some are not.
    """
    checked = check_stops(wasm, spared)
    engine = compiledcheck.engine()
    lost = compiledcheck.lost(engine, bytes(wasmtime.Module(engine, wasm).serialize()), checked)
    if lost:
        called = stopcheck.names(wasm)
        worst = sorted(lost, key=lambda function: -lost[function])[:5]
        named = ", ".join(f"{lost[function]} of {called.get(function, function)}" for function in worst)
        raise BuildError(f"{sum(lost.values())} loads from the stop page are not in compiled code: {named}")
    count = sum(map(len, checked.loads.values()))
    return (
        f"{count} loads from the stop page in {len(checked.loads)} functions; {len(checked.unstopped)} opcodes spared\n"
    )
