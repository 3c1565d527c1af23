"""Renders the templates of this package; their texts are translated in the browser."""

import base64
import json
from typing import Any

import jinja2
from markupsafe import Markup, escape

from codegraph_jax.core.json_fields import plain
from codegraph_jax.core.names import printable
from codegraph_jax.report.page_security import content_policy
from codegraph_jax.report.result_files import relative_url
from codegraph_jax.report.texts import Text, Value, package_text, text


def render_page(template: str, style: str, script: str, **values: Any) -> str:
    """A page of this package; every value is escaped."""
    page = _environment().get_template(template)
    policy = content_policy(style, script)
    return page.render(style=Markup(style), script=Markup(script), policy=policy, **values)


def _data_url(media_type: str, content: bytes) -> str:
    """A file as a URL."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def _translatable(value: Value | None) -> Markup:
    """A text, which the page translates, or anything else as it is."""
    if not isinstance(value, Text):
        return escape("" if value is None else value)
    values = dict(plain(value))
    key = values.pop("t")
    return Markup('<span data-t="{}"{}>{}</span>').format(
        key, Markup(' data-values="{}"').format(json.dumps(values)) if values else "", str(value)
    )


def _attributes(**texts: str | Text) -> Markup:
    """Attributes with texts, such as `aria_label="close"`."""
    found = {name.replace("_", "-"): text(one) if isinstance(one, str) else one for name, one in texts.items()}
    english = Markup("").join(Markup(' {}="{}"').format(name, str(one)) for name, one in found.items())
    values = json.dumps({name: plain(one) for name, one in found.items()})
    return Markup('data-attributes="{}"').format(values) + english


def _number(value: str) -> Markup:
    """A number with decimals, as a string; other strings as they are."""
    try:
        float(value)
    except ValueError:
        return escape(value)
    return Markup('<span data-decimal="{}">{}</span>').format(value, value)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(package_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "t": lambda key, **values: _translatable(text(key, **values)),
        "translatable": _translatable,
        "text": text,
        "attributes": _attributes,
        "number": _number,
    }
    environment.filters |= {"printable": printable, "relative_url": relative_url}
    environment.filters["key"] = lambda heading: heading.removesuffix(" (%)").lower().replace(" ", "_")
    environment.filters["jpeg_url"] = lambda content: _data_url("image/jpeg", content)
    environment.filters["png_url"] = lambda content: _data_url("image/png", content)
    return environment
