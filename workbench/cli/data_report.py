"""What was found out about a data set, as tables."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from workbench.cli.output import print_line, print_rows

if TYPE_CHECKING:
    from workbench.data.check import Report

NUM_CLASSES = 10
LONGEST = 100  # letters of a caption


def print_report(report: "Report") -> None:
    """Captions, pictures and classes, then what to do about them."""
    document = report.to_document()
    pictures, duplicates = document["pictures"], document["duplicate_captions"]
    rows = [
        ["pairs", f"{report.num_pairs:,}"],
        ["captions", f"{document['num_captions']:,}, {document['num_distinct_captions']:,} of them different"],
        ["words a caption", _spread(document["words_per_caption"])],
        ["cut at 77 tokens", f"{report.share_cut:.1%}"],
        ["captions not UTF-8", f"{document['num_captions_not_utf8']:,}"],
        ["captions with line breaks", f"{document['num_captions_with_line_breaks']:,}"],
        ["captions left out", _left_out(report.reading.left_out)],
        ["shards left out", f"{len(report.reading.skipped_shards):,}"],
        ["pairs that share a caption", f"{duplicates['num_pairs']:,}"],
        [
            "  R@1 of a perfect model",
            f"{duplicates['ceiling_text_to_image_r1']:.3f} among {duplicates['block_size']:,}",
        ],
        ["pictures looked at", f"{pictures['num_looked_at']:,}"],
        ["width, pixels", _spread(pictures["width_px"])],
        ["height, pixels", _spread(pictures["height_px"])],
        ["copies of others", f"{pictures['num_duplicates']:,}"],
        ["cannot be used", f"{pictures['num_unusable']:,}"],
    ]
    print_rows(["", "found"], rows, num_words=2)
    if report.reading.lines_are_captions:
        print_line("most .txt have several lines: every line was read as a caption")
    for example in duplicates["most_shared"]:
        print_line(f"  {example['num_pictures']:,} pictures: {_shown(example['caption'])}")
    for keys in pictures["duplicates"]:
        print_line(f"  one and the same: {', '.join(map(_shown, keys[:4]))}{', ...' if len(keys) > 4 else ''}")
    for reason, count in pictures["unusable"].items():
        print_line(f"  {count:,} {reason}, such as {pictures['unusable_examples'][reason]}")
    if report.class_sizes:
        _print_classes(report.class_sizes)


def _print_classes(sizes: Mapping[str, int]) -> None:
    rows = [[_shown(name), f"{count:,}"] for name, count in sizes.items()]
    left_out = len(rows) - 2 * NUM_CLASSES
    if left_out > 1:
        rows = [*rows[:NUM_CLASSES], [f"... {left_out:,} more", ""], *rows[-NUM_CLASSES:]]
    print_rows(["class", "pictures"], rows, f"{len(sizes):,} classes")


def _left_out(reasons: Mapping[str, int]) -> str:
    counted = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
    return f"{sum(reasons.values()):,}" + (f" ({counted})" if counted else "")


def _spread(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "none"
    return f"{found['min']:,} to {found['max']:,}, median {found['median']:,g}"


def _shown(text: str) -> str:
    """A caption or a key as a terminal may show it: without control characters, and on one line."""
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[:LONGEST])
    return shown + ("\N{HORIZONTAL ELLIPSIS}" if len(text) > LONGEST else "")
