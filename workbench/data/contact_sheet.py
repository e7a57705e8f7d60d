"""One PNG with a grid of images and their captions."""

import itertools
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from workbench.data.dataset import Dataset, spread
from workbench.data.unusable import ImageError
from workbench.files import explained, write_atomically

NUM_SHOWN_IMAGES = 36
NUM_COLUMNS = 6
CELL = 220  # largest width and height of an image, in pixels
MARGIN = 14
NUM_LINES = 4
LINE = 17
FONT_SIZE = 13
PAPER, INK, RED = "white", "#222222", "#b3261e"
LONGEST = 400  # characters of a caption that are laid out; more never fit


def contact_sheet(dataset: Dataset, num_images: int = NUM_SHOWN_IMAGES) -> Image.Image:
    """Images spread over the dataset, each scaled to its cell, above its first caption.

    An unusable image shows the reason instead, in red.
    """
    indices = spread(len(dataset), num_images)
    num_rows = -(-len(indices) // NUM_COLUMNS)
    step_x, step_y = CELL + MARGIN, CELL + NUM_LINES * LINE + MARGIN
    sheet = Image.new("RGB", (NUM_COLUMNS * step_x + MARGIN, num_rows * step_y + MARGIN), PAPER)
    draw, font = ImageDraw.Draw(sheet), _font()
    for index, (row, column) in zip(indices, itertools.product(range(num_rows), range(NUM_COLUMNS)), strict=False):
        left, top = MARGIN + column * step_x, MARGIN + row * step_y
        text, color = _paste(sheet, dataset, index, left, top)
        for number, line in enumerate(wrapped(text, font)):
            draw.text((left, top + CELL + 4 + number * LINE), line, fill=color, font=font)
    return sheet


def write_sheet(dataset: Dataset, path: Path) -> None:
    """Writes the contact sheet as a PNG file.

    Raises:
        ValueError: the file cannot be written.
    """
    # Encoded in memory first, so that the error on a full disk has the size of the whole file.
    content = BytesIO()
    contact_sheet(dataset).save(content, "PNG")
    with explained(path, "name another with --sheet FILE.png"):
        write_atomically(path, content.getvalue())


def _paste(sheet: Image.Image, dataset: Dataset, index: int, left: int, top: int) -> tuple[str, str]:
    """Pastes the image at the bottom of its cell; returns the text below it and its color."""
    try:
        sample = dataset[index]
    except ImageError as error:
        return f"{error.reason}: {dataset.text(index).key}", RED
    width, height = (max(1, round(side * CELL / max(sample.image.size))) for side in sample.image.size)
    image = sample.image.resize((width, height), Image.Resampling.LANCZOS)
    sheet.paste(image, (left, top + CELL - image.height))
    return sample.captions[0], INK


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans (Latin, Greek, Cyrillic) as shipped with matplotlib."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), FONT_SIZE) if path.exists() else ImageFont.load_default(FONT_SIZE)


def wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int = CELL) -> list[str]:
    """At most ``NUM_LINES`` lines of ``width`` pixels, cut with an ellipsis; unprintable characters become spaces."""
    lines: list[str] = []
    for word in _words(text[:LONGEST]):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if len(lines) == NUM_LINES:
            lines[-1] = _cut(f"{lines[-1]}…", font, width)
            break
        lines.append(_cut(word, font, width))
    return lines


def _words(text: str) -> Sequence[str]:
    return "".join(letter if letter.isprintable() else " " for letter in text).split()


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, or its longest prefix that fits with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    fitting: Iterator[str] = (f"{text[:end].rstrip('…')}…" for end in range(len(text) - 1, 0, -1))
    return next((shorter for shorter in fitting if font.getlength(shorter) <= width), "…")
