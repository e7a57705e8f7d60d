"""Some pictures of a data set with their captions, on one sheet."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from workbench.data.dataset import Dataset
from workbench.data.sources.files import spread
from workbench.data.unusable import ImageError
from workbench.files import explained, new_file

NUM_SHOWN_IMAGES = 36
NUM_COLUMNS = 6
CELL = 220  # pixels that a picture has at most, across and down
MARGIN = 14
NUM_LINES = 4
LINE = 17
FONT_SIZE = 13
PAPER, INK, RED = "white", "#222222", "#b3261e"
LONGEST = 400  # letters of a caption that are looked at: more never fit


def contact_sheet(dataset: Dataset, num_pictures: int = NUM_SHOWN_IMAGES) -> Image.Image:
    """Pictures from all over the data, all as wide or as high as a cell, each above the first of its captions.

    A picture that cannot be used leaves its reason, in red.
    """
    indices = spread(len(dataset), num_pictures)
    num_rows = -(-len(indices) // NUM_COLUMNS)
    step_x, step_y = CELL + MARGIN, CELL + NUM_LINES * LINE + MARGIN
    sheet = Image.new("RGB", (NUM_COLUMNS * step_x + MARGIN, num_rows * step_y + MARGIN), PAPER)
    draw, font = ImageDraw.Draw(sheet), _font()
    for index, (row, column) in zip(indices, itertools.product(range(num_rows), range(NUM_COLUMNS)), strict=False):
        left, top = MARGIN + column * step_x, MARGIN + row * step_y
        text, colour = _paste(sheet, dataset, index, left, top)
        for number, line in enumerate(wrapped(text, font)):
            draw.text((left, top + CELL + 4 + number * LINE), line, fill=colour, font=font)
    return sheet


def write_sheet(dataset: Dataset, path: Path) -> None:
    """Draws the sheet into a PNG file.

    Raises:
        ValueError: the file cannot be written.
    """
    sheet = contact_sheet(dataset)
    with explained(path, "name another with --sheet FILE.png"), new_file(path) as temporary:
        sheet.save(temporary, "PNG")


def _paste(sheet: Image.Image, dataset: Dataset, index: int, left: int, top: int) -> tuple[str, str]:
    """Puts the picture at the bottom of its cell; returns what to write below it, and in which colour."""
    try:
        sample = dataset[index]
    except ImageError as error:
        return f"{error.reason}: {dataset.text(index).key}", RED
    width, height = (max(1, round(side * CELL / max(sample.image.size))) for side in sample.image.size)
    image = sample.image.resize((width, height), Image.Resampling.LANCZOS)
    sheet.paste(image, (left, top + CELL - image.height))
    return sample.captions[0], INK


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans, which has Greek, Cyrillic and more, from matplotlib's folder."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), FONT_SIZE) if path.exists() else ImageFont.load_default(FONT_SIZE)


def wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int = CELL) -> list[str]:
    """As many lines as there is room for, cut with an ellipsis; without letters that no font shows."""
    lines: list[str] = []
    for word in _pieces(text[:LONGEST]):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if len(lines) == NUM_LINES:
            lines[-1] = _cut(f"{lines[-1]}…", font, width)
            break
        lines.append(_cut(word, font, width))
    return lines


def _pieces(text: str) -> Sequence[str]:
    return "".join(letter if letter.isprintable() else " " for letter in text).split()


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, or as much of it as fits before an ellipsis."""
    if font.getlength(text) <= width:
        return text
    fitting: Iterator[str] = (f"{text[:end].rstrip('…')}…" for end in range(len(text) - 1, 0, -1))
    return next((shorter for shorter in fitting if font.getlength(shorter) <= width), "…")
