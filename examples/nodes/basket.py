"""A node that calls services: the host looks up prices, so the node needs no catalogue, and the host decides what the node learns.

Load it with ``Grants(services={"price": ..., "discount": ...})``; see docs/how-to/services.md.
"""

from __future__ import annotations

import logging
from typing import Any

from cloche_guest import services

log = logging.getLogger("basket")


class Basket:
    """Adds up the prices of a basket. It asks the host for every price, because prices may change between two baskets.

    Args:
        currency: the currency of the prices.
    """

    def __init__(self, currency: str = "EUR") -> None:
        self.currency = currency

    def process(self, basket: dict[str, int]) -> dict[str, Any]:
        """The total of a basket ``{name: count}``. Names that the host does not know are listed as "unknown", and cost nothing."""
        total, unknown = 0.0, []
        for name, count in basket.items():
            try:
                total += count * services.price(name, currency=self.currency)
            except LookupError:
                unknown.append(name)
        try:
            total -= services.discount(total)
        except PermissionError as refusal:
            log.info("no discount: %s", refusal)
        return {"total": round(total, 2), "currency": self.currency, "unknown": unknown}
