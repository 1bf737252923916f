"""Throws frames at the four decoders: the guest's, the validator, the host's, and the one for log records.

    python -m tests.codec.fuzz --frames 10000000

Frames are valid ones with faults, and structured nonsense. A decoder may refuse with its own exception or answer; the
validator and the decoders have to agree; nothing may crash, hang, or use memory out of proportion. The
native code is built with AddressSanitizer and UndefinedBehaviorSanitizer, where the compiler has them; ``--plain``: without the first.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import resource
import signal
import sys
import time
from typing import Any

import cbor2
from cbor2 import CBORTag

from cloche import Limits, ProtocolError
from cloche._codec.codec import REFUSED, Codec, decode_record
from cloche_wire import tags

from . import frames
from .native import build
from .strategies import same

HANG_S = 30
MAX_NODES = 10_000
DEPTH = 16
NODES = 1_000_000
OWN_TAGS = [2, 3, 37, 40, 43000, 258, 1040, *range(64, 88), *range(tags.OWN_FIRST, tags.OWN_LAST + 1)]
OTHER_TAGS = [0, 1, 4, 5, 21, 24, 25, 28, 29, 30, 32, 35, 36, 52, 54, 100, 256, 260, 1004, 55799, 2**32, 2**64 - 1]
LENGTHS = [0, 1, 23, 24, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1]
TEXTS = [
    "",
    "a",
    "C",
    "F",
    "<f4",
    "|b1",
    "|O",
    "<M8[ns]",
    "2020-02-30",
    "2020-01-01T00:00:00+01:00",
    "UTC",
    "Europe/Berlin",
    "1e9999999",
    "NaN",
    "x" * 300,
    "\u20ac",
]


class Source:
    """Endless frames from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        table = [*frames.MALFORMED.values(), *frames.REFUSED.values(), *frames.REFUSED_BY_HOST.values()]
        self.corpus = [frame for frame in table if len(frame) < 4096]
        self.corpus += [frame for frame, _ in frames.ACCEPTED.values()]

    def value(self, depth: int = 4) -> Any:
        """A value for cbor2 that is half of the time one of the protocol."""
        r = self.random
        kind = r.randrange(14 if depth else 6)
        if kind == 0:
            return r.choice([None, True, False, 0.0, -0.0, 1e300, float("nan")])
        if kind == 1:
            return r.choice([-1, 1]) * r.getrandbits(r.choice([1, 5, 8, 16, 33, 64, 70, 200]))
        if kind in (2, 3):
            return r.choice(TEXTS)
        if kind in (4, 5):
            return r.randbytes(r.choice([0, 1, 2, 4, 8, 16, 24]))
        if kind in (6, 7):
            return [self.value(depth - 1) for _ in range(r.randrange(5))]
        if kind == 8:
            return {r.choice(["a", "b", "kind", "\u20ac"]): self.value(depth - 1) for _ in range(r.randrange(4))}
        if kind == 9:
            return {r.choice([1, 2.5, None, b"k", "k"]): self.value(depth - 1)}
        if kind == 10:
            return CBORTag(r.choice(OTHER_TAGS), self.value(depth - 1))
        return self.tagged(depth - 1)

    def tagged(self, depth: int) -> CBORTag:
        """A tag of the protocol, mostly with content of the right shape."""
        r = self.random
        tag = r.choice(OWN_TAGS)
        if r.random() < 0.2:
            return CBORTag(tag, self.value(depth))
        items = [self.value(max(0, depth - 1)) for _ in range(r.randrange(5))]
        dims = [r.choice([0, 1, 2, 3, 2**31, 2**62]) for _ in range(r.randrange(4))]
        body: Any = r.randbytes(r.choice([0, 1, 4, 8, 16, 48]))
        if r.random() < 0.2:
            body = CBORTag(tags.BODY_AT, [r.choice(LENGTHS), r.choice(LENGTHS)])
        dtype = r.choice(
            [
                "|b1",
                "<f4",
                "<c16",
                "<U1",
                "|S3",
                "|V2",
                "<M8[us]",
                "|O",
                [4, [["a", 0, "<f4", []], ["b", 0, "|b1", [2]]]],
            ]
        )
        typed = CBORTag(r.randrange(64, 88), body)
        content: Any = {
            2: body, 3: body, 37: r.randbytes(16), 40: [dims, typed], 1040: [dims, typed], 43000: [1.5, -0.0],
            tags.BYTES_AT: [r.choice(LENGTHS), r.choice(LENGTHS)], tags.TEXT_AT: [r.choice(LENGTHS), r.choice(LENGTHS)],
            tags.BODY_AT: [1, 2], tags.SURROGATES: r.choice([b"\xed\xa0\x80", b"a", body]),
            tags.NDARRAY: [dtype, dims, r.choice("CFK"), body], tags.SCALAR: [dtype, r.randbytes(4)],
            tags.DATETIME: [r.choice(TEXTS), r.randrange(3), r.choice([None, *TEXTS])], tags.DATE: r.choice(TEXTS),
            tags.TIME: [r.choice(TEXTS), 0, None], tags.TIMEDELTA: [r.getrandbits(40), 1, 2],
            tags.DECIMAL: r.choice(TEXTS), tags.FRACTION: [r.getrandbits(80), r.randrange(-1, 9)],
            tags.RECORD: [r.choice(TEXTS), r.sample(["x", "y", "z", "x y"], k=min(4, len(items))), items],
            tags.NUMBERS: [r.randrange(3), r.randbytes(r.choice([0, 8, 16, 64, 7]))], tags.OPAQUE: [b"d", body], tags.READONLY: typed,
        }.get(tag, body if 64 <= tag <= 87 else items)  # fmt: skip
        return CBORTag(tag, content)

    def frame(self) -> bytes:
        """The next frame; most have a fault."""
        r = self.random
        frame = r.choice(self.corpus) if r.random() < 0.3 else cbor2.dumps(self.value())
        if r.random() < 0.05 and len(frame) < 2000:
            self.corpus[r.randrange(len(self.corpus))] = frame
        data = bytearray(frame)
        for _ in range(r.choice([0, 0, 1, 1, 1, 2, 4])):
            self.spoil(data)
        return bytes(data)

    def spoil(self, data: bytearray) -> None:
        """One fault."""
        r = self.random
        at = r.randrange(len(data) + 1)
        match r.randrange(6):
            case 0 if data:
                data[at - 1] = r.getrandbits(8)
            case 1:
                data[at:at] = r.randbytes(r.randrange(1, 4))
            case 2:
                del data[at : at + r.randrange(1, 6)]
            case 3:
                del data[at:]
            case 4:
                data[at:at] = bytes([r.choice([0x1B, 0x3B, 0x5B, 0x7B, 0x9B, 0xBB, 0xDB])]) + r.choice(
                    LENGTHS
                ).to_bytes(8, "big")
            case 5:
                data[at:at] = bytes(
                    [r.choice([0x80, 0x81, 0x82, 0xA1, 0xC2, 0xD8, 0xF6, 0xF7, 0xFF, 0xFB])]
                ) * r.choice([1, 1, 2, 30])


class Target:
    """The decoders, and what holds between them."""

    def __init__(self, native: Any) -> None:
        native.limits(1 << 20, NODES, DEPTH)
        self.native = native
        memory = memoryview(bytearray(1 << 16))

        def lift(address: int, length: int) -> memoryview:
            if address + length > len(memory):
                raise ProtocolError("outside")
            return memory[address : address + length]

        self.codec = Codec(Limits(value_depth=DEPTH, reply_bytes=1 << 20), lambda _: 0, lift)
        self.passed = 0

    def run(self, frame: bytes) -> None:
        """All decoders on one frame.

        Raises:
            AssertionError: they disagree.
            Exception: one failed in a way that it must not.
        """
        native = self.native
        valid = native.check(frame, MAX_NODES, DEPTH)
        self.passed += valid
        inside, refusal = None, ""
        try:
            inside = native.loads(frame)
        except (ValueError, TypeError) as error:
            refusal = str(error)
        else:
            try:
                again = native.dumps(inside)
            except (ValueError, TypeError):
                pass  # deeper than an encoder goes, or what only a decoder makes
            else:
                assert native.check(again, MAX_NODES, 4 * DEPTH) or not valid, (
                    "the guest wrote what the validator refuses"
                )
        try:
            outside = self.codec.decode(frame)
        except (ProtocolError, *REFUSED):
            outside = Ellipsis
        if valid and outside is not Ellipsis and "not a request" not in refusal:
            assert not refusal, f"the host read what the guest refused: {refusal}"
            assert same(inside, outside), f"the guest read {inside!r}, the host {outside!r}"
        try:
            decode_record(frame)
        except ValueError:
            pass
        assert native.live() == 0


def run(native: Any, seed: int, count: int | None, seconds: float | None, progress: bool = False) -> tuple[int, int]:
    """Fuzz until `count` frames or `seconds` have gone by; how many frames, and how many the validator passed."""
    source, target = Source(seed), Target(native)
    end = None if seconds is None else time.monotonic() + seconds
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = 0
    faulthandler.register(signal.SIGPROF, chain=True)  # shows where it hangs, then ends the process
    while (count is None or done < count) and (end is None or time.monotonic() < end):
        signal.setitimer(signal.ITIMER_PROF, HANG_S)  # of processor time: a busy machine is no hang
        for _ in range(1000):
            frame = source.frame()
            try:
                target.run(frame)
            except BaseException:
                print(f"seed {seed}, frame {done}: {frame.hex()}", file=sys.stderr)
                raise
            done += 1
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 400_000, f"{grown} KiB more memory after {done} frames"
        if progress and done % 100_000 == 0:
            print(f"{done} frames, {target.passed} passed the validator, {grown} KiB", file=sys.stderr)
    signal.setitimer(signal.ITIMER_PROF, 0)
    faulthandler.unregister(signal.SIGPROF)
    return done, target.passed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, help="how many (default: no end)")
    parser.add_argument("--seconds", type=float, help="how long (default: no end)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--plain", action="store_true", help="without AddressSanitizer: five times as fast")
    parser.add_argument("--frame", help="one frame in hexadecimal, to look at a finding")
    options = parser.parse_args()
    if not options.plain and "LD_PRELOAD" not in os.environ:
        environment = {**os.environ, **build.address_sanitizer()}
        os.execve(sys.executable, [sys.executable, "-m", "tests.codec.fuzz", *sys.argv[1:]], environment)
    native = build.load(build.build())
    if options.frame:
        Target(native).run(bytes.fromhex(options.frame))
        return
    done, passed = run(native, options.seed, options.frames, options.seconds, progress=True)
    print(f"{done} frames, {passed} of them passed the validator, none did harm (seed {options.seed})")


if __name__ == "__main__":
    main()
