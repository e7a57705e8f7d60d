"""Early checks refuse nothing that would train, and report what building the run would report."""

from pathlib import Path

import pytest

from workbench.config.cells import Cell, cells_of
from workbench.config.study import Study
from workbench.config.toml import load_recipe, recipes
from workbench.engine.build import build_cohort
from workbench.preflight.precheck import check_config, check_objectives
from workbench.runs.studies import load_study, studies

OF_ONES_OWN = ["data.train=samples:scenes", "data.validation=", "data.test=", "teacher.model=sample:scenes"]


@pytest.mark.parametrize("name", sorted(recipes()))
def test_every_recipe_passes(name: str) -> None:
    is_of_samples = load_recipe(name).data.train.startswith("samples:")
    check_config(load_recipe(name, [] if is_of_samples else OF_ONES_OWN), Path("runs"))


def test_every_cell_of_every_study_passes() -> None:
    for name in studies():
        for cell in cells_of(load_study(name)):
            check_config(cell.config, Path("runs"))


def test_every_metric_that_is_measured_can_be_an_objective(tiny) -> None:
    cohort = build_cohort({"one": tiny()})
    (member,) = cohort.members
    measured = cohort.evaluators["validation"].measure(
        member.state.student, member.state.learned, member.objective.losses
    )
    table = {"name": "all", "question": "?", "grid": {"seed": [0]}}
    cells = [Cell("one", {}, tiny())]
    check_objectives(Study.parse(table | {"objectives": [{"metric": name} for name in measured.metrics]}), cells)
    with pytest.raises(ValueError, match="did you mean 'image_to_text_r"):
        check_objectives(Study.parse(table | {"objectives": [{"metric": "image_to_text_r2"}]}), cells)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": {"fdd": {"weight": 1.0}}},
        {"loss": {"mfd": {"mask_ratoi": 0.5}}},
        {"loss": {"fd": {"convention": "papr"}}},
        {"teacher": {"model": "sample:scnes"}},
        {"teacher": {"model": "mini-w64"}},
        {"student": {"model": "mini-w46"}},
        {"student": {"model": "inherited"}, "inheritance": {"source": "run:gone"}},
        {"data": {"train": "gone.csv"}},
        {"data": {"train": "samples:scenes*1 + coco:gone.json@images*2"}},
        {"data": {"train": "folder:gone"}},
        {"data": {"train": "gone-{0..3}.tar"}},
        {"data": {"train": "smaples:scenes"}},
        {"data": {"validation": "samples:scenes/tset"}},
    ],
    ids=str,
)
def test_early_checks_report_what_building_reports(tiny, changes, tmp_path: Path) -> None:
    config = tiny(**changes)
    with pytest.raises(ValueError) as early:  # noqa: PT011  # compared with the other's message
        check_config(config, tmp_path)
    with pytest.raises(ValueError) as late:  # noqa: PT011
        build_cohort({"one": config}, runs_dir=tmp_path)
    assert str(early.value) == str(late.value).replace(f"{Path.cwd()}/", "")  # a run records absolute paths
