"""A pair as a card beside a matrix."""

from base64 import b64encode
from html import escape

THUMBNAIL_PX = 112


def card(title: str, picture: bytes | None, caption: str) -> str:
    """One item as HTML: what it is, its picture if there is one, its caption."""
    image = ""
    if picture:
        kind = "webp" if picture[8:12] == b"WEBP" else "png" if picture[1:4] == b"PNG" else "jpeg"
        source = f"data:image/{kind};base64,{b64encode(picture).decode()}"
        image = f'<img src="{source}" width="{THUMBNAIL_PX}" style="image-rendering:pixelated"><br>'
    return (
        f'<div style="display:inline-block;width:220px;vertical-align:top;line-height:1.35;margin-right:12px">'
        f"<b>{escape(title)}</b><br>{image}{escape(caption)}</div>"
    )
