"""Bad input and lists are answered without importing torch, which takes seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from workbench.config.toml import load_recipe
from workbench.engine.launch import create

# Runs every command line of stdin in this one process, where importing torch fails, and prints how each ended.
CHILD = """
import builtins, contextlib, io, json, sys

HEAVY = {"torch", "torchvision", "open_clip"}
really_import = builtins.__import__

def import_all_but_torch(name, *rest, **named):
    if name.partition(".")[0] in HEAVY:
        raise AssertionError(f"imports {name}")
    return really_import(name, *rest, **named)

builtins.__import__ = import_all_but_torch
from workbench.cli.app import main

ended = []
for arguments in json.load(sys.stdin):
    sys.argv = ["workbench", *arguments]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        except BaseException as error:
            code = repr(error)
    ended.append({"code": code, "out": out.getvalue(), "err": err.getvalue()})
assert not HEAVY & sys.modules.keys()
json.dump(ended, sys.stdout)
"""

# A command line, and the remedy or the wrong name that its one line on stderr has.
REFUSED = {
    "train --recipe clip-kdd": "'clip-kd'",
    "train --set loss.fdd.weight=3": "did you mean 'fd'",
    "train --set loss.fd.wieght=3": "did you mean 'weight'",
    "train --set loss.mfd.mask_ratoi=0.3": "did you mean 'mask_ratio'",
    "train --set loss.fd.convention=papr": "did you mean 'paper'",
    "train --set loss.mine.file=gone.py": "no Python file at",
    "train --set loss.mine.file=mine.py --set loss.mine.marign=2": "did you mean 'margin'",
    "train --set data.train=gone.csv": "--set data.train=SPEC",
    "train --set data.validation=samples:scenes/tset": "did you mean 'test'",
    "train --set student.model=mini-w46": "--set student.model=SPEC",
    "train --set teacher.model=open_clip:ViT-B-99": "--set teacher.model=SPEC",
    "train --set teacher.model=ViT-T-16": "architecture without weights",
    "train --name one": "runs resume",
    "train --cache-teacher on --set data.views=0": "data.views",
    "train --recipe icl --set loss.icl.candidates=all --set data.views=0": "data.views=3",
    "train --recipe icl --set loss.icl.candidates=all --cache-teacher off": "teacher.cache=on",
    "train --recipe acid --set teacher.model=": "curation.method",
    "train --recipe acid --set curation.num_chunks=200": "curation.num_chunks",
    "train --recipe icl --set loss.icl.candidates=al": "did you mean 'all'",
    "calibrate --share fdd=0.3": "did you mean 'fd'",
    "calibrate --set loss.fd.foo=3": "setting of loss.fd 'foo'",
    "doctor --recipe clip-kd --set loss.mfd.mask_ratoi=3": "did you mean 'mask_ratio'",
    "demo --recipe clip-kdd": "'clip-kd'",
    "dense sample:scenes --data samples:scenes": "samples:scenes-dense",
    "dense sample:scenes --data samples:scenes-dense --schedule 2x": "1x",
    "dense sample:scenes --data coco-detection:gone.json@images": "no such data 'gone.json'",
    "evaluate oen": "did you mean 'one'",
    "evaluate nothing": "unknown model 'nothing'",
    "evaluate one": "has no checkpoint yet",
    "evaluate sample:scenes": "--data SPEC",
    "evaluate sample:scenes --data gone.csv": "gone.csv",
    "evaluate open_clip:ViT-B-99 --data samples:scenes": "did you mean",
    "evaluate sample:scenes --data samples:scenes --linear-probe gone.csv": "gone.csv",
    "evaluate sample:scenes --data samples:scenes --linear-probe samples:scenes --shots 1,0": "--shots 1,0",
    "evaluate sample:scenes --data samples:scenes --linear-probe samples:scenes --block-size 9": "--block-size",
    "evaluate sample:scenes --data samples:scenes --shots 1": "--linear-probe",
    "evaluate sample:scenes nothing --data samples:scenes": "unknown model 'nothing'",
    "evaluate sample:scenes sample:scenes --data samples:scenes": "named twice",
    "evaluate sample:scenes sample:emoji": "--data SPEC",
    "evaluate sample:scenes sample:emoji --suite papers": "--suite",
    "evaluate sample:scenes --data samples:scenes --teacher gone": "unknown model 'gone'",
    "inspect mini-w64 --teacher mini-w64": "architecture without weights",
    "inspect mini-w64 --against leading": "--teacher",
    "evaluate sample:scenes --suite papers --figure x.png": "--figure",
    "evaluate sample:scenes --suite papers --pairs 0": "--pairs",
    "evaluate sample:scenes --suite paper": "did you mean 'papers'",
    "evaluate sample:scenes --suite papers --only ImageNett": "did you mean 'ImageNet'",
    "evaluate sample:scenes --suite papers --data samples:scenes": "--data",
    "evaluate sample:scenes --data samples:scenes --only ImageNet": "--suite",
    "evaluate nothing --suite papers": "unknown model 'nothing'",
    "evaluate gone.pt --data samples:scenes": "no weights at gone.pt",
    "export nothing --out x": "unknown model 'nothing'",
    "export sample:scenes --format pdf --out x": "unknown format 'pdf'",
    "inherit --teacher gone --depth 0.5 --out x": "unknown model 'gone'",
    "inherit --teacher sample:scenes --out x": "--auto 0.5",
    "inherit --teacher sample:scenes --depth 0.5 --steps 3 --out x": "--auto",
    "inherit --teacher sample:scenes --auto 0.5 --out x": "--data SPEC",
    "inherit --teacher sample:scenes --auto 7 --data samples:scenes --out x": "sparsity",
    "teacher import gone.pt": "no weights at gone.pt",
    "teacher import sample:scenes --data gone.csv": "gone.csv",
    "teacher train --recipe clip-kdd": "'clip-kd'",
    "teacher train --set loss.clip.sclae=2": "did you mean 'scale'",
    "teacher cache --recipe clip-kdd": "'clip-kd'",
    "teacher cache --recipe clip-kd --set data.views=0": "data.views",
    "teacher cache --remove gone": "unknown teacher cache 'gone'",
    "data check gone.csv": "gone.csv",
    "data check no-header.csv": "'filepath'",
    "data check samples:scenes/tset": "did you mean 'test'",
    "data prepare gone.csv": "gone.csv",
    "runs show gone": "unknown run 'gone'",
    "runs resume gone": "unknown run 'gone'",
    "runs resume moved": "--set data.train=SPEC",
    "runs fork gone": "unknown run 'gone'",
    "runs compare gone one": "unknown run 'gone'",
    "sweep --study icl_wieght": "did you mean 'icl_weight'",
    "sweep --study icl_weight --set loss.mfd.mask_ratoi=3": "did you mean 'mask_ratio'",
    "sweep --study icl_weight --set data.train=gone.csv": "gone.csv",
    "sweep --study icl_weight --resume": "no study 'icl_weight' to resume",
    "sweep --study icl_weight --try loss.icl.weight=2": "--try is for searches",
    "sweep --study icl_weight --retry 3": "unknown cell '3'",
    "sweep --study aimless.toml": "unknown objective 'image_to_text_r2'",
    "bench step --recipe clip-kdd": "'clip-kd'",
    "report icl_wieght": "did you mean 'icl_weight'",
    "tui gone": "unknown run 'gone'",
}
ANSWERED = {
    "data prepare --list": "nothing is prepared",
    "teacher cache --list": "no teacher cache",
    "recipes": "clip-kd",
    "studies": "icl_weight",
    "runs list": "one",
    "runs show one --departures": "in the paper",
}
AIMLESS = """
question = "Which?"
[grid]
loss.clip.weight = [1, 2]
[[objectives]]
metric = "image_to_text_r2"
"""
LOSS = """
from workbench.losses import Loss

class Mine(Loss):
    def __init__(self, margin=1.0):
        super().__init__()

    def __call__(self, comparison):
        raise NotImplementedError
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """How each command line ended, in a folder with two runs that have not begun, one of data that are gone."""
    folder: Path = tmp_path_factory.mktemp("start")
    create("one", load_recipe("clip-kd"), folder / "runs")
    create("moved", load_recipe("clip-kd", ["data.train=gone.csv"]), folder / "runs")
    (folder / "mine.py").write_text(LOSS)
    (folder / "aimless.toml").write_text(AIMLESS)
    (folder / "no-header.csv").write_text("a.png,a dog\n")
    commands = [*REFUSED, *ANSWERED]
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps([command.split() for command in commands]),
        cwd=folder,
        env=os.environ | {"WORKBENCH_CACHE": str(folder / "cache"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(commands, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("command", REFUSED)
def test_bad_input_is_refused_without_torch(ended: dict[str, dict[str, Any]], command: str) -> None:
    told = ended[command]
    assert told["code"] == 2, told
    assert REFUSED[command] in told["err"].splitlines()[-1]
    assert "Traceback" not in told["err"]


@pytest.mark.parametrize("command", ANSWERED)
def test_what_is_kept_is_listed_without_torch(ended: dict[str, dict[str, Any]], command: str) -> None:
    told = ended[command]
    assert told["code"] == 0, told
    assert ANSWERED[command] in told["out"]
