"""Functions in pure Python, each for one thing that interpreters do: about a millisecond natively. They return a checksum."""


def integers(n):
    """Arithmetic of small integers in nested loops."""
    total = 0
    for i in range(n):
        for j in range(20):
            total += (i * j) ^ (total & 255)
    return total


def floats(n):
    """A Mandelbrot row: float arithmetic and comparisons."""
    inside = 0
    for i in range(n):
        c_re, c_im = -2.0 + 3.0 * i / n, 0.35
        x = y = 0.0
        for _ in range(40):
            x, y = x * x - y * y + c_re, 2.0 * x * y + c_im
            if x * x + y * y > 4.0:
                break
        else:
            inside += 1
    return inside


def big_integers(n):
    """Integers of many digits."""
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a % 1_000_000_007


def dicts(n):
    """Inserts, updates, looks up and deletes keys of a dict."""
    table = {}
    for i in range(n):
        key = i * 7919 % n
        table[key] = table.get(key, 0) + i
    for i in range(0, n, 3):
        table.pop(i, None)
    return len(table) + sum(table.values())


def strings(n):
    """Formats, splits, joins, replaces and searches strings."""
    total = 0
    for i in range(n):
        text = f"item {i:05d} of {n}"
        words = text.replace("item", "node").split()
        total += len("-".join(words).upper()) + text.find("of")
    return total


class Vector:
    """Two numbers, with an operator, a method and a property."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __add__(self, other):
        return Vector(self.x + other.x, self.y + other.y)

    def scaled(self, factor):
        return Vector(self.x * factor, self.y * factor)

    @property
    def norm(self):
        return self.x * self.x + self.y * self.y


def classes(n):
    """Instances, methods, properties, operators."""
    position, total = Vector(0, 0), 0
    for i in range(n):
        position = position + Vector(i, -i).scaled(2)
        total += position.norm % 97
    return total


def generators(n):
    """A chain of generators."""

    def numbers():
        yield from range(n)

    def squares(source):
        for x in source:
            yield x * x

    def odd(source):
        for x in source:
            if x & 1:
                yield x

    return sum(odd(squares(numbers())))


def recursion(n):
    """Fibonacci numbers by recursive calls."""

    def fib(k):
        return k if k < 2 else fib(k - 1) + fib(k - 2)

    return fib(n)


def sorting(n):
    """Sorts numbers, and tuples by a key."""
    numbers = [i * 7919 % 10007 for i in range(n)]
    pairs = sorted(((x, -x) for x in numbers), key=lambda pair: pair[1])
    return sorted(numbers)[n // 2] + pairs[n // 3][0]


def exceptions(n):
    """Raises exceptions and catches them two frames above."""

    def inner(i):
        if i % 3 == 0:
            raise ValueError(i)
        return i

    def outer(i):
        try:
            return inner(i)
        finally:
            pass

    caught = 0
    for i in range(n):
        try:
            outer(i)
        except ValueError as error:
            caught += error.args[0]
    return caught


def comprehensions(n):
    """Lists, dicts and sets made of each other."""
    squares = [x * x for x in range(n) if x % 3]
    table = {x: str(x) for x in squares}
    return len({len(text) for text in table.values()}) + sum(squares)


def matching(n):
    """Structural pattern matching over small values."""
    total = 0
    for i in range(n):
        value = (i, "text", [i], {"k": i})[i % 4]
        match value:
            case int():
                total += value
            case str():
                total += len(value)
            case [first]:
                total += first * 2
            case {"k": k}:
                total += k * 3
    return total
