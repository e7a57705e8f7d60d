"""Makes the shipped emoji shards: ``python -m tests.tools.publish_emoji data_samples/emoji``."""

import json
import sys
from importlib.metadata import version
from pathlib import Path

from workbench.data.samples.emoji import WORDS_FILE, EmojiFont, draw, drawable, select
from workbench.data.samples.write import write_shards

SHIPPED = ("train", "validation", "test")  # the teacher's images would take another 10 MB


def publish(folder: Path) -> None:
    """Writes the shipped splits, the words of all training captions, and the versions of font and names.

    Raises:
        ValueError: the font or the package with the names is missing, or the folder holds other samples.
    """
    font = EmojiFont()
    captions, left_out = drawable(font)
    for split in SHIPPED:
        write_shards(draw(split), folder / split, image_format="webp", pairs_per_shard=2000)
    words = {word for s in select(captions, "teacher") for caption in captions[s] for word in caption.split()}
    (folder / WORDS_FILE).write_text("".join(f"{word}\n" for word in sorted(words)), encoding="utf-8")
    source = {
        "font": f"Noto Color Emoji {font.version}",
        "names": f"emoji {version('emoji')}",
        "num_emoji_drawn": len(captions),
        "num_left_out": dict(left_out),
    }
    (folder / "source.json").write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    publish(Path(sys.argv[1]))
