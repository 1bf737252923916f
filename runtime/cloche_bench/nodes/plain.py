"""Small nodes: their own work is next to nothing, so what is timed is the way there and back."""


class PassThrough:
    """Whatever comes in goes out."""

    def process(self, data):
        return data


class Multiply:
    """Times a factor."""

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
    """Top-level numbers times three, and a note of it."""

    def process(self, data):
        out = {}
        for key, value in data.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            out[key] = value * 3 if number else value
        out["_metadata"] = {"processed": True, "keys": len(data)}
        return out


class Format:
    """A number as text beside it."""

    def process(self, data):
        return {"result": data, "formatted": f"Result: {data}"}


class Statistics:
    """Six numbers from a list."""

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
    """Takes its value out of an envelope, and puts the result into another."""

    def process(self, data):
        value = data["data"]
        return {"data": value * 2, "metadata": {**data["metadata"], "processed_by": "Wrapped"}}
