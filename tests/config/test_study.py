"""Study files: what they may hold, and the messages for those that hold something else."""

import pytest

from workbench.config.cells import Changes, cell_name, cells_of, make_cell
from workbench.config.study import flat, nested
from workbench.config.toml import MOST_EXTENDED
from workbench.documents import MOST_LEVELS
from workbench.runs.studies import load_study, studies

GRID = 'question = "Q"\nrecipe = "fd"\n[grid]\nloss.fd.weight = [0, 2000]\n'


@pytest.fixture
def written(tmp_path, monkeypatch):
    """``written(text)``: a study file of this text, by its path."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="mine.toml"):
        (tmp_path / name).write_text(text)
        return name

    return write


@pytest.mark.parametrize("name", sorted(studies()))
def test_a_shipped_study_holds_together(name):
    study = load_study(name)
    assert study.question.endswith((")", "?"))
    assert study.cost
    cells = cells_of(study)
    assert len(cells) * study.seeds * max(1, len(study.sweeps)) == (0 if study.search else study.num_runs)
    if study.paper:
        assert study.paper.source


def test_a_grid_is_every_combination(written):
    text = 'question = "Q"\nrecipe = "mfd"\n[grid]\nloss.mfd.weight = [1, 2]\n"loss.mfd.mask_ratio" = [0, 0.5, 0.75]\n'
    cells = cells_of(load_study(written(text)))
    found = {(cell.config.loss["mfd"].weight, cell.config.loss["mfd"].options()["mask_ratio"]) for cell in cells}
    assert found == {(weight, ratio) for weight in (1, 2) for ratio in (0, 0.5, 0.75)}
    assert cells[1].name == "mfd.weight=1 mfd.mask_ratio=0.5"


def test_cells_have_their_own_recipes_and_share_the_studys_settings(written):
    text = """
question = "Q"
baseline = "none"
steps = 40
[settings]
train.batch_size = 50
[[cells]]
name = "none"
[[cells]]
name = "crd"
recipe = "crd"
settings.loss.crd.weight = 3
"""
    study = load_study(written(text))
    none, crd = cells_of(study)
    assert "crd" not in none.config.loss
    assert crd.config.loss["crd"].weight == 3
    assert crd.values == {"loss.crd.weight": 3}
    assert {cell.config.train.batch_size for cell in (none, crd)} == {50}
    assert {cell.config.train.num_steps for cell in (none, crd)} == {40}
    assert crd.at(7).seed == crd.at(7).data.seed == 7


def test_the_command_line_changes_every_cell_but_not_what_varies(written):
    study = load_study(written(GRID))
    cells = cells_of(study, Changes(("data.num_pairs=300",), steps=20))
    assert {(cell.config.data.num_pairs, cell.config.train.num_steps) for cell in cells} == {(300, 20)}
    for override in ("loss.fd.weight=3", "loss.fd={weight=3}"):
        with pytest.raises(ValueError, match=r"study 'mine' varies loss.fd.weight"):
            cells_of(study, Changes((override,)))


def test_a_study_extends_another(written):
    written(GRID, "base.toml")
    study = load_study(written('extends = "base.toml"\nseeds = 5\n[settings]\ntrain.num_steps = 9\n'))
    assert study.name == "mine"
    assert study.seeds == 5
    assert study.grid == {"loss.fd.weight": [0, 2000]}
    with pytest.raises(ValueError, match="extends itself"):
        load_study(written('extends = "mine.toml"\n'))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("question", "quetsion"), "unknown setting 'quetsion': did you mean 'question'"),
        (("loss.fd.weight", "optimizer.learning_rat"), "did you mean 'learning_rate'"),
        (("loss.fd.weight", "loss.fdd.weight"), "unknown loss 'fdd': did you mean 'fd'"),
        (("[0, 2000]", '["much"]'), "cell 'much'"),
        (("[0, 2000]", "[]"), "loss.fd.weight has no values"),
        (("[0, 2000]", "[1, 1.0]"), "two cells of study 'mine' are named '1'"),
        (("[grid]", 'trials = 3\n[grid]'), r"trials belongs to \[search\]"),
        (("[grid]", 'baseline = "200"\n[grid]'), "unknown baseline cell '200': did you mean '2000'"),
        (("[grid]", "[paper]\nsource = 'x'\n[paper.cells]\n3 = {a = 1}\n[grid]"), "cell of the paper's figures '3'"),
        (("[grid]", "[gird]"), "did you mean 'grid'"),
        (("[grid]", "sweeps = [{name = 'a'}, {name = 'a'}]\n[grid]"), "two sweeps are named 'a'"),
        (("[grid]", "sweeps = [{name = 'a', stesp = 3}]\n[grid]"), "did you mean 'steps'"),
        (('"fd"', '"fdd"'), "unknown recipe 'fdd'"),
    ],
)  # fmt: skip
def test_a_slip_is_named(written, change, message):
    with pytest.raises(ValueError, match=message):
        cells_of(load_study(written(GRID.replace(*change))))


SEARCH = (
    'question = "Q"\nrecipe = "fd"\nsampler = "tpe"\ntrials = 3\n[search]\nloss.fd.weight = { low = 1, high = 9 }\n'
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('sampler = "tpe"\n', ""), None),
        (('"tpe"', '"grid"'), "choose tpe, gp"),
        (("trials = 3\n", ""), "a number of trials"),
        (("high = 9", "high = 1"), "low must be below high"),
        (("low = 1,", "low = 0, log = true,"), "needs low above 0"),
        (("high = 9", "high = 9, log = true, step = 1"), "has no step"),
        (("[search]", 'pruner = "racing"\nseeds = 1\n[search]'), "at least 2 seeds"),
        (
            ("[search]", "confirm_seeds = 0\ntuned.baseline.seed = { low = 1, high = 2 }\n[search]"),
            "tuned needs confirm_",
        ),
        (("[search]", "lengths = [9, 3]\n[search]"), "lengths must increase"),
        (("[search]", "lengths = [3, 9]\nsteps = 9\n[search]"), "drop steps"),
        (("[search]", "lengths = [3, 9]\nbudget = {num_params = 9}\n[search]"), "one objective"),
        (("[search]", "tuned.baseline = {}\n[search]"), "tuned: baseline has no search space"),
        (("[search]", "tuned.basline.seed = { low = 1, high = 2 }\n[search]"), "unknown recipe 'basline'"),
        (("[search]", "tuned.baseline.seed = { low = 2, high = 1 }\n[search]"), "low must be below high"),
        (("loss.fd.weight", "loss.fd.wieght"), None),  # a loss's own options are known to the loss alone
        (("loss.fd.weight", "train.num_step"), "did you mean 'num_steps'"),
    ],
)
def test_a_search_is_checked_before_it_starts(written, change, message):
    text = SEARCH.replace(*change)
    if message is None:
        study = load_study(written(text))
        assert study.sampler == "tpe"
        assert cells_of(study) == ()
        return
    with pytest.raises(ValueError, match=message):
        cells_of(load_study(written(text)))


def test_a_search_counts_the_tuning_of_its_rivals_and_the_confirmation(written):
    text = SEARCH.replace(
        "[search]", 'seeds = 2\nconfirm_seeds = 4\nagainst = ["baseline"]\nwarm_start = ["fd"]\n[search]'
    )
    text += "[tuned.baseline]\noptimizer.learning_rate = { low = 1e-4, high = 1e-2, log = true }\n"
    study = load_study(written(text))
    assert study.tuned["baseline"]["optimizer.learning_rate"].log
    assert study.num_confirmed == 4  # the baseline as it stands and tuned, the beginning, and the best
    assert study.num_runs == 3 * 2 + 3 * 2 + 4 * 4
    assert study.model_copy(update={"confirm_seeds": 0}).num_runs == 3 * 2
    # Of three trials one trains for longer, and then once more; the rival's tuning likewise.
    assert study.model_copy(update={"lengths": [1, 2, 3]}).num_runs == 2 * (3 + 1 + 1) * 2 + 4 * 4


def test_seeds_may_be_added_until_the_comparisons_are_settled(written):
    auto = load_study(written(GRID.replace("[grid]", 'seeds = "auto"\nbaseline = "0"\n[grid]'), "base.toml"))
    assert (auto.seeds, auto.most_seeds, auto.is_sequential) == (3, 30, True)
    assert not auto.quick().is_sequential
    fixed = load_study(written('extends = "base.toml"\nseeds = 5\n'))
    assert (fixed.seeds, fixed.is_sequential) == (5, False)
    fewer = load_study(written('extends = "base.toml"\nmost_seeds = 8\n'))
    assert (fewer.seeds, fewer.most_seeds) == (3, 8)
    with pytest.raises(ValueError, match="name it with baseline"):
        load_study(written(GRID.replace("[grid]", 'seeds = "auto"\n[grid]')))
    with pytest.raises(ValueError, match="confirm_seeds"):
        load_study(written(SEARCH.replace("[search]", 'seeds = "auto"\n[search]')))


SEVERAL = """
[[sweeps]]
name = "short"
steps = 80
settings.data.num_pairs = 500
[[sweeps]]
name = "study"
"""


def test_a_study_of_several_sweeps_is_a_study_for_each(written):
    study = load_study(written(GRID + SEVERAL))
    short, own = study.parts()
    assert (short.name, short.steps, short.settings["data.num_pairs"]) == ("short", 80, 500)
    # The sweep of the study's own name is the study without sweeps, whose runs it shares.
    alone = load_study(written(GRID))
    assert own == alone.model_copy(update={"name": "study"})
    assert alone.parts() == (alone,)
    assert study.num_runs == 2 * alone.num_runs
    cells, longer = cells_of(short), cells_of(own)
    assert [cell.name for cell in cells] == [cell.name for cell in longer]
    assert cells[0].config.train.num_steps == 80
    assert cells[0].config.data.num_pairs == 500


def test_recipes_in_files_lie_beside_the_study(written, tmp_path):
    text = SEARCH.replace("[search]", 'against = ["mine.toml"]\n[search]')
    text += '[tuned."mine.toml"]\nseed = { low = 1, high = 2 }\n'
    study = load_study(written(text))
    assert study.against == [*study.tuned] == [str(tmp_path / "mine.toml")]


def test_flat_and_nested_undo_each_other():
    table = {"loss": {"fd": {"weight": 2, "convention": "paper"}}, "seed": 3}
    assert nested(flat(table)) == table
    assert flat(table) == {"loss.fd.weight": 2, "loss.fd.convention": "paper", "seed": 3}
    assert flat({"a": {"b": {"low": 1, "high": 2}}}, stop=("low",)) == {"a.b": {"low": 1, "high": 2}}


def test_a_quick_study_asks_the_same_with_less(written):
    study = load_study(written(GRID))
    quick = study.quick()
    (zero, _), (quick_zero, _) = cells_of(study), cells_of(quick)
    assert quick.seeds == 2
    assert quick_zero.config.train.num_steps < zero.config.train.num_steps
    assert quick_zero.values == zero.values


def test_a_cell_is_named_by_the_settings_that_differ(written):
    assert cell_name({"loss.icl.weight": 0.5}) == "0.5"
    assert cell_name({"optimizer.betas": [0.9, 0.98], "data.views": 3}) == "betas=0.9,0.98 views=3"
    made = make_cell(load_study(written(SEARCH)), "t0001", {"loss.fd.weight": 4})
    assert made.config.loss["fd"].weight == 4


def test_a_long_chain_of_studies_and_a_key_nested_too_deeply_are_refused(tmp_path):
    for number in range(400):
        (tmp_path / f"{number}.toml").write_text(f'extends = "{number + 1}.toml"\n')
    with pytest.raises(ValueError, match=f"extends a chain of more than {MOST_EXTENDED} files"):
        load_study(str(tmp_path / "0.toml"))
    with pytest.raises(ValueError, match=f"more than {MOST_LEVELS} deep"):
        nested({".".join("a" * 9999): 1})


def test_what_is_set_explicitly_stays_in_every_cell_whatever_the_length(written):
    study = load_study(written(GRID))
    changes = Changes(("log.checkpoint_every_steps=10",), steps=20)
    assert {cell.config.log.checkpoint_every_steps for cell in cells_of(study, changes)} == {10}
    assert {cell.config.train.num_steps for cell in cells_of(study, changes)} == {20}
