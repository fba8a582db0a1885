"""The frame of every page of ours: one HTML text with everything inline, readable in light and dark; buttons and tiles."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from importlib import resources

import numpy as np

from splathead.report.panels import data_uri


def asset(name: str) -> str:
    """Text of a file in ``assets/``."""
    return resources.files("splathead.report").joinpath("assets", name).read_text(encoding="utf-8")


def page_text(
    title: str, *, description: str = "", facts: str = "", sections: Sequence[tuple[str, str, str]], footer: str = "",
    scripts: Sequence[str] = (), fetches: bool = False,
) -> str:  # fmt: skip
    """The page as one HTML text.

    Args:
        title: plain text; heading and name of the window.
        description: plain text below the heading.
        facts: HTML of the cards, or nothing.
        sections: (id, title, HTML) in the page's order; those without HTML are left out.
        footer: HTML.
        scripts: names of assets that run at the end of the page, in this order.
        fetches: whether the page may ask the server that it came from; a page that stands alone may not.
    """
    sections = [section for section in sections if section[2]]
    navigation = "".join(f'<a href="#{key}">{name}</a>' for key, name, _ in sections)
    values = {
        "title": html.escape(title), "description": html.escape(description), "facts": facts, "style": asset("report.css"),
        "connect": "'self'" if fetches else "'none'", "script": "".join(map(asset, ["page.js", *scripts])),
        "navigation": f'<nav aria-label="Contents">{navigation}</nav>' if len(sections) > 1 else "", "footer": footer,
        "sections": "\n".join(f'<section id="{key}"><h2>{name}</h2>{body}</section>' for key, name, body in sections),
    }  # fmt: skip
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], asset("report.html"))


def button(group: str, value: str, label: str, pressed: bool) -> str:
    """A button of those in ``group`` of which one is pressed; maps.js shows what belongs to it."""
    state, label = "true" if pressed else "false", html.escape(label)
    return f'<button type="button" data-set="{group}" value="{html.escape(value)}" aria-pressed="{state}">{label}</button>'


def button_group(group: str, name: str, labels: dict[str, str]) -> str:
    """``labels`` (value -> label) as buttons after their ``name``, the first one pressed."""
    buttons = "".join(button(group, value, label, i == 0) for i, (value, label) in enumerate(labels.items()))
    return f'<div class="group"><span class="name">{html.escape(name)}</span>{buttons}</div>'


def picture_tag(picture: np.ndarray, alt: str, **options) -> str:
    """An RGBA picture [H, W, 4] uint8 as an inline image; ``options`` as in :func:`splathead.report.panels.data_uri`."""
    height, width = picture.shape[:2]
    uri = data_uri(picture, **options)
    return f'<img src="{uri}" alt="{html.escape(alt)}" width="{width}" height="{height}" decoding="async">'


def tile(picture: np.ndarray, name: str, detail: str) -> str:
    """A picture with its caption; a click magnifies it together with its neighbours."""
    image = picture_tag(picture, f"{name} {detail}")
    name, detail = html.escape(name), html.escape(detail)
    return f'<figure class="tile"><div class="pane">{image}</div><figcaption><b>{name}</b> {detail}</figcaption></figure>'


def card(number: str, text: str, verdict: str = "") -> str:
    """One headline number; ``verdict`` is better, worse or nothing."""
    attribute = f' class="{verdict}"' if verdict else ""
    return f"<li><strong{attribute}>{html.escape(number)}</strong><small>{html.escape(text)}</small></li>"


def cards(items: Sequence[str]) -> str:
    """The cards below the heading."""
    return f'<ul class="facts">{"".join(items)}</ul>' if items else ""
