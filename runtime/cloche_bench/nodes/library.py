"""Functions that spend their time in the standard library's C code, as the image's build has compiled it."""

import hashlib
import json
import random
import re
import zlib


def json_round_trip(n):
    """Dump and load nested records."""
    records = [{"id": i, "name": f"node {i}", "values": [i / 3, i, None, True]} for i in range(n)]
    return len(json.loads(json.dumps(records)))


def regular_expressions(n):
    """Find, group and substitute."""
    text = "2026-11-24 12:00:00 [info] node=Denoise call=17 seconds=0.25; " * n
    found = re.findall(r"(\w+)=([\w.]+)", text)
    return len(found) + len(re.sub(r"\d+", "#", text))


def sha256(n):
    """A digest of n KiB."""
    return hashlib.sha256(bytes(range(256)) * (4 * n)).hexdigest()


def compress(n):
    """Deflate and inflate n KiB of text."""
    data = b"the quick brown fox jumps over the lazy dog %d " * (n * 1024 // 48)
    return len(zlib.decompress(zlib.compress(data, 6)))


def random_numbers(n):
    """The Mersenne twister, seeded."""
    rng = random.Random(7)
    return round(sum(rng.random() for _ in range(n)) + rng.randrange(1000) + rng.gauss(0, 1), 6)
