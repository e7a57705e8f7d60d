"""Recipes that extend one another, overrides from the command line, and the configs that come of them."""

import re

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.config.run import RunConfig
from workbench.config.toml import (
    MOST_EXTENDED,
    load_recipe,
    load_run_config,
    merge,
    parse_override,
    read_toml,
    recipe_table,
    recipes,
)
from workbench.documents import MOST_LEVELS
from workbench.losses.objective import Objective

SHIPPED = ("baseline", "clip-kd", "crd", "fd", "icl", "teacher-scenes")


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a recipe below the working directory, which is the test's own."""
    monkeypatch.chdir(tmp_path)

    def write_recipe(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_recipe


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_loads_and_its_losses_are_understood(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_recipe(name)
    assert config.recipe == name
    assert config.question.endswith((".", "?"))
    assert Objective(config.loss, config.train.batch_size, 512).terms.keys() == config.loss.keys()


def test_the_shipped_recipes_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert set(SHIPPED) <= set(recipes())


def test_clip_kd_is_the_baseline_with_three_losses_more():
    baseline, clip_kd = load_recipe("baseline"), load_recipe("clip-kd")
    assert clip_kd.loss.keys() == {"clip", "crd", "fd", "icl"}
    assert clip_kd.loss["fd"].weight == 2000
    same = {"recipe": "", "question": "", "loss": {}}
    assert clip_kd.model_copy(update=same) == baseline.model_copy(update=same)


def test_a_recipe_lies_over_what_it_extends(write):
    write("recipes/a.toml", 'seed = 1\nquestion = "a?"\n[data]\nnum_pairs = 10\nviews = 4\n[loss.clip]\nweight = 1\n')
    write("recipes/b.toml", 'extends = "a"\n[data]\nnum_pairs = 20\n[loss.fd]\nweight = 3\n')
    write("recipes/c.toml", 'extends = "b"\nseed = 2\n[loss.fd]\nconvention = "released"\n')
    config = load_recipe("c")
    assert (config.recipe, config.question, config.seed) == ("c", "a?", 2)
    assert (config.data.num_pairs, config.data.views) == (20, 4)
    assert {name: (loss.weight, loss.options()) for name, loss in config.loss.items()} == {
        "clip": (1.0, {}),
        "fd": (3.0, {"convention": "released"}),
    }


def test_a_file_extends_a_file_beside_it_wherever_one_stands(write):
    write("mine/base/base.toml", "seed = 4\n")
    write("mine/child.v2.toml", 'extends = "base/base.toml"\n')
    assert recipe_table("mine/child.v2.toml") == {"seed": 4}
    assert load_recipe("mine/child.v2.toml").recipe == "child.v2"


def test_a_recipe_may_have_a_dot_in_its_name(write):
    write("recipes/fd-0.5.toml", "")
    assert load_recipe("fd-0.5").recipe == "fd-0.5"


def test_a_users_recipe_hides_the_shipped_one_and_may_extend_another(write):
    write("recipes/fd.toml", 'extends = "icl"\nseed = 9\n')
    assert load_recipe("fd").loss.keys() == {"clip", "icl"}
    assert recipes()["fd"].parent.name == "recipes"
    assert load_recipe("fd").seed == 9


@pytest.mark.parametrize(
    ("links", "circle"),
    [
        ({"a": "a"}, "a -> a"),
        ({"a": "b", "b": "a"}, "a -> b -> a"),
        ({"a": "b", "b": "c", "c": "b"}, "a -> b -> c -> b"),
    ],
)
def test_a_circle_of_recipes_is_shown(write, links, circle):
    for name, parent in links.items():
        write(f"recipes/{name}.toml", f'extends = "{parent}"\n')
    with pytest.raises(ValueError, match=f"^recipe '{circle[-1]}' extends itself: {circle}$"):
        load_recipe("a")


def test_a_circle_of_files_is_seen_however_they_are_spelt(write):
    write("x/a.toml", 'extends = "../x/b.toml"\n')
    write("x/b.toml", 'extends = "../x/./a.toml"\n')
    with pytest.raises(ValueError, match=r"extends itself: x/a\.toml -> "):
        load_recipe("x/a.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extends = "clip-kdd"\n', "unknown recipe 'clip-kdd': did you mean 'clip-kd'?"),
        ('extends = "gone.toml"\n', "gone.toml: No such file or directory"),
        ("extends = 3\n", "r.toml: extends must be the name of one recipe or a file (got 3)"),
        ('extends = ["fd", "icl"]\n', "r.toml: extends must be the name of one recipe or a file (got ['fd', 'icl'])"),
        ("seed = \n", "r.toml is not TOML: Invalid value (at line 1, column 8)"),
        ("[train]\nnum_step = 3\n", "train: unknown setting 'num_step': did you mean 'num_steps'?"),
    ],
)
def test_an_invalid_recipe_is_an_error_with_the_reason(write, text, message):
    write("r.toml", text)
    with pytest.raises(ValueError, match=rf"\A.*{re.escape(message)}\Z"):
        load_recipe("r.toml")


def test_an_unknown_recipe_offers_the_nearest():
    with pytest.raises(ValueError, match=r"^unknown recipe 'clip_kd': did you mean 'clip-kd'\?$"):
        load_recipe("clip_kd")


def test_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "bytes.toml", tmp_path, tmp_path / "missing.toml"):
        with pytest.raises(ValueError, match=f"^cannot read {path}: "):
            read_toml(path)


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("seed=3", {"seed": 3}),
        ("seed = 3 # three", {"seed": 3}),
        ("optimizer.learning_rate=1e-3", {"optimizer": {"learning_rate": 1e-3}}),
        ("loss.icl.weight=2", {"loss": {"icl": {"weight": 2}}}),
        ("data.crop_scale=[0.5, 1.0]", {"data": {"crop_scale": [0.5, 1.0]}}),
        ('question="a = b"', {"question": "a = b"}),
        ("question=a = b", {"question": "a = b"}),
        ("data.train=samples:scenes", {"data": {"train": "samples:scenes"}}),
        ("data.train=shards/{00..03}.tar", {"data": {"train": "shards/{00..03}.tar"}}),
        ("data.validation=", {"data": {"validation": ""}}),
        ("question=#1", {"question": "#1"}),
        ("seed=1\nquestion=2", {"seed": "1\nquestion=2"}),
    ],
)
def test_an_override_is_a_key_and_a_toml_value_or_a_bare_word(text, table):
    assert parse_override(text) == table


@pytest.mark.parametrize("text", ["", "seed", "=3", " =3", "seed:3"])
def test_an_override_without_key_or_value_is_refused(text):
    with pytest.raises(ValueError, match=r"^--set .*: write it as key=value, e\.g\. --set loss\.icl\.weight=2$"):
        parse_override(text)


tables = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8
).filter(lambda table: isinstance(table, dict))


@settings(deadline=None, max_examples=50)
@given(tables, tables)
def test_a_merge_keeps_what_the_changes_do_not_name_and_leaves_both_as_they_were(base, changes):
    before = (repr(base), repr(changes))
    merged = merge(base, changes)
    assert merged.keys() == base.keys() | changes.keys()
    assert merge(merged, changes) == merged
    for key, value in merged.items():
        if key not in changes:
            assert value == base[key]
        elif not (isinstance(base.get(key), dict) and isinstance(changes[key], dict)):
            assert value == changes[key]
        else:
            assert value == merge(base[key], changes[key])
    assert (repr(base), repr(changes)) == before


def test_overrides_apply_in_order_on_top_of_the_recipe():
    config = load_recipe("clip-kd", ["seed=1", "loss.icl.weight=2", "seed=3", "teacher.model="])
    assert (config.seed, config.teacher.model) == (3, "")
    assert config.loss["icl"].weight == 2
    assert config.loss["icl"].options() == {"convention": "paper"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sead=1", "unknown setting 'sead': did you mean 'seed'?"),
        ("train.num_step=3", "train: unknown setting 'num_step': did you mean 'num_steps'?"),
        ("train.num_steps=many", "train.num_steps: input should be a valid integer"),
        ("loss.clip.weight=nan", "loss.clip.weight: input should be a finite number (got nan)"),
        ("loss.clip=3", "loss.clip: input should be a valid dictionary or instance of LossConfig (got 3)"),
        ("data=3", "data: input should be a valid dictionary or instance of DataConfig (got 3)"),
    ],
)
def test_a_bad_override_is_one_line_with_the_keys_path(override, message):
    with pytest.raises(ValueError, match=rf"\A{re.escape(message)}.*\Z"):
        load_recipe("baseline", [override])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("loss.icll.weight=1", "unknown loss 'icll': did you mean 'icl'\\?"),
        ("loss.icl.wieght=2", "icl.*'wieght'"),
        ("loss.fd.convention=relesed", "did you mean 'released'\\?"),
    ],
)
def test_a_loss_or_option_that_does_not_exist_is_refused_by_the_objective(override, words):
    config = load_recipe("clip-kd", [override])
    with pytest.raises(ValueError, match=words):
        Objective(config.loss, config.train.batch_size, 512)


def test_a_run_is_read_from_its_directory_without_its_machine(tmp_path):
    config = load_recipe("clip-kd", ["seed=3"])
    path = tmp_path / "run.toml"
    path.write_text(tomli_w.dumps(config.model_dump(mode="json") | {"machine": {"torch": "2.15", "threads": 2}}))
    assert load_run_config(path) == config


def test_a_run_written_by_another_version_is_not_guessed_at(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[train]\nnum_epochs = 3\n")
    with pytest.raises(ValueError, match=r"^train: unknown setting 'num_epochs'"):
        load_run_config(path)
    path.write_text("")
    assert load_run_config(path) == RunConfig()


def test_a_long_chain_of_recipes_is_refused_and_one_within_the_bound_is_read(write):
    write("chain/0.toml", "seed = 7\n")
    for number in range(1, 400):
        write(f"chain/{number}.toml", f'extends = "{number - 1}.toml"\n')
    assert load_recipe(f"chain/{MOST_EXTENDED - 1}.toml").seed == 7
    with pytest.raises(ValueError, match=f"chain/399.toml' extends a chain of more than {MOST_EXTENDED} files"):
        load_recipe("chain/399.toml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (f"train.batch_size={'9' * 400}", "train.batch_size: value is an integer that does not fit 64 bits"),
        (f"train.batch_size={'9' * 5000}", "train.batch_size holds an integer that does not fit 64 bits"),
        (f"loss.fd.weight={'9' * 30}", "loss.fd.weight: value is an integer"),
        (f"inheritance.image.depth={'[' * 9999}{']' * 9999}", "inheritance.image.depth nests"),
        (f"{'.'.join('a' * 9999)}=1", f"nests tables or arrays more than {MOST_LEVELS} deep"),
        (f"train.batch_size={'a' * 9999}", "train.batch_size: "),
        ("train.batch_size=[1, 2", "train.batch_size: "),
    ],
    ids=["400 digits", "5000 digits", "in a float", "arrays", "key", "text", "no TOML"],
)
def test_an_override_beyond_the_bounds_is_one_short_line(override, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load_recipe("fd", [override])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_plain_data_beyond_the_bounds_is_refused_at_construction():
    with pytest.raises(ValueError, match=r"^train: batch_size is an integer that does not fit 64 bits$"):
        RunConfig.parse({"train": {"batch_size": 10**400}})


@pytest.mark.parametrize(
    ("override", "read", "expected"),
    [
        ("log.checkpoint_every_steps=7", lambda run: run.log.checkpoint_every_steps, 7),
        ("evaluate.every_steps=7", lambda run: run.evaluate.every_steps, 7),
        ("log.diagnose_every_steps=5", lambda run: run.log.diagnose_every_steps, 5),
        ("loss.fd.weight={value=2, ramp_steps=30}", lambda run: run.loss["fd"].weight.ramp_steps, 30),
        ("log={checkpoint_every_steps=7}", lambda run: run.log.checkpoint_every_steps, 7),
        ("train.num_steps=20", lambda run: run.train.num_steps, 20),
    ],
)
def test_what_is_set_explicitly_stays_whatever_the_length(override, read, expected):
    plain, chosen = load_recipe("fd", steps=20), load_recipe("fd", [override], steps=20)
    assert read(chosen) == expected
    assert chosen.train.num_steps == 20
    assert plain.log.checkpoint_every_steps == 10  # of the recipe's 40, in a quarter of its steps
    rest = {"log", "evaluate", "loss"}
    assert chosen.model_dump(exclude=rest) == plain.model_dump(exclude=rest)


def test_two_lengths_are_one_too_many():
    with pytest.raises(ValueError, match=r"--steps 20 and --set train\.num_steps=30 differ"):
        load_recipe("fd", ["train.num_steps=30"], steps=20)


def test_a_temperature_on_the_command_line_replaces_the_recipes_scale() -> None:
    changed = load_recipe("icl", ["loss.icl.scale=14", "loss.icl.temperature=0.05"])
    assert changed.loss["icl"].options()["scale"] == 20.0
    longer = load_recipe("icl", ["loss.icl.temperature=0.05"], steps=7)
    assert longer.loss["icl"].options()["scale"] == 20.0
    assert "temperature" not in changed.loss["icl"].options()
    refused = load_recipe("icl", ["loss.icl.temperature=-1"])  # the loss itself reports it
    assert refused.loss["icl"].options()["temperature"] == -1
