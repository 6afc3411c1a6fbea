"""What a function of anyone's is to be called with: its arguments by their names, or by their places."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qkv.errors import InputError

Roles = Mapping[str, frozenset[str]]


class Signature:
    """How a function's own arguments take the values that a case has for it.

    Args:
        function: anyone's.
        roles: for each value that there may be, the names that arguments for it go by.
        orders: the roles that a function takes by place, one way for each number of arguments.
        title: what the function is called in messages.
        hint: what to write where it cannot be called.

    Raises:
        InputError: an argument that has to be given and that no value is known for.
    """

    def __init__(
        self, function: Callable[..., Any], roles: Roles, orders: Sequence[Sequence[str]], title: str, hint: str
    ):
        self.title = title
        known = inspect.signature(function).parameters.values()
        self.anything = any(one.kind == one.VAR_KEYWORD for one in known)
        self.several = any(one.kind == one.VAR_POSITIONAL for one in known)
        given = [one for one in known if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
        required = [one.name for one in given if one.default is one.empty]
        self.defaults = {one.name: one.default for one in given if one.default is not one.empty}
        self.role_of: dict[str, str] = {}
        for one in given:
            role = next((role for role, names in roles.items() if one.name.lower() in names), None)
            if role is not None and role not in self.role_of.values():
                self.role_of[one.name] = role
        if any(name not in self.role_of for name in required):
            order = next((order for order in orders if len(order) == len(required)), None)
            if order is None or any(name in self.role_of and self.role_of[name] not in order for name in required):
                raise InputError(
                    f"{title} takes ({', '.join(one.name for one in given)}), which could not be told apart",
                    expected=" or ".join(f"({', '.join(order)})" for order in orders),
                    hint=hint,
                )
            self.role_of |= dict(zip(required, order, strict=True))
        self.positional = {one.name for one in given if one.kind == one.POSITIONAL_ONLY}
        self.required = required

    @property
    def roles(self) -> set[str]:
        """What it takes."""
        return set(self.role_of.values())

    def part(self, whole: str, beside: Mapping[str, str]) -> None:
        """What seemed to be a whole is one part of it where another part has an argument of its own.

        Args:
            beside: for each part that may stand alone the one that the whole then is.
        """
        for other, one in beside.items():
            if {whole, other} <= self.roles and one not in self.roles:
                self.role_of = {name: one if role == whole else role for name, role in self.role_of.items()}

    def lacks(self, values: Mapping[str, Any]) -> list[str]:
        """Its arguments that have to be given and that these values have nothing for."""
        return [name for name in self.required if self.role_of[name] not in values]

    def arguments(self, values: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """By place and by name."""
        first = [values[self.role_of[name]] for name in self.required if name in self.positional]
        named = {
            name: values[role] for name, role in self.role_of.items() if role in values and name not in self.positional
        }
        return first, named


def roles(**aliases: str) -> dict[str, frozenset[str]]:
    """Each role with the names it goes by; its own is one of them."""
    return {role: frozenset({role, *names.lower().split()}) for role, names in aliases.items()}
