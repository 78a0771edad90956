"""HTML in which nothing that comes from data can be taken for markup, and the page that holds a report."""

import base64
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Union

_VOID = {"meta", "img", "link", "br", "wbr"}


class Markup(str):
    """Text that is markup already. Every other string is escaped on its way into an element."""


Content = Union[str, Iterable["Content"], None]  # noqa: UP007  a recursive alias can't be made of strings


def el(tag: str, /, *children: Content, **attributes: str | float | None) -> Markup:
    """``<tag attributes>children</tag>``; children that are no Markup are escaped, None and "" are nothing.

    ``class_`` is class, ``stroke_width`` stroke-width; an attribute of None is left out, "" is one without a value.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{tag}{given}>")
    return Markup(f"<{tag}{given}>{join(*children)}</{tag}>")


def join(*children: Content) -> Markup:
    """Children after one another, as `el` takes them."""
    parts: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, str):
            parts.append(child if isinstance(child, Markup) else escape(child))
        else:
            parts.append(join(*child))
    return Markup("".join(parts))


def breakable(name: str) -> Content:
    """A name such as gan.noise.sigma_start or judge/frechet_distance, which a line may end inside of."""
    if isinstance(name, Markup):
        return name
    first, *others = re.split(r"(?<=[a-z][._/])(?=[a-z])", name)
    return [first, *([el("wbr"), part] for part in others)] if others else name


def section(title: str, *children: Content) -> Markup:
    """A part of the report with its heading, at ``#title-in-small-letters``."""
    name = anchor(title)
    return el("section", el("h2", title, id=name), *children, aria_labelledby=name)


def anchor(title: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in title.lower())


def facts(rows: Iterable[tuple[str, Content]]) -> Markup:
    """Names and what belongs to them; a row whose content is empty is left out."""
    return el("dl", [el("div", el("dt", breakable(name)), el("dd", what)) for name, what in rows if what])


def folded(summary: str, *children: Content) -> Markup:
    """What is seen after a click, or Enter on its summary."""
    return el("details", el("summary", summary), *children)


def table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[Content]], *, words: int = 1, class_: str = ""
) -> Markup:
    """A table whose first cell of a row names it; the first ``words`` columns are text, the others figures.

    It scrolls by itself where it is wider than the screen.
    """
    kinds = [None if k < words else "figure" for k in range(len(head))]
    names = zip(head, kinds, strict=True)
    top = el("tr", [el("th", breakable(name), scope="col", class_=kind) for name, kind in names])
    body = [
        el(
            "tr",
            el("th", breakable(first) if isinstance(first, str) else first, scope="row"),
            [el("td", cell, class_=kind) for cell, kind in zip(others, kinds[1:], strict=True)],
        )
        for first, *others in rows
    ]
    whole = el("table", el("caption", caption), el("thead", top), el("tbody", body), class_=class_ or None)
    return scrolling(caption, whole)


def scrolling(label: str, *children: Content) -> Markup:
    """What may be wider than the screen: a region that takes the focus, so that keys scroll it."""
    return el("div", *children, class_="scroll", tabindex=0, role="region", aria_label=label)


def picture(png: bytes, alt: str, caption: Content, *, class_: str = "", width: int | None = None) -> Markup:
    """A PNG inside the page. ``width`` in CSS pixels, at most the page's."""
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    image = el("img", src=source, alt=alt, class_=class_ or None, width=width)
    return el("figure", el("figcaption", caption) if caption else None, image)


def page(title: str, body: Content, style: str) -> str:
    """A whole document. Its policy lets a browser fetch nothing."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("title", title),
        el("link", rel="icon", href="data:,"),
        el("style", Markup(style)),
    )
    return "<!doctype html>\n" + el("html", head, el("body", body), lang="en") + "\n"
