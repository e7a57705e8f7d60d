import json
from pathlib import Path


def test_samples_are_drawn_at_any_size(workbench) -> None:
    result = workbench("data", "samples", "scenes", "--out", "pairs", "--split", "train", "--pairs", "30", "--json")
    assert json.loads(result.out)["num_pairs"] == {"train": 30}
    assert {path.name for path in Path("pairs/train").iterdir()} == {"00000.tar", "checksums.txt", "index.json"}


def test_an_unknown_set_offers_the_nearest(workbench) -> None:
    result = workbench("data", "samples", "scene", "--out", "pairs")
    assert result.code == 2
    assert "did you mean 'scenes'?" in result.err
