"""What runs without ``--all`` is the same in each run, and leaves out no value of any parameter."""

from __future__ import annotations

import itertools

from tests.tiers import covering

CASES = [
    (f"test[{one}-{two}-{three}]", {"one": one, "two": two, "three": three})
    for one, two, three in itertools.product(range(20), range(8), range(2))
]


def test_each_value_of_each_parameter_comes_once() -> None:
    """A promise of the table keeps at least one of its cases."""
    chosen = covering(CASES)
    kept = [values for name, values in CASES if name in chosen]
    for parameter in ("one", "two", "three"):
        assert {values[parameter] for values in kept} == {values[parameter] for _, values in CASES}
    assert 20 <= len(chosen) <= 30


def test_the_choice_depends_on_the_names_alone() -> None:
    """Processes that share the work each make it for themselves."""
    assert covering(CASES) == covering(reversed(CASES))


def test_a_table_of_one_parameter_is_whole() -> None:
    """Each of its rows is a value of its own."""
    cases = [(f"test[{row}]", {"row": row}) for row in range(50)]
    assert covering(cases) == {name for name, _ in cases}
