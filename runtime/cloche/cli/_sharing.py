"""Options that several commands have, declared once: as the fields of a frozen dataclass, a *group*."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

__all__ = ["sharing"]

F = TypeVar("F", bound=Callable[..., Any])


def sharing(**defaults: Any) -> Callable[[F], F]:
    """Let a command take the options of groups. Typer sees one parameter for each field of a parameter whose type is a group.

    Args:
        **defaults: default values of this command, by field, in place of the group's.
    """

    def decorated(command: F) -> F:
        hints = get_type_hints(command, include_extras=True)
        groups: dict[str, Any] = {}
        parameters: list[inspect.Parameter] = []
        for name, parameter in inspect.signature(command).parameters.items():
            kind: Any = hints[name]
            if not is_dataclass(kind):
                parameters.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))
                continue
            groups[name] = kind
            annotations = get_type_hints(kind, include_extras=True)
            for field in fields(kind):
                default = defaults.get(field.name, field.default)
                parameters.append(
                    inspect.Parameter(
                        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotations[field.name]
                    )
                )

        @functools.wraps(command)
        def expanded(**values: Any) -> Any:
            for name, group in groups.items():
                values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
            return command(**values)

        expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what Typer looks at
        expanded.__annotations__ = {one.name: one.annotation for one in parameters}
        return expanded  # type: ignore[return-value]  # called by Typer alone, which sees the signature

    return decorated
