"""Nodes that do next to nothing, so that the boundary is what is timed."""


class PassThrough:
    """Returns what it gets."""

    def process(self, data):
        return data


class Multiply:
    """Multiplies by a factor."""

    def __init__(self, factor=3):
        self.factor = factor

    def process(self, data):
        return data * self.factor


class Counter:
    """Counts its calls."""

    def __init__(self, start=0):
        self.count = start

    def process(self, data):
        self.count += 1
        return {"input": data, "count": self.count, "is_even": self.count % 2 == 0}


class DictTransform:
    """Multiplies the numbers of a dict by three, and adds a key that says so."""

    def process(self, data):
        out = {}
        for key, value in data.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            out[key] = value * 3 if number else value
        out["_metadata"] = {"processed": True, "keys": len(data)}
        return out


class Format:
    """Returns a number and its text."""

    def process(self, data):
        return {"result": data, "formatted": f"Result: {data}"}


class Statistics:
    """Six statistics of a list of numbers."""

    def process(self, data):
        ordered = sorted(data)
        count = len(ordered)
        mean = sum(ordered) / count
        variance = sum((x - mean) ** 2 for x in ordered) / count
        return {
            "count": count,
            "sum": sum(ordered),
            "mean": mean,
            "min": ordered[0],
            "max": ordered[-1],
            "variance": variance,
        }


class Wrapped:
    """Takes its number from a dict with metadata, and returns such a dict."""

    def process(self, data):
        value = data["data"]
        return {"data": value * 2, "metadata": {**data["metadata"], "processed_by": "Wrapped"}}
