"""The one Jinja environment: templates are packaged files, and an undefined name is an error."""

from __future__ import annotations

from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The environment of every template in `qspinn.templates`."""
    return Environment(
        loader=PackageLoader("qspinn.templates", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # what comes out is source code, not HTML
    )


def render(template: str, **values: object) -> str:
    """Fill ``template``, named by its path such as ``mcu/name.h.j2``.

    Args:
        template: The template's path below the templates folder.
        **values: Frozen dataclasses, strings and integers; a template never sees a graph.
    """
    return environment().get_template(template).render(values)
