"""Three nodes for a table of orders: cells become values, prices become euros, and each customer gets a total."""


def parse(row):
    """A row of a CSV file, whose cells are texts, as a dict of values. A row that makes no sense is refused."""
    quantity = int(row["quantity"])
    if quantity < 1:
        raise ValueError(f"an order of {quantity} pieces")
    return {
        "customer": row["customer"],
        "quantity": quantity,
        "price": float(row["price"]),
        "currency": row["currency"],
    }


class Euros:
    """Adds ``euros``, what the order costs.

    Args:
        rates: euros for one unit of each currency.
    """

    def __init__(self, rates):
        self.rates = {"EUR": 1.0, **rates}

    def process(self, order):
        cost = order["quantity"] * order["price"] * self.rates[order["currency"]]
        return {**order, "euros": round(cost, 2)}


class Totals:
    """Takes all orders, and gives one total for each customer at the end, the largest first."""

    def __init__(self):
        self.totals = {}

    def process(self, order):
        count, euros = self.totals.get(order["customer"], (0, 0.0))
        self.totals[order["customer"]] = count + 1, euros + order["euros"]

    def flush(self):
        for customer, (count, euros) in sorted(self.totals.items(), key=lambda each: -each[1][1]):
            yield {"customer": customer, "orders": count, "euros": round(euros, 2)}
