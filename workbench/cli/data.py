"""``workbench data``: draw sample data, and check data before training."""

import sys
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from workbench.cli.caches import prepare
from workbench.cli.completion import complete_data
from workbench.cli.options import Json, SkipBadShards, writing
from workbench.cli.output import print_json, print_line, print_rows
from workbench.data.check import check as check_data
from workbench.data.contact_sheet import write_sheet
from workbench.data.samples.registry import check_drawable, draw_shards, sample_set
from workbench.data.samples.write import num_pairs_in
from workbench.data.spec import open_dataset
from workbench.data.unusable import RefusedError

NUM_CLASSES = 10  # classes shown from each end of a long list
LONGEST = 100  # characters shown of a caption


def print_report(document: Mapping[str, Any]) -> None:
    """Print tables of captions, images and classes, and the problems found."""
    images, duplicates = document["pictures"], document["duplicate_captions"]
    rows = [
        ["pairs", f"{document['num_pairs']:,}"],
        ["captions", f"{document['num_captions']:,}, {document['num_distinct_captions']:,} of them distinct"],
        ["synthetic captions", f"{document['num_synthetic_captions']:,}"],
        ["words per caption", _spread(document["words_per_caption"])],
        ["cut at 77 tokens", f"{document['share_cut_at_77_tokens']:.1%}"],
        ["captions not UTF-8", f"{document['num_captions_not_utf8']:,}"],
        ["captions with line breaks", f"{document['num_captions_with_line_breaks']:,}"],
        ["captions left out", _left_out(document["captions_left_out"])],
        ["shards left out", f"{len(document['skipped_shards']):,}"],
        ["pairs that share a caption", f"{duplicates['num_pairs']:,}"],
        [
            "  R@1 of a perfect model",
            f"{duplicates['ceiling_text_to_image_r1']:.3f} among {duplicates['block_size']:,}",
        ],
        ["images checked", f"{images['num_looked_at']:,}"],
        ["width, pixels", _spread(images["width_px"])],
        ["height, pixels", _spread(images["height_px"])],
        ["duplicate images", f"{images['num_duplicates']:,}"],
        ["unusable images", f"{images['num_unusable']:,}"],
    ]
    print_rows(["", "found"], rows, num_words=2)
    if document["lines_are_captions"]:
        print_line("most .txt files have several lines: each line is read as a caption")
    for example in duplicates["most_shared"]:
        print_line(f"  {example['num_pictures']:,} images: {_shown(example['caption'])}")
    for keys in images["duplicates"]:
        print_line(f"  identical images: {', '.join(map(_shown, keys[:4]))}{', ...' if len(keys) > 4 else ''}")
    for reason, count in images["unusable"].items():
        print_line(f"  {count:,} {reason}, such as {images['unusable_examples'][reason]}")
    if document["classes"]:
        _print_classes(document["classes"])


def _print_classes(sizes: Mapping[str, int]) -> None:
    rows = [[_shown(name), f"{count:,}"] for name, count in sizes.items()]
    left_out = len(rows) - 2 * NUM_CLASSES
    if left_out > 1:  # a line for one class takes no more room than "... 1 more"
        rows = [*rows[:NUM_CLASSES], [f"... {left_out:,} more", ""], *rows[-NUM_CLASSES:]]
    print_rows(["class", "images"], rows, f"{len(sizes):,} classes")


def _left_out(reasons: Mapping[str, int]) -> str:
    counted = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
    return f"{sum(reasons.values()):,}" + (f" ({counted})" if counted else "")


def _spread(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "none"
    return f"{found['min']:,} to {found['max']:,}, median {found['median']:,g}"


def _shown(text: str) -> str:
    """A caption or key on one line, shortened, without control characters."""
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[:LONGEST])
    return shown + ("\N{HORIZONTAL ELLIPSIS}" if len(text) > LONGEST else "")


REAL_CONTEXT = 77  # context length of CLIP's text towers

app = typer.Typer(help="Make, inspect and prepare data.", no_args_is_help=True)
app.command()(prepare)


@app.callback()
def _group() -> None:
    """Make, inspect and prepare data."""


Split = Annotated[
    list[str] | None, typer.Option("--split", help="train, teacher, validation or test; all four if not given.")
]


@app.command()
def samples(
    name: Annotated[str, typer.Argument(metavar="NAME", help="scenes or emoji.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the splits.")],
    split: Split = None,
    num_pairs: Annotated[int, typer.Option("--pairs", min=0, help="Pairs per split; 0 for the default size.")] = 0,
    json: Json = False,
) -> None:
    """Draw sample images with captions as webdataset shards.

    Examples:

        workbench data samples scenes --out pairs --split train --pairs 100000
        workbench data samples emoji --out emoji
    """
    splits = split or list(sample_set(name).default_pairs)
    for one in splits:  # all checks first, so that an error leaves no splits behind
        check_drawable(name, one, num_pairs, out / one)
    drawn = {}
    for one in splits:
        with writing(out / one):
            drawn[one] = draw_shards(name, one, num_pairs, out / one)
    counts = {one: num_pairs_in(folder) for one, folder in drawn.items()}
    if json:
        print_json({"name": name, "dir": str(out.absolute()), "num_pairs": counts})
        return
    for one, folder in drawn.items():
        print_line(f"{folder}: {counts[one]:,} pairs")
    print_line(f"train on them: workbench train --set data.train={quote(str(out / splits[0]))}")


Spec = Annotated[
    str,
    typer.Argument(
        metavar="SPEC",
        help="Data: a path, samples:, coco:, karpathy:, folder:, datasets:, or a mixture.",
        autocompletion=complete_data,
    ),
]
Sheet = Annotated[
    Path | None, typer.Option("--sheet", metavar="FILE.png", help="Write a sheet of some images with captions.")
]


@app.command()
def check(
    spec: Spec,
    num_images: Annotated[int, typer.Option("--num", min=1, help="Number of images to check, drawn at random.")] = 1000,
    every_image: Annotated[bool, typer.Option("--all", help="Check every image.")] = False,
    sheet: Sheet = None,
    skip_bad_shards: SkipBadShards = False,
    json: Json = False,
) -> None:
    """Check data before training: sizes, captions, duplicates and unusable images.

    Reads all captions. Exit status 1 if training would refuse the data, 2 if it cannot be opened.
    Where training would refuse it for its captions or shards, the problem is all that --json has.

    Examples:

        workbench data check pairs.csv --sheet pairs.png
        workbench data check coco:captions_val2017.json@val2017 --all
        workbench data check "folder:flowers*2 + pairs/{0000..0009}.tar*1" --json
        workbench data check "pairs/{0000..0009}.tar" --skip-bad-shards
    """
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise ValueError(f"--sheet {sheet}: the file name must end in .png")
    try:
        dataset = open_dataset(spec, "train", bad_shards="skip" if skip_bad_shards else "refuse")
    except RefusedError as error:
        if json:
            print_json({"spec": spec, "problem": str(error)})
        raise _refused(str(error)) from None
    from workbench.models.tokenizers import BytePairTokenizer

    report = check_data(dataset, 0 if every_image else num_images, BytePairTokenizer(REAL_CONTEXT + 1))
    if sheet is not None:
        write_sheet(dataset, sheet)
    if json:
        print_json({"spec": spec} | report | {"sheet": str(sheet.absolute()) if sheet else None})
    else:
        print_report(report)
        if sheet is not None:
            print_line(f"some images with captions: {sheet}")
    if report["problem"]:
        raise _refused(report["problem"])


def _refused(problem: str) -> typer.Exit:
    """Print why training would refuse the data; returns the exit to raise."""
    print(f"workbench: training would refuse this data: {problem}", file=sys.stderr)
    return typer.Exit(1)
