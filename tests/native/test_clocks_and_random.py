"""The core's virtual clocks and seeded random words are those that their definitions in Python give, at the borders of 64 bits, too."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from pathlib import Path

import pytest

from cloche._wasm.core import Word

from . import build
from .test_core import OPTIONS

MAX = (1 << 63) - 1
REAL, MOVING, STANDING = range(3)


@pytest.fixture(scope="module")
def program() -> Path:
    try:
        return build.program("address,undefined")
    except build.Unavailable as reason:
        pytest.skip(str(reason))


def results(program: Path, *arguments: str) -> tuple[list[int], list[int]]:
    """What scripts return when words are set meanwhile, and the last values of SLEPT, STEPPED and DRAWN."""
    done = subprocess.run(
        [str(program), "print", *arguments], env={**os.environ, **OPTIONS}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    return [int(line) for line in lines], [int(number) for number in last.split()]


class Time:
    """Clocks that stand still, or advance by sleeping and by being read; numbers without bounds, bounded at the end."""

    def __init__(self, start: int, slept: int, stepped: int, step: int) -> None:
        self.start, self.slept, self.stepped = start, slept, stepped
        self.step, self.moving = max(0, step), step >= 0

    def read(self, clock: int) -> int:
        steps = self.stepped
        self.stepped += self.step
        base = {0: self.start + self.slept, 1: 10**9 + self.slept}.get(clock, 0)
        return min(MAX, base + steps)

    def sleep(self, nanoseconds: int) -> None:
        if self.moving:
            self.slept = min(MAX, self.slept + max(0, nanoseconds))


BORDERS = (0, 1, 10**9, MAX // 2, MAX - 10**9, MAX - 1, MAX)


@pytest.mark.parametrize("step", [-1, 0, 1, 1000, 10**9])
def test_virtual_clocks(program: Path, step: int) -> None:
    """Every clock, with starts and sleeps up to 2^63, read in any order."""
    source = random.Random(step)
    arguments: list[str] = []
    expected: list[int] = []
    time = Time(0, 0, 0, step)
    for _ in range(60):
        start, slept, stepped = (source.choice(BORDERS) for _ in range(3))
        time = Time(start, slept, stepped, step)
        words = {Word.CLOCK_MODE: MOVING if step >= 0 else STANDING, Word.CLOCK_STEP: max(0, step)}
        words |= {Word.CLOCK_START: start, Word.CLOCK_SLEPT: slept, Word.CLOCK_STEPPED: stepped}
        arguments += [f"{int(word)}={value}" for word, value in words.items()]
        for _ in range(6):
            if source.random() < 0.3:
                nanoseconds = source.choice([-(1 << 63), -1, *BORDERS])
                arguments.append(f"s{nanoseconds}")
                time.sleep(nanoseconds)
                expected.append(0)
            else:
                clock = source.choice([0, 1, 2, 3])
                arguments.append(f"c{clock}")
                expected.append(time.read(clock))
    found, state = results(program, *arguments)
    assert found == expected
    assert state[:2] == [time.slept, min(MAX, time.stepped)]


def words_of(key: bytes, first: int, count: int) -> list[int]:
    """Word i is bytes [8i, 8i + 8) of the blocks blake2b(key, counter as 16 bytes), 64 bytes each, as a signed number."""
    found = []
    for index in range(first, first + count):
        block = hashlib.blake2b((index // 8).to_bytes(16, "little"), digest_size=64, key=key).digest()
        found.append(int.from_bytes(block[8 * (index % 8) :][:8], "little", signed=True))
    return found


def seeded(key: bytes, drawn: int) -> list[str]:
    numbers = [int.from_bytes(key[8 * index :][:8], "little") for index in range(4)]
    keys = [f"{Word.KEY + index}={number}" for index, number in enumerate(numbers)]
    return [f"{int(Word.SEEDED)}=1", f"{int(Word.DRAWN)}={drawn}", *keys]


@pytest.mark.parametrize("drawn", [0, 1, 7, 8, 13, (1 << 63) - 9], ids=str)
def test_seeded_words(program: Path, drawn: int) -> None:
    """Wherever in the stream a guest begins."""
    key = os.urandom(32)
    found, state = results(program, *seeded(key, drawn), *["r"] * 40)
    assert found == words_of(key, drawn, 40)
    assert state[2] == drawn + 40


def test_a_guest_that_is_used_again_draws_nothing_of_its_last_key(program: Path) -> None:
    """A pool gives a guest another key, another place in the stream, or the system's words, in the middle of a block."""
    one, other = os.urandom(32), os.urandom(32)
    arguments = [*seeded(one, 0), *"rrr", *seeded(other, 5), *"rr", *seeded(one, 2), "r", *seeded(one, 11), "r"]
    found, _ = results(program, *arguments)
    assert found == words_of(one, 0, 3) + words_of(other, 5, 2) + words_of(one, 2, 1) + words_of(one, 11, 1)
    system = [f"{int(Word.SEEDED)}=0"]
    found, _ = results(program, *seeded(one, 0), *"rrr", *system, *"rrrrrrrrr", *seeded(other, 6), *"rr")
    assert not set(found[3:12]) & set(words_of(one, 0, 24))
    assert len(set(found[3:12])) == 9
    assert found[12:] == words_of(other, 6, 2)
