"""The README stays short and true, and every link in the documentation leads somewhere."""

import re
import tomllib
from pathlib import Path

from workbench.views.metrics import METRIC_LABELS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
DOCS = ROOT / "workbench" / "docs"
MOST_FILES, MOST_COLUMNS = 6, 120
OTHER_WORDS = re.compile(
    r"\b(told|heard|anew|beside|loud|loudest|begun|picture|pictures|colour|behaviour|optimiser|learnt|licence)\b"
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_and_image_exists(page: Path) -> None:
    for target in LINK.findall(FENCED.sub("", page.read_text())):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_lines_of_prose_fit_a_terminal(page: Path) -> None:
    text = FENCED.sub("", page.read_text())
    prose = [line for line in text.splitlines() if not line.startswith(("|", "!["))]
    assert [line for line in prose if len(line) > MOST_COLUMNS] == []


def test_prose_has_the_words_of_the_field_in_one_spelling(page: Path) -> None:
    prose = re.sub(r"`[^`]*`|\]\([^)]*\)", "", FENCED.sub("", page.read_text()))
    assert OTHER_WORDS.findall(prose.lower()) == []


def test_the_index_lists_every_page_and_the_readme_leads_to_it() -> None:
    pages = {page.name for page in DOCS.glob("*.md")} - {"index.md"}
    assert set(LINK.findall((DOCS / "index.md").read_text())) - {"../../README.md", "../../CONTRIBUTING.md"} == pages
    assert "workbench/docs/index.md" in README


def test_every_image_of_the_documentation_is_shown() -> None:
    shown = {
        Path(target).name
        for page in (ROOT / "README.md", *DOCS.glob("*.md"))
        for target in LINK.findall(page.read_text())
    }
    assert {image.name for image in DOCS.iterdir() if image.suffix in {".png", ".svg"}} <= shown


def test_the_readme_is_read_in_two_minutes() -> None:
    assert len(README.splitlines()) <= 150


def test_the_readme_has_the_commands_that_ci_runs() -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    (tested,) = (line.replace(" -q ", " ", 1) for line in ci.splitlines() if line.startswith("python3 -m venv"))
    assert f"```bash\n{tested}\n```" in README
    assert "```bash\npython3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/workbench demo\n```" in README


def test_the_readmes_tree_lists_every_folder_in_five_words() -> None:
    (tree,) = (block for block in FENCED.findall(README) if "losses/" in block)
    listed = dict(re.findall(r"(\w+)/ +(\S.*?)(?=  |$)", tree, re.MULTILINE))
    assert listed.keys() == {file.parent.name for file in (ROOT / "workbench").glob("*/__init__.py")}
    assert {folder: words for folder, words in listed.items() if len(words.replace("&", "").split()) > 5} == {}


def test_the_demos_rows_are_those_that_it_prints(page: Path) -> None:
    titles = {metric.title for metric in METRIC_LABELS.values()} | {"weights, blocks", "weights, embeddings"}
    for block in FENCED.findall(page.read_text()):
        if "mean of 3 seeds" in block:
            _fence, _head, *rows, _end = block.splitlines()
            assert {re.split(r"  +", row)[0] for row in rows} <= titles


def test_the_layers_are_those_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    (listed,) = (block.splitlines()[1:-1] for block in FENCED.findall(CONTRIBUTING))
    assert listed == [layer.replace("workbench.", "") for layer in layers]


def test_the_three_ways_through_the_code_are_short_and_exist() -> None:
    section = CONTRIBUTING.partition("## Three ways")[2].partition("\n## ")[0]
    ways = [re.findall(r"^\d\. `([^`]+)`", way, re.MULTILINE) for way in re.split(r"\n\n(?=[A-Z])", section)]
    ways = [way for way in ways if way]
    assert len(ways) == 3
    for files in ways:
        assert len(files) <= MOST_FILES
        assert [file for file in files if not (ROOT / file).is_file()] == []


def test_the_files_that_contributing_names_exist() -> None:
    named = re.findall(r"`((?:workbench|tests|data_samples|studies)/[\w/.]+)`", CONTRIBUTING)
    assert [name for name in named if not (ROOT / name).exists()] == []
