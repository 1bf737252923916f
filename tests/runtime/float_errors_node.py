"""What numpy tells of floating-point errors: run natively and, as the source of a node, in the image."""

from __future__ import annotations

import warnings

import numpy as np

KINDS = {"divide by zero": 1, "overflow": 2, "underflow": 4, "invalid value": 8}
REALS = {"e": "f2", "f": "f4", "d": "f8"}


def numbers(char):
    """Values at which something may happen."""
    info = np.finfo(char)
    with np.errstate(all="ignore"):
        edges = [info.max, -info.max, info.tiny, -info.tiny, info.smallest_subnormal]
        roots = [float(info.max) ** 0.5 * 1.01, float(info.tiny) ** 0.5 * 0.99]
        plain = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            -1.5,
            2.0,
            3.0,
            10.0,
            100.0,
            -100.0,
            1000.0,
            -1000.0,
            np.inf,
            -np.inf,
            np.nan,
        ]
        reals = np.array([*plain, *edges, *roots], info.dtype)
        if np.dtype(char).kind == "f":
            return reals
        few = reals[[0, 1, 2, 5, 9, 13, 14, 15, 16, 18]]
        return (few[:, None] + np.array([1j], char) * few).ravel().astype(char)


def flags(function, *operands):
    """The errors of one call, as bits."""
    found = 0

    def note(kind, _):
        nonlocal found
        found |= KINDS[kind]

    with np.errstate(all="call", call=note), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ComplexWarning: imaginary parts are left out, as they should be here
        function(*operands)
    return found


def of_ufunc(name, char, count):
    """The errors of a ufunc, for each combination of `numbers`, in arrays of `count` elements or scalars."""
    function = getattr(np, name)
    values = numbers(char)
    if function.nin == 1:
        return [flags(function, np.full(count, value, char) if count else value) for value in values]
    return [
        flags(function, *(np.full(count, value, char) if count else value for value in pair))
        for pair in ((one, other) for one in values for other in values)
    ]


def of_casts(source, values, counts):
    """The errors of conversions: for each type and count a list, one of each value."""
    with np.errstate(all="ignore"):
        array = np.array(values).astype(source)
    found = {}
    for target in "?bBhHiIqQefdFD":
        for count in counts:
            found[f"{target}{count}"] = [
                flags(
                    lambda x, target=target: x.astype(target), np.repeat(array[k : k + 1], count) if count else array[k]
                )
                for k in range(len(values))
            ]
    return found


def outcome(expression):
    """The value of an expression, or its exception, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        space = {"np": np, "nan": np.nan, "inf": np.inf}
        try:
            exec(compile(expression, "expression", "exec"), space)
            value = space["r"]
            value = (
                tuple(np.asarray(part).tolist() for part in value)
                if isinstance(value, tuple)
                else np.asarray(value).tolist()
            )
        except Exception as error:
            value = f"{type(error).__name__}: {error}"
    return value, [f"{warning.category.__name__}: {warning.message}" for warning in caught]


def process(question, *arguments):
    """The node's entry: a function of this module by its name."""
    return {"ufunc": of_ufunc, "casts": of_casts, "outcome": outcome}[question](*arguments)
