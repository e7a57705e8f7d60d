"""CSV and TSV as CLIP-KD, open_clip, pandas and spreadsheets write them, and damaged ones."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.data.sources.csv import open_csv
from workbench.data.spec import open_dataset

WriteImages = Callable[..., list[str]]


@pytest.fixture
def names(write_images: WriteImages) -> list[str]:
    return write_images(3)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], str]:
    """Writes ``pairs.csv`` into the test's folder."""

    def write(content: str | bytes, name: str = "pairs.csv") -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def table(rows: list[list[str]], separator: str = ",", end: str = "\n") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator=end).writerows(rows)
    return text.getvalue()


@pytest.mark.parametrize("separator", list(",\t;|"))
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "header", [["filepath", "title"], ["caption", "filepath"], ["id", " Image ", "CAPTION", "url"]]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_separators_and_quoting(
    names: list[str], write: Callable[..., str], separator: str, end: str, header: list[str], encoding: str
) -> None:
    captions = ["a dog, a cat; and | more", 'the "best"\tcup', "two\nlines of caf\u00e9"]
    fields = {"filepath": names, "image": names, "title": captions, "caption": captions}
    columns = [fields.get(name.strip().lower(), ["0", "1", "2"]) for name in header]
    rows = [header, *(list(row) for row in zip(*columns, strict=True))]
    dataset = open_csv(write(table(rows, separator, end).encode(encoding)))
    assert [dataset.text(index).key for index in range(3)] == names
    assert [dataset.text(index).captions for index in range(3)] == [(caption,) for caption in captions]
    assert dataset[2].image.size == (40, 32)


def test_a_spec_ends_in_csv_or_tsv(names: list[str], write: Callable[..., str]) -> None:
    content = table([["filepath", "title"], *([name, "a"] for name in names)], "\t")
    for name in ("pairs.csv", "pairs.tsv", "PAIRS.TSV"):
        assert len(open_dataset(write(content, name), "train", 2)) == 2


def test_rows_of_one_path_are_captions_of_one_image(names: list[str], write: Callable[..., str]) -> None:
    rows = [["filepath", "title"], [names[0], "a"], [names[1], "b"], [names[0], "c"]]
    dataset = open_csv(write(table(rows)))
    assert [dataset.text(index).captions for index in range(len(dataset))] == [("a", "c"), ("b",)]
    assert len(open_csv(write(table(rows)), 1)) == 1


def test_paths_are_relative_to_the_file_or_the_working_directory(
    names: list[str], write: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lists").mkdir()
    content = table([["filepath", "title"], *([name, "a"] for name in names)])
    beside = open_csv(write(content))
    monkeypatch.chdir(tmp_path)
    from_here = open_csv(write(content, "lists/pairs.csv"))
    assert from_here[0].image.tobytes() == beside[0].image.tobytes()
    assert from_here.fingerprint == beside.fingerprint
    whole = open_csv(write(table([["filepath", "title"], [str(tmp_path / names[0]), "a"]]), "lists/whole.csv"))
    assert whole[0].image.tobytes() == beside[0].image.tobytes()
    monkeypatch.chdir("/")
    with pytest.raises(
        ValueError, match=r"no image of '.*lists/pairs\.csv' exists in '.*lists' or '/', first 'images/k000.jpg'"
    ):
        open_csv(str(tmp_path / "lists" / "pairs.csv"))


HOSTILE = ["x" * 10_000, "a\0b", "\x1b[31mred\x1b[0m", "[/b] [red]", "=1+1", "\U0001f389 " * 50, "\u202eabc"]


@pytest.mark.parametrize("caption", HOSTILE)
def test_a_caption_may_be_anything(names: list[str], write: Callable[..., str], caption: str) -> None:
    dataset = open_csv(write(table([["filepath", "title"], [names[0], caption]])))
    assert dataset.text(0).captions == (caption.strip(),)


def test_bytes_that_are_not_utf8_are_replaced(names: list[str], write: Callable[..., str]) -> None:
    content = f"filepath,title\n{names[0]},caf".encode() + b"\xe9 au lait\n"
    assert open_csv(write(content)).text(0).captions == ("caf\ufffd au lait",)


def test_a_header_in_another_encoding(names: list[str], write: Callable[..., str]) -> None:
    content = b"filepath,title,gr\xf6\xdfe\n" + f"{names[0]},a,3\n".encode()
    assert open_csv(write(content)).text(0).captions == ("a",)


def test_rows_without_a_path_or_a_caption_are_reported(names: list[str], write: Callable[..., str]) -> None:
    content = f"filepath,title\n{names[0]},a\n{names[1]}\n\n,b\n{names[2]},  \n"
    with pytest.warns(UserWarning, match=r"^left out captions of '.*': 3 of 4 \(2 blank, 1 no path; such as line 3\)$"):
        assert len(open_csv(write(content))) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "its columns are none, since it is empty"),
        ("filepath,title\n", "has no row with both a path and a caption"),
        (
            "a.jpg,a dog\nb.jpg,a cat\n",
            "needs one column 'filepath' and one 'title' .* its columns are 'a.jpg', 'a dog'",
        ),
        ("filepath,titel\na.jpg,a dog\n", "its columns are 'filepath', 'titel'"),
        ("url\ttext\nhttp://x/a.jpg\ta\n", "its columns are 'url', 'text'"),
        ("image,text\nhttp://x/a.jpg,a\n", "by URL, first 'http://x/a.jpg': download them first"),
        ("filepath,title,caption\na.jpg,a,b\n", "one 'title' or 'caption' .* 'filepath', 'title', 'caption'"),
        ("title,filepath\na dog, asleep,a.jpg\n", "line 2: 3 fields, but the header has 2: put captions"),
        ("filepath,title,n\na.jpg,a dog, asleep,1\n", "line 2: 4 fields, but the header has 3: put captions"),
        ("filepath,title\na dog,asleep,a.jpg\n", "line 2: 3 fields, but the header has 2: put captions"),
        ('filepath,title\na.jpg,"open\n' + "b.jpg,more\n" * 20_000, "line 2: unclosed quotation mark"),
        ("filepath,title\na.jpg,a dog\n", "no image of '.*' exists in '.*' or '.*', first 'a.jpg'"),
        ("filepath,title\n\x1b[31m.jpg,a dog\n", r"exists in .*, first '\\x1b\[31m.jpg'"),
        (b"PK\x03\x04" + bytes(range(11, 256)) * 9, "is not a table of text: its first line must name the columns"),
        (b"\x89PNG\r\n\x1a\n", "is not a table of text"),
        (b"\xff\xfe\x00\xd8" * 50_000, "is not a table of text"),
        (b"x" * 1_000_000, "is not a table of text"),
        ("one\0two", "is not a table of text"),
    ],
)
@pytest.mark.filterwarnings("ignore:left out")
def test_bad_tables_are_one_line_with_the_remedy(write: Callable[..., str], content: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^[^\n]*({message})[^\n]*$") as refused:
        open_csv(write(content))
    assert len(str(refused.value)) < 400


RAW = ['"Hello', "plain", '"World" she said', "he said", '"Stop"', 'a "b" c']  # as a file without any quoting has them


def test_a_quotation_mark_in_a_tsv_is_a_plain_character(write_images: WriteImages, write: Callable[..., str]) -> None:
    names = write_images(6)
    rows = [f"{name}\t{caption}" for name, caption in zip(names, RAW, strict=True)]
    for header in ("filepath\ttitle", "filepath\ttitle\tid"):
        dataset = open_csv(write("\n".join([header, *rows]), "pairs.tsv"))
        assert [dataset.text(index).captions for index in range(len(dataset))] == [(caption,) for caption in RAW]


def test_marks_around_a_field_of_a_tsv_quote_if_the_header_is_quoted_or_the_row_needs_them(
    names: list[str], write: Callable[..., str]
) -> None:
    fields = [f'{names[0]}\t"Stop, now"', f'{names[1]}\t"a ""b"" c"', f"{names[2]}\tlast"]
    for header, first in (("filepath\ttitle", '"Stop, now"'), ('"filepath"\t"title"', "Stop, now")):
        dataset = open_csv(write("\n".join([header, *fields])))
        assert [dataset.text(index).captions for index in range(3)] == [(first,), ('a "b" c',), ("last",)]
    dataset = open_csv(write("\n".join(["filepath\ttitle", *(f'{name}\t"a, b"' for name in names)])))
    assert [dataset.text(index).captions for index in range(3)] == [("a, b",)] * 3


def test_a_carriage_return_ends_lines_only_in_a_file_without_line_feeds(
    names: list[str], write: Callable[..., str]
) -> None:
    rows = ["filepath\ttitle", *(f"{name}\ta dog" for name in names)]
    assert len(open_csv(write("\r".join(rows)))) == 3
    dataset = open_csv(write("\r\n".join(rows).replace("a dog", "a\rdog")))
    assert [dataset.text(index).captions for index in range(3)] == [("a\rdog",)] * 3


def test_an_unclosed_quotation_mark_in_a_csv_is_refused_with_its_line(
    names: list[str], write: Callable[..., str]
) -> None:
    rows = [f"{names[0]},plain", f'{names[1]},"Hello', f'{names[2]},"World']
    for content, line in (
        (["filepath,title", *rows], 3),
        (["filepath,title", *rows[1:], rows[0], f'{names[0]},ends"'], 2),
        (["title,filepath", f'"Hello,{names[0]}', f'World",{names[1]}'], 2),
        (["title,filepath", f"plain,{names[0]}", f'"a, b,{names[1]}', f'"c",{names[2]}'], 3),
    ):
        with pytest.raises(ValueError, match=rf"line {line}: unclosed quotation mark"):
            open_csv(write("\n".join(content)))


def test_quoted_captions_with_line_breaks_and_separators_are_read_as_written(
    names: list[str], write: Callable[..., str]
) -> None:
    captions = ['two\nlines, the "second" one', "x,\n\n,y\nz, z", '"']
    for header in (["filepath", "title"], ["title", "filepath"]):
        fields = {"filepath": names, "title": captions}
        rows = [list(row) for row in zip(*(fields[name] for name in header), strict=True)]
        for separator in ",\t;":
            dataset = open_csv(write(table([header, *rows], separator)))
            assert [dataset.text(index).captions for index in range(3)] == [(caption,) for caption in captions]


def test_text_after_a_closing_mark_makes_it_a_plain_character(names: list[str], write: Callable[..., str]) -> None:
    assert open_csv(write(f'filepath,title\n{names[0]},"Hello" she said\n')).text(0).captions == ('"Hello" she said',)


@pytest.mark.parametrize("caption", ["None", "null", "nan", "NA", "N/A", "0"])
def test_words_that_pandas_reads_as_missing_are_captions(
    names: list[str], write: Callable[..., str], caption: str
) -> None:
    assert open_csv(write(f"filepath,title\n{names[0]},{caption}\n")).text(0).captions == (caption,)


def test_too_many_rows_without_a_caption_are_refused(names: list[str], write: Callable[..., str]) -> None:
    rows = [f"{names[number % 3]},{'' if number < 6 else 'a'}" for number in range(50)]
    with pytest.raises(ValueError, match=r"^too many captions of '.*pairs\.csv' cannot be used, 6 of 50 \(6 blank; "):
        open_csv(write("\n".join(["filepath,title", *rows])))


def test_captions_txt_of_flickr8k_is_a_table(
    write_images: WriteImages, write: Callable[..., str], tmp_path: Path
) -> None:
    write_images(2, "Images")
    spec = write("image,caption\nk000.jpg,A dog .\nk000.jpg,A hound .\nk001.jpg,A cat .\n", "captions.txt")
    dataset = open_dataset(spec, "train")
    assert [dataset.text(index).captions for index in range(2)] == [("A dog .", "A hound ."), ("A cat .",)]
    assert dataset[1].image.size == (40, 32)
    (tmp_path / "notes.txt").write_text("not a table\n")
    with pytest.raises(ValueError, match="needs one column 'filepath'"):
        open_dataset(str(tmp_path / "notes.txt"), "train")


def test_the_lists_of_clip_benchmark_have_bare_commas_in_captions(
    write_images: WriteImages, write: Callable[..., str]
) -> None:
    """Its flickr30k_test_karpathy.txt quotes nothing."""
    write_images(2, "Images")
    lines = ["image,caption", "k000.jpg,A dog , asleep , on grass .", 'k000.jpg,"Hot", it reads .', "k001.jpg,A cat ."]
    spec = write("\n".join(lines), "flickr30k_test_karpathy.txt")
    with pytest.warns(UserWarning, match=r"^2 rows of '.*' have more separators than columns"):
        dataset = open_dataset(spec, "test")
    assert dataset.text(0).captions == ("A dog , asleep , on grass .", '"Hot", it reads .')
    assert dataset.text(1).captions == ("A cat .",)


@pytest.mark.parametrize("name", ["results_20130124.token", "Flickr8k.token.txt"])
@pytest.mark.parametrize("folder", ["flickr30k-images", "Flicker8k_Dataset", "."])
def test_flickrs_token_files_have_no_header(
    write_images: WriteImages, write: Callable[..., str], name: str, folder: str
) -> None:
    write_images(2, folder)
    captions = ['Two men , one "tall" .', "None", "A #1 fan ."]
    rows = [f"k00{number}.jpg#{place}\t{caption}\r" for number in range(2) for place, caption in enumerate(captions)]
    dataset = open_dataset(write("\n".join(rows), name), "test")
    assert [dataset.text(index).captions for index in range(2)] == [tuple(captions)] * 2
    assert dataset[1].image.size == (40, 32)


def test_results_csv_of_flickr30k_is_a_table(write_images: WriteImages, write: Callable[..., str]) -> None:
    write_images(2, "flickr30k_images")
    rows = [f"k00{number}.jpg| {place}| caption {place} , with a comma ." for number in range(2) for place in range(5)]
    # The published file has one such row.
    rows[4] = "k000.jpg| 4   caption 4 ."
    spec = write("\n".join(["image_name| comment_number| comment", *rows, *rows[5:] * 3]), "results.csv")
    with pytest.warns(UserWarning, match=r"left out captions of '.*': 1 of 25 \(1 blank; .*line 6"):
        dataset = open_dataset(spec, "test")
    expected = [f"caption {place} , with a comma ." for place in range(5)]
    assert dataset.text(0).captions == tuple(expected[:4])
    assert dataset.text(1).captions[:5] == tuple(expected)
