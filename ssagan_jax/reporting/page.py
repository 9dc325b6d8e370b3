"""The report as one HTML page without scripts or links, with embedded images."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape, unescape

import numpy as np
from PIL import Image

from ssagan_jax.reporting.figures import Panel
from ssagan_jax.reporting.score_table import ScoreTable

MARK = '<meta name="generator" content="ssagan_jax.report">'
_FILES = '<meta name="files" content="'
_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
h3 { font-size: 1rem; margin-bottom: .3rem; }
p { margin: .4rem 0; } .note, figcaption, details { font-size: .85rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0; }
th, td { border-bottom: 1px solid #8886; padding: .3rem .7rem; text-align: right; }
th { vertical-align: bottom; } td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 6rem; }
li { overflow-wrap: anywhere; margin: .4rem 0; }
figure { margin: 0; } img { display: block; max-width: 100%; height: auto; }
.charts, .samples { display: grid; gap: 1rem; }
.charts { grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)); }
.charts img { width: 100%; border-radius: .3rem; }
.samples { grid-template-columns: repeat(auto-fill, minmax(min(21rem, 100%), 1fr)); }
.samples.wide { grid-template-columns: 1fr; }
.pictures { display: grid; gap: .4rem; margin: .3rem 0 1rem;
  grid-template-columns: repeat(auto-fill, minmax(6.3rem, 1fr)); }
.pictures img { width: 100%; }
.pictures figcaption { line-height: 1.2; }
"""


def png(image: np.ndarray | Image.Image) -> bytes:
    """An image, or its pixels u8[H, W, 3], as the bytes of a PNG."""
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def page(
    title: str, intro: Sequence[str], sections: Iterable[tuple[str, str]], files: Iterable[str]
) -> str:
    """The whole page: introductory lines of text, then sections (heading, HTML).

    Names of the `files` that belong beside it are kept in its head.
    """
    names = "/".join(files)
    parts = [f"<h2>{escape(heading)}</h2>\n{content}" for heading, content in sections]
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'{MARK}\n{_FILES}{escape(names)}">',
            f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
            f"<h1>{escape(title)}</h1>",
            *(f"<p>{escape(line)}</p>" for line in intro),
            *parts,
            "</body>\n</html>\n",
        ]
    )


def files_beside(page: str) -> list[str]:
    """The names of the files that belong beside a page."""
    _, _, rest = page.partition(_FILES)
    return unescape(rest.partition('">')[0]).split("/")


def note(text: str) -> str:
    """A paragraph of small text."""
    return f'<p class="note">{escape(text)}</p>'


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of text; wide tables scroll horizontally."""
    return _table(titles, ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows))


def _table(titles: Sequence[str], rows: Iterable[str]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in titles)
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def score_table(scores: ScoreTable) -> str:
    """Table I, its notes, and the recipe of every number."""
    rows = []
    for row in scores.rows:
        cells = f"<td>{escape(row.method)}</td><td>{row.epoch:.1f}</td>"
        for name in scores.names:
            number, text = scores.recipe(row, name), escape(scores.text(row, name))
            shown = f"<b>{text}</b>" if scores.best(row, name) else text
            cells += f"<td>{shown}{f'<sup>{number}</sup>' if number else ''}</td>"
        rows.append(cells)
    titles = ["Method", "Epoch", *(scores.column(name).label for name in scores.names)]
    items = "\n".join(
        f"<li>{escape(labels)}: {escape(recipe)}</li>" for labels, recipe in scores.recipes
    )
    html = _table(titles, rows) + "".join(map(note, scores.notes))
    summary = "<summary>How each number was computed</summary>"
    return html + (f"<details>{summary}\n<ol>\n{items}\n</ol></details>" if items else "")


def charts(images: Iterable[tuple[str, bytes]]) -> str:
    """Charts (alternative text, PNG), side by side if there is room."""
    drawn = "\n".join(f"<figure>{_image(data, text)}</figure>" for text, data in images)
    return f'<div class="charts">\n{drawn}\n</div>'


def samples(panels: Sequence[Panel], wide: bool = False) -> str:
    """The captions that the panels share, each with the images of all runs.

    A real image is shown once. Captions are placed side by side unless `wide`.
    """
    parts = []
    for index, (caption, _) in enumerate(panels[0].rows):
        figures: dict[tuple[str, bytes], str] = {}
        for panel in panels:
            for title, image in zip(panel.column_titles, panel.rows[index][1], strict=True):
                text = title if title == "real" else f"{panel.run.method}, {title}"
                figures[text, image.tobytes()] = (
                    f"<figure>{_image(png(image), f'{text}: {caption}')}"
                    f"<figcaption>{escape(text)}</figcaption></figure>"
                )
        parts.append(
            f'<div><p>{escape(caption)}</p>\n<div class="pictures">\n'
            + "\n".join(figures.values())
            + "\n</div></div>"
        )
    sources = sorted(
        f"{panel.run.method}: {panel.source}, epoch {panel.run.epoch(panel.step):.1f}."
        for panel in panels
    )
    start = f'<div class="{"samples wide" if wide else "samples"}">\n'
    return start + "\n".join(parts) + "\n</div>" + "".join(map(note, sources))


def _image(data: bytes, text: str) -> str:
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
    encoded = base64.b64encode(data).decode()
    return (
        f'<img src="data:image/png;base64,{encoded}" width="{width}" height="{height}" '
        f'alt="{escape(text)}">'
    )
