"""HTML of the page's answers; text is escaped, and never markup."""

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from ssagan_jax.inference.image_grid import encode_gif
from ssagan_jax.serving.painting import Painting


def escape_text(text: str) -> str:
    """Text as HTML; braces too, which Gradio would take for a template's."""
    return escape(text).replace("{", "&#123;").replace("$", "&#36;")


def notes_html(notes: Sequence[str]) -> str:
    """Lines of plain text as paragraphs."""
    return "".join(f"<p>{escape_text(note)}</p>" for note in notes)


def masks_html(painting: Painting) -> str:
    """A table with the masks of each image, from coarse to fine."""
    if not painting.masks or not painting.masks[0]:
        return "<p>This generator has no fusion masks.</p>"
    heads = "".join(f"<th>{mask.width} &times; {mask.height}</th>" for mask in painting.masks[0])
    rows = "".join(
        f"<tr><th>{number}</th>{''.join(f'<td>{_image(each)}</td>' for each in row)}</tr>"
        for number, row in enumerate(
            ([i, *m] for i, m in zip(painting.images, painting.masks, strict=True)), 1
        )
    )
    return f'<div class="masks"><table><tr><th></th><th></th>{heads}</tr>{rows}</table></div>'


def animation_html(images: Sequence[Image.Image]) -> str:
    """Images as an animation that can be downloaded."""
    source = _data_url("gif", encode_gif(images))
    return (
        f'<div class="animation"><img src="{source}" alt="animation">'
        f'<p><a href="{source}" download="interpolation.gif">Download the GIF</a></p></div>'
    )


def _image(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f'<img src="{_data_url("png", buffer.getvalue())}" alt="">'


def _data_url(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
