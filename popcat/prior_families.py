"""Which families of distributions a prior may name: those of popcat.distributions, and those of plugins."""

from collections.abc import Mapping
from typing import Annotated, Any, get_args

import pydantic

from popcat.distributions import Continuity, Dirichlet, Distribution, Fixed, Spread, Tied
from popcat.plugins import PluginKind


def _name_of(kind: Any) -> tuple[str, ...]:
    """The name of a family: what its `family`, a Literal, may be; empty where it is no family.

    >>> _name_of(Tied), _name_of(int)
    (('tied',), ())
    """
    field = getattr(kind, "model_fields", {}).get("family")
    return get_args(field.annotation) if field is not None else ()


_BuiltIn = Spread | Dirichlet | Continuity | Fixed | Tied
PLUGINS = PluginKind("popcat.prior_families", "prior family", sum(map(_name_of, get_args(_BuiltIn)), ()))
"""Families of other packages: each a subclass of `Distribution` whose `family` is the plugin's name."""


def _or_of_plugin(given: Any, built_in: pydantic.ValidatorFunctionWrapHandler) -> Any:
    """A family of popcat's own, or one of a plugin, which is looked for only where its name is none of popcat's."""
    name = given.get("family") if isinstance(given, Mapping) else getattr(given, "family", None)
    if not isinstance(name, str) or name in PLUGINS.built_in or name not in PLUGINS.names():
        return built_in(given)
    kind = PLUGINS.load(name)
    if not (isinstance(kind, type) and issubclass(kind, Distribution)) or _name_of(kind) != (name,):
        raise PLUGINS.broken(name, "is no prior family: expected a subclass of popcat.distributions.Distribution with "
                                   f'`family: Literal["{name}"]`')  # fmt: skip
    return kind.model_validate(given)


AnyFamily = Annotated[
    Annotated[_BuiltIn, pydantic.Field(discriminator="family")],
    pydantic.WrapValidator(_or_of_plugin), pydantic.SerializeAsAny(),
]  # fmt: skip
"""The type of a family in every settings file."""
