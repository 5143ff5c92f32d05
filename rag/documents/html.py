"""HTML: its text as a browser shows it, block by block."""

import re
import warnings
from collections.abc import Iterable

from llama_platform.errors import InputError
from rag.documents.blocks import TextBuilder
from rag.documents.document import Facts, make_facts

_INVISIBLE = "script, style, template, noscript, nav, footer, head, svg, [hidden], [aria-hidden=true]"
_INLINE = frozenset(
    """a abbr acronym b bdi bdo big br button cite code data del dfn em font i img input ins kbd label mark meter output
    q ruby rp rt s samp select small span strike strong sub sup time tt u var wbr""".split()
)
_SPACES = re.compile(r"[ \t\r\n\f]+")


def read_html(content: bytes | str, notes: list[str]) -> tuple[TextBuilder, Facts]:
    """Return the text of a page, and what it says of itself.

    Args:
        content: the page; bytes in whatever encoding they declare.
        notes: gets what was not understood.

    Raises:
        InputError: it is nested too deeply.
    """
    from bs4 import BeautifulSoup, Comment, XMLParsedAsHTMLWarning

    try:
        with warnings.catch_warnings(category=XMLParsedAsHTMLWarning, action="ignore"):
            soup = BeautifulSoup(content, "lxml")  # of HTML, for XHTML too: it knows no entities that expand
        title = soup.title.get_text() if soup.title else None
        meta = {str(tag.get("name", "")).lower(): tag.get("content") for tag in soup.find_all("meta")}
        for element in soup.select(_INVISIBLE):
            element.decompose()
        for comment in soup.find_all(string=lambda text: isinstance(text, Comment)):
            comment.extract()
        builder = TextBuilder()
        _blocks(soup, builder)
    except RecursionError as error:
        raise InputError("HTML nested too deeply") from error
    return builder, make_facts(title, meta.get("keywords"), meta.get("date"), notes)


def _blocks(element: object, builder: TextBuilder) -> None:
    """Add the blocks below an element; what stands between them is a paragraph."""
    inline: list[str] = []

    def end_paragraph() -> None:
        builder.add(_collapsed(inline))
        inline.clear()

    for child in element.children:  # type: ignore[attr-defined]
        if (text := _own_text(child)) is not None:
            inline.append(text)
        elif child.name in _INLINE and child.find(_is_block) is None:
            inline.append(_inline_text(child))
        else:
            end_paragraph()
            _block(child, child.name, builder)
    end_paragraph()


def _block(element: object, name: str, builder: TextBuilder) -> None:
    if re.fullmatch(r"h[1-6]", name):
        builder.add(_collapsed([_inline_text(element)]), "heading", int(name[1]))
    elif name == "pre":
        builder.add(element.get_text(), "code")  # type: ignore[attr-defined]
    elif name == "table":
        for caption in element.find_all("caption"):  # type: ignore[attr-defined]
            builder.add(_collapsed([_inline_text(caption)]))
        builder.add("\n".join(_rows(element)), "table")
    elif name in ("ul", "ol"):
        builder.add("\n".join(_items(element, 0)))
    else:
        _blocks(element, builder)


def _items(element: object, depth: int) -> Iterable[str]:
    """Yield the lines of a list, those of lists within it indented."""
    for item in element.find_all("li", recursive=False):  # type: ignore[attr-defined]
        lists = item.find_all(["ul", "ol"], recursive=False)
        within = [inner.extract() for inner in lists]
        text = _collapsed([_inline_text(item)]).replace("\n", " ")
        if text:
            yield f"{'  ' * depth}- {text}"
        for inner in within:
            yield from _items(inner, depth + 1)


def _rows(table: object) -> Iterable[str]:
    """Yield the rows of a table as lines of cells; a cell over several columns or rows stands once."""
    for row in table.find_all("tr"):  # type: ignore[attr-defined]
        if row.find_parent("table") is table:
            cells = [_collapsed([_inline_text(cell)]) for cell in row.find_all(["td", "th"], recursive=False)]
            shown = [" ".join(cell.split()).replace("|", "/") for cell in cells]
            if any(shown):
                yield f"| {' | '.join(shown)} |"


def _inline_text(element: object) -> str:
    """Return the text of an element; blocks within it are parted by a space."""
    parts: list[str] = []
    for child in element.descendants:  # type: ignore[attr-defined]
        if (text := _own_text(child)) is not None:
            parts.append(text)
        elif _is_block(child):
            parts.append(" ")
    return "".join(parts)


def _own_text(node: object) -> str | None:
    """Return the text of what holds no other elements: of text, a break and a picture; None of everything else."""
    name = getattr(node, "name", None)
    if name is None:
        return str(node)
    if name == "br":
        return "\0"
    return str(node.get("alt") or "") if name == "img" else None  # type: ignore[attr-defined]


def _is_block(tag: object) -> bool:
    return getattr(tag, "name", "") not in _INLINE


def _collapsed(parts: Iterable[str]) -> str:
    """Return the text of a paragraph: white space is one space, a break (NUL until here) a line end."""
    text = _SPACES.sub(" ", "".join(parts))
    return "\n".join(line.strip() for line in text.split("\0")).strip()
