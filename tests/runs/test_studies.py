"""Studies are found by name, file, copy or their runs."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w

from workbench.config.run import RunConfig
from workbench.config.study import Origin, Study
from workbench.runs.directory import create_run
from workbench.runs.studies import find_study, find_trainable, known_studies, load_study, save_copy

RUNS = Path("runs")
GRID = 'question = "Which?"\nseeds = 2\nbaseline = "0"\n[grid]\nloss.fd.weight = [0, 1]\n'
SEARCH = (
    'question = "Where?"\nseeds = 2\ntrials = 4\nconfirm_seeds = 0\n[search]\n'
    "loss.fd.weight = { low = 0.1, high = 10.0, log = true }\n"
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    RUNS.mkdir()


@pytest.fixture
def make_run() -> Callable[[str, str, int], None]:
    """``make_run(study, cell, seed)`` creates a run that has not started."""

    def make(study: str, cell: str, seed: int) -> None:
        origin = Origin(study=study, cell=cell, values={"loss.fd.weight": float(cell)}, seed=seed, trial=int(cell))
        table = RunConfig(recipe="fd", seed=seed).model_dump(mode="json") | {"sweep": origin.model_dump(mode="json")}
        create_run(RUNS, f"{study}-{cell}-s{seed}", tomli_w.dumps(table))

    return make


@pytest.mark.parametrize("place", ["own.toml", "studies/own.toml", "elsewhere/own.toml"])
def test_a_study_of_ones_own_is_found_by_name(place: str) -> None:
    Path(place).parent.mkdir(exist_ok=True)
    Path(place).write_text(GRID)
    if place.startswith("elsewhere"):
        with pytest.raises(ValueError, match="unknown study 'own'"):
            find_study("own", RUNS)
        save_copy(load_study(place), "own", RUNS)  # as its sweep does
    found = find_study("own", RUNS)
    assert found == (load_study(place), "own", True)
    assert find_trainable("own", RUNS) == found.study
    assert "own" in known_studies(RUNS)
    assert "icl_weight" in known_studies(RUNS)


def test_recipes_beside_it_are_no_studies() -> None:
    Path("own.toml").write_text(GRID)
    Path("recipe.toml").write_text('extends = "clip-kd"\n[loss.fd]\nweight = 3\n')
    Path("more.toml").write_text('extends = "own.toml"\nseeds = 5\n')
    Path("circle.toml").write_text('extends = "circle.toml"\n')
    Path("broken.toml").write_text("[")
    shipped = set(known_studies(Path("nowhere"))) - {"own", "more"}
    assert "clip_kd_search" in shipped
    assert set(known_studies(RUNS)) == shipped | {"own", "more"}
    assert find_study("more", RUNS).study.seeds == 5


def test_a_file_may_extend_its_namesake() -> None:
    Path("icl_weight.toml").write_text('extends = "icl_weight"\nseeds = 7\n')
    assert find_study("icl_weight", RUNS).study.seeds == 7
    Path("studies").mkdir()
    Path("studies/icl_weight.toml").write_text(GRID)
    assert find_study("icl_weight", RUNS).study.question == "Which?"


@pytest.mark.parametrize("content", [GRID, SEARCH])
def test_a_copy_is_the_study_as_it_was_asked_for(content: str) -> None:
    Path("own.toml").write_text(content)
    asked = load_study("own.toml")
    Path("own.toml").unlink()
    save_copy(asked, "other", RUNS)
    assert find_study("other", RUNS).study == asked.model_copy(update={"name": "other"})
    assert find_study("other-quick", RUNS) == (asked.quick().model_copy(update={"name": "other"}), "other", True)


def test_the_copy_of_a_rehearsal_is_found_by_both_names() -> None:
    Path("own.toml").write_text(GRID)
    rehearsal = load_study("own.toml").quick()
    Path("own.toml").unlink()
    save_copy(rehearsal, "own-quick", RUNS)
    assert find_study("own", RUNS) == (rehearsal, "own", False)
    assert find_study("own-quick", RUNS) == (rehearsal, "own", True)
    assert find_trainable("own-quick", RUNS).name == "own-quick"
    with pytest.raises(ValueError, match=r"FILE\.toml"):
        find_trainable("own", RUNS)
    assert [name for name in known_studies(RUNS) if name.startswith("own")] == ["own"]


def test_a_study_whose_own_name_ends_like_a_rehearsals_is_no_rehearsal() -> None:
    Path("own-quick.toml").write_text(GRID)
    study = load_study("own-quick.toml")
    Path("own-quick.toml").unlink()
    save_copy(study, "own-quick", RUNS)
    assert find_study("own-quick", RUNS) == (study, "own-quick", True)
    assert [name for name in known_studies(RUNS) if name.startswith("own")] == ["own-quick"]


def test_a_study_without_a_file_is_reconstructed_from_its_runs(make_run: Callable[[str, str, int], None]) -> None:
    for cell in ("0", "1"):
        for seed in (0, 1, 2):
            make_run("lost", cell, seed)
    make_run("lost-best-of-4", "0", 9)
    found = find_study("lost", RUNS)
    assert not found.has_file
    assert [cell.name for cell in found.study.cells] == ["0", "1"]
    assert (found.study.recipe, found.study.seeds) == ("fd", 3)
    assert [name for name in known_studies(RUNS) if name.startswith("lost")] == ["lost"]
    with pytest.raises(ValueError, match=r"FILE\.toml"):
        find_trainable("lost", RUNS)


def test_the_nearest_name_is_offered_and_a_rehearsal_goes_with_its_study(
    make_run: Callable[[str, str, int], None],
) -> None:
    Path("own.toml").write_text(GRID)
    make_run("own-quick", "0", 0)
    assert find_study("own-quick", RUNS) == (load_study("own.toml").quick(), "own", True)
    assert "own-quick" not in known_studies(RUNS)
    with pytest.raises(ValueError, match="did you mean 'own'"):
        find_study("onw", RUNS)


def test_a_study_is_what_was_loaded() -> None:
    Path("own.toml").write_text(SEARCH)
    assert isinstance(find_study("own.toml", RUNS).study, Study)
    assert find_study("own.toml", RUNS).source == "own.toml"
