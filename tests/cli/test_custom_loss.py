"""The README's own loss, trained as a stranger would: a recipe and a file beside it, the package untouched."""

import json
import re
from pathlib import Path

import tomli_w

README = Path(__file__).parents[2] / "README.md"


def test_the_readmes_loss_trains_and_resumes_from_another_folder(workbench, tiny_table, tmp_path: Path) -> None:
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.S) if "(Loss)" in block)
    (recipe,) = (block for block in re.findall(r"```toml\n(.*?)```", README.read_text(), re.S) if "file =" in block)
    folder = tmp_path / "ideas"
    folder.mkdir()
    base = {key: value for key, value in tiny_table.items() if key != "recipe"}
    (folder / "tiny.toml").write_text(tomli_w.dumps(base))
    (folder / re.search(r'file = "(.*?)"', recipe)[1]).write_text(code)
    (folder / "mine.toml").write_text(re.sub(r'extends = ".*?"', 'extends = "tiny.toml"', recipe))
    trained = workbench("train", "--recipe", "ideas/mine.toml", "--name", "mine", "--json")
    assert trained.code == 0, trained.err
    assert json.loads(trained.out)["state"] == "finished"
    name = re.search(r"\[loss\.(\w+)\]", recipe)[1]
    events = [json.loads(line) for line in Path("runs/mine/events.jsonl").read_text().splitlines()]
    losses = [event["terms"][name] for event in events if event["event"] == "StepDone"]
    assert losses[-1] < losses[0]
    assert workbench("evaluate", "mine").code == 0
