"""The HTML around the report of a night: one file that loads nothing and needs no script."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nuncius.plots.style import Entry

# Even if text of strangers slipped through the escaping, a browser would load and run nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_STYLE = """
:root { color-scheme: light dark; --page: #f4f6f9; --card: #ffffff; --ink: #18202b; --soft: #586372; --line: #dfe4ea;
  --accent: #2d62c4; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0e1217; --card: #171c23; --ink: #e8ecf2; --soft: #9ba6b4; --line: #2b333e; --accent: #8db4ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); overflow-wrap: anywhere;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main, header, footer { max-width: 1120px; margin: 0 auto; padding: 0 16px; }
header { padding-top: 36px; }
h1 { font-size: clamp(1.5rem, 1.1rem + 2vw, 2.25rem); line-height: 1.2; margin: 0 0 20px; letter-spacing: -0.015em; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 0; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 12px; margin: 0; }
.numbers div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px;
  display: flex; flex-direction: column-reverse; justify-content: flex-end; }
.numbers dt { color: var(--soft); font-size: 0.85rem; }
.numbers dd { margin: 0; font-size: 1.2rem; line-height: 1.35; font-weight: 650; font-variant-numeric: tabular-nums; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 16px; margin: 20px 0;
  break-inside: avoid; }
.card > p { margin: 2px 0 0; color: var(--soft); }
.sky figure { max-width: 640px; margin: 8px auto 0; }
.jump { display: flex; flex-wrap: wrap; gap: 8px; margin: 28px 0 0; padding: 0; list-style: none; }
.jump a { display: block; padding: 4px 12px; border: 1px solid var(--line); border-radius: 99px; background: var(--card);
  color: var(--accent); font-size: 0.9rem; text-decoration: none; }
.jump a:hover, .jump a:focus { border-color: var(--accent); }
.object { display: grid; grid-template-columns: minmax(0, 1fr); gap: 16px; margin-top: 14px; }
figure { margin: 0; min-width: 0; }
figure > svg { display: block; width: 100%; height: auto; color: var(--ink); }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 0 0 4px; padding: 0; list-style: none;
  font-size: 0.85rem; color: var(--soft); }
.sky .legend { justify-content: center; margin: 6px 0 0; }
.legend li { display: flex; align-items: center; gap: 6px; }
.legend svg { width: 14px; height: 12px; flex: none; }
.cutouts { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 8px; }
.cutouts img, .cutouts .none { display: flex; width: 100%; aspect-ratio: 1; border-radius: 6px; object-fit: contain;
  image-rendering: pixelated; border: 1px solid var(--line); align-items: center; justify-content: center; }
.cutouts .none { color: var(--soft); font-size: 0.85rem; text-align: center; border-style: dashed; }
figcaption { color: var(--soft); font-size: 0.85rem; text-align: center; margin-top: 2px; }
table { border-collapse: collapse; width: 100%; font-size: 0.92rem; margin-top: 10px; }
th, td { text-align: left; vertical-align: top; padding: 6px 0; border-top: 1px solid var(--line); }
tr:first-child > * { border-top: 0; }
th { color: var(--soft); font-weight: 400; padding-right: 16px; width: 40%; }
td { font-variant-numeric: tabular-nums; }
footer { padding-top: 8px; padding-bottom: 40px; color: var(--soft); font-size: 0.85rem; }
@media (min-width: 860px) {
  .card { padding: 24px 28px; }
  .object { grid-template-columns: minmax(0, 1.75fr) minmax(0, 1fr); gap: 32px; } }
"""

_MARKERS = {
    "o": '<circle cx="7" cy="6" r="4"/>',
    "v": '<path d="M2.5 2.5h9L7 10.5z"/>',
    "D": '<path d="M7 1.5 11.5 6 7 10.5 2.5 6z"/>',
    "-": '<path d="M0 6h14"/>',
}


def whole_page(title: str, body: str, *, made_with: str) -> str:
    """Return the document around a body that is HTML already."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
{body}
<footer>{text(made_with)}</footer>
</body>
</html>
"""


def text(words: str) -> str:
    """Return text as HTML."""
    return escape(words)


def numbers(pairs: Iterable[tuple[str, str]]) -> str:
    """Return the summary: large values over their small names."""
    items = "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in pairs)
    return f'<dl class="numbers">{items}</dl>' if items else ""


def facts_table(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a table of names and values."""
    rows = "".join(
        f'<tr><th scope="row">{text(name)}</th><td>{text(value)}</td></tr>' for name, value in pairs
    )
    return f"<table>{rows}</table>" if rows else ""


def jump_list(names: Sequence[str]) -> str:
    """Return links to the objects; a single object needs none."""
    if len(names) < 2:
        return ""
    items = "".join(
        f'<li><a href="#object-{number}">{text(name)}</a></li>' for number, name in enumerate(names, 1)
    )
    return f'<nav aria-label="Objects"><ul class="jump">{items}</ul></nav>'


def legend_list(entries: Iterable[Entry]) -> str:
    """Return a legend that wraps on narrow screens."""
    return f'<ul class="legend">{"".join(_legend_item(entry) for entry in entries)}</ul>'


def image(png_base64: str, caption: str) -> str:
    """Return one image with its caption."""
    name = text(caption)
    return (
        f'<figure><img alt="{name} image" src="data:image/png;base64,{png_base64}">'
        f"<figcaption>{name}</figcaption></figure>"
    )


def no_image(reason: str, caption: str) -> str:
    """Return the empty place of an image."""
    return f'<figure><div class="none">{text(reason)}</div><figcaption>{text(caption)}</figcaption></figure>'


def _legend_item(entry: Entry) -> str:
    label = f"<span>{text(entry.label)}</span>"
    if entry.colour is None:
        return f"<li>{label}</li>"
    fill = entry.colour if entry.filled else "none"
    paint = f'fill="{fill}" stroke="{entry.colour}" stroke-width="1.4"'
    return (
        f'<li><svg viewBox="0 0 14 12" aria-hidden="true" {paint}>{_MARKERS[entry.marker]}</svg>{label}</li>'
    )
