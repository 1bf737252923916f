"""The example of a node that calls services, natively and in the sandbox, with a gate that refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloche import Grants, Service, ServiceError
from cloche.testing import LocalGuest, services
from cloche_guest import services as granted
from tests.loading import module_at

SOURCE = Path(__file__).parents[2] / "examples" / "nodes" / "basket.py"
PRICES = {"apple": 0.5, "pear": 0.75}


class Unknown(ServiceError, LookupError):
    """The host has no price for it."""


def price(name: str, currency: str) -> float:
    """In that currency."""
    if name not in PRICES:
        raise Unknown(f"no price for {name}")
    return PRICES[name] * {"EUR": 1.0, "USD": 1.25}[currency]


def discount(total: float) -> float:
    """Ten percent."""
    return total / 10


def is_worth_it(call):
    """The gate."""
    return call.arguments[0] >= 10 or "not below 10"


GRANTS = Grants(services={"price": price, "discount": Service(discount, gate=is_worth_it, max_calls=1)})


@pytest.fixture(params=["local", "sandbox"])
def basket(request, runtime):
    """The node."""
    make = LocalGuest if request.param == "local" else runtime.load
    with make(SOURCE, "Basket", {"currency": "USD"}, grants=GRANTS) as node:
        yield node


def test_the_host_has_the_prices(basket):
    """And decides about the discount."""
    assert basket.process({"apple": 2, "pear": 1}) == {"total": 2.19, "currency": "USD", "unknown": []}
    assert basket.process({"apple": 20, "plum": 1}) == {"total": 11.25, "currency": "USD", "unknown": ["plum"]}
    outcomes = [(record.service, record.outcome) for record in basket.service_calls]
    assert outcomes == [("price", "returned"), ("price", "returned"), ("discount", "refused"),
                        ("price", "returned"), ("price", "raised"), ("discount", "returned")]  # fmt: skip


def load_example():
    """The example, imported as its author would."""
    return module_at(SOURCE, "example_basket")


def test_its_class_can_be_tested_with_fakes():
    """As its author would."""
    Basket = load_example().Basket
    with services(price=lambda name, currency: 2.0, discount=lambda total: 1.0):
        assert Basket().process({"a": 3}) == {"total": 5.0, "currency": "EUR", "unknown": []}
    with pytest.raises(AttributeError):
        Basket().process({"a": 3})


def test_services_of_a_test_are_checked_as_those_of_a_host():
    """A fake that does not fit is found out."""

    def lookup(key: str) -> int:
        return 1

    with services(lookup=lookup):
        assert granted.lookup("k") == 1
        with pytest.raises(TypeError, match="argument 'key' is int, not str"):
            granted.lookup(5)
        with pytest.raises(TypeError, match="cannot encode"):
            granted.lookup(object())
