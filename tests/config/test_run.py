"""The knobs of a run: documented, guarded, the same after a round trip through TOML, and scaled with its length."""

import tomllib
from fractions import Fraction

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.config.base import Config, Schedule
from workbench.config.run import LossConfig, RunConfig
from workbench.config.toml import merge, with_overrides

GROUPS = {
    name: field.annotation
    for name, field in RunConfig.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Config)
}
FLOATS = [
    "loss.clip.weight",
    "optimizer.learning_rate",
    "optimizer.weight_decay",
    "optimizer.eps",
    "optimizer.warmup_fraction",
    "optimizer.clip_norm",
]


def nested(path, value):
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def through_toml(config):
    return RunConfig.parse(tomllib.loads(tomli_w.dumps(config.model_dump(mode="json"))))


@pytest.mark.parametrize("path", [f"{group}.{field}" for group, kind in GROUPS.items() for field in kind.model_fields])
def test_a_misspelt_setting_of_every_group_is_answered_with_the_right_one(path):
    group, field = path.split(".")
    with pytest.raises(ValueError, match=f"^{group}: unknown setting '{field[:-1]}': did you mean '{field}'\\?$"):
        RunConfig.parse(nested(path[:-1], 1))


def test_every_setting_is_documented():
    settings_of = [(kind, field) for kind in (RunConfig, LossConfig, *GROUPS.values()) for field in kind.model_fields]
    undocumented = [f"{kind.__name__}.{name}" for kind, name in settings_of if not kind.model_fields[name].description]
    # The groups of a run speak for themselves in their class's docstring.
    assert undocumented == [f"RunConfig.{group}" for group in (*list(GROUPS)[:4], "loss", *list(GROUPS)[4:])]
    assert all(kind.__doc__ for kind in GROUPS.values())


@pytest.mark.parametrize(("num_steps", "times", "every"), [(80, 10, 8), (600, 10, 60), (1001, 10, 100), (5, 10, 1)])
def test_a_number_of_evaluations_is_an_interval_that_scales_with_the_length(num_steps, times, every):
    table = {"train": {"num_steps": num_steps}, "evaluate": {"times": times, "every_steps": 25}}
    config = RunConfig.parse(table)
    assert (config.evaluate.every_steps, config.evaluate.times) == (every, 0)
    assert through_toml(config) == config
    assert config.with_steps(10 * num_steps).evaluate.every_steps == 10 * every
    changed = with_overrides(config, ["evaluate.every_steps=7"])
    assert changed.evaluate.every_steps == 7
    assert with_overrides(changed, ["evaluate.times=1"]).evaluate.every_steps == num_steps
    assert RunConfig.parse({"evaluate": {"times": 6}}).evaluate.every_steps == 100  # of the default 600 steps


@pytest.mark.parametrize("times", [-1, 1.5, "ten"])
def test_a_number_of_evaluations_is_a_whole_number(times):
    with pytest.raises(ValueError, match=r"^evaluate\.times: "):
        RunConfig.parse({"evaluate": {"times": times}})


@pytest.mark.parametrize("path", FLOATS)
@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), -1.0])
def test_no_number_is_infinite_undefined_or_negative(path, number):
    with pytest.raises(ValueError, match=f"^{path}: input should be "):
        RunConfig.parse(nested(path, number))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "path",
    [f"{group}.{field}" for group, kind in GROUPS.items() for field in kind.model_fields]
    + [f"loss.fd.weight.{field}" for field in Schedule.model_fields]
    + ["seed", "loss.clip.scale", "loss.crd.temperature", "loss.mine.table.inner", "inheritance.image.depth"],
)
def test_no_setting_of_any_group_or_loss_is_infinite_or_undefined(path, number):
    table = {"loss": {"fd": {"weight": {"value": 1.0}}}, "student": {"model": "inherited"}, "teacher": {"model": "t"}}
    with pytest.raises(ValueError, match=rf"(?s)^{path.removesuffix('.inner')}.*{number}"):
        RunConfig.parse(merge(table, nested(path, number)))
    with pytest.raises(ValueError, match=rf"(?s)^{path.removesuffix('.inner')}.*{number}"):
        RunConfig.parse(merge(table, nested(path, [number])))


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**400])
def test_a_seed_and_a_number_of_steps_fit_64_bits(number):
    with pytest.raises(ValueError, match="--seed: seed is an integer that does not fit 64 bits"):
        RunConfig().with_seed(number)
    with pytest.raises(ValueError, match="--steps: steps is an integer that does not fit 64 bits"):
        RunConfig().with_steps(abs(number))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("train.num_steps", -1),
        ("train.batch_size", 1),
        ("train.micro_batch_size", -1),
        ("train.precision", "fp8"),
        ("train.device", "gpu"),
        ("data.views", -1),
        ("data.num_pairs", 1.5),
        ("teacher.chunk_size", 0),
        ("evaluate.block_size", 0),
        ("log.every_steps", 0),
        ("log.keep_checkpoints", 0),
        ("loss.clip.weight_at", "there"),
        ("optimizer.warmup_fraction", 1.01),
        ("optimizer.learning_rate", 0),
        ("seed", "one"),
        ("student.model", 3),
    ],
)
def test_a_bad_value_is_refused_with_its_path(path, value):
    with pytest.raises(ValueError, match=f"^{path}: input should be .*\\(got {value!r}\\)$"):
        RunConfig.parse(nested(path, value))


@pytest.mark.parametrize("betas", [[0.9, 1.0], [-0.1, 0.9], [0.9, 2.0]])
def test_the_moments_decay(betas):
    with pytest.raises(ValueError, match=r"^optimizer\.betas\.[01]: input should be "):
        RunConfig.parse(nested("optimizer.betas", betas))


def test_views_are_kept_only_where_their_number_is_fixed() -> None:
    with pytest.raises(ValueError, match=r"^data: prepare = .*set data\.views"):
        RunConfig.parse(nested("data.prepare", "views"))
    assert RunConfig.parse({"data": {"prepare": "views", "views": 2}}).data.prepare == "views"


@pytest.mark.parametrize("crop", [[0.0, 1.0], [0.9, 0.5], [0.5, 1.1], [-1.0, 1.0]])
def test_the_crop_scale_is_a_range_within_the_image(crop):
    with pytest.raises(ValueError, match=r"^data\.crop_scale: must rise from above 0 to at most 1 \(got "):
        RunConfig.parse(nested("data.crop_scale", crop))
    assert RunConfig.parse(nested("data.crop_scale", [1.0, 1.0])).data.crop_scale == (1.0, 1.0)


def test_what_a_loss_config_does_not_know_is_the_losss_own_option():
    loss = RunConfig.parse({"loss": {"icl": {"weight": 2, "convention": "released", "k": 3}}}).loss
    assert list(loss) == ["icl"]
    assert (loss["icl"].weight, loss["icl"].options()) == (2.0, {"convention": "released", "k": 3})


positive = st.floats(1e-30, 1e30)
share = st.floats(0, 1)
configs = st.builds(
    lambda seed, question, rate, betas, warmup, crop, weights, convention, steps: RunConfig.parse(
        {
            "seed": seed,
            "question": question,
            "data": {"crop_scale": sorted(crop), "seed": seed, "validation": question},
            "optimizer": {"learning_rate": rate, "betas": betas, "warmup_fraction": warmup},
            "loss": {name: {"weight": weight, "convention": convention} for name, weight in weights.items()},
            "train": {"num_steps": steps},
        }
    ),
    seed=st.integers(-(2**63), 2**63 - 1),
    question=st.text(max_size=30),
    rate=positive,
    betas=st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)),
    warmup=share,
    crop=st.lists(st.floats(0, 1, exclude_min=True), min_size=2, max_size=2),
    weights=st.dictionaries(st.text(min_size=1, max_size=5), st.floats(0, 1e300), max_size=3),
    convention=st.text(max_size=10),
    steps=st.integers(1, 10**9),
)


@settings(deadline=None, max_examples=50)
@given(configs)
def test_a_config_is_the_same_after_a_round_trip_through_toml(config):
    assert through_toml(config) == config


def test_the_defaults_are_the_same_after_a_round_trip_through_toml():
    assert through_toml(RunConfig()) == RunConfig()


def test_a_replicate_has_its_own_weights_and_its_own_order():
    config = RunConfig.parse({"data": {"num_pairs": 7}})
    replicate = config.with_seed(5)
    assert (replicate.seed, replicate.data.seed) == (5, 5)
    assert (config.seed, config.data.seed) == (0, 0)
    assert replicate.with_seed(0) == config


def test_a_shorter_run_is_evaluated_and_saved_as_often():
    config = RunConfig.parse(
        {
            "train": {"num_steps": 300},
            "evaluate": {"every_steps": 60},
            "log": {"every_steps": 10, "checkpoint_every_steps": 100},
        }
    )
    scaled = {steps: config.with_steps(steps) for steps in (1, 30, 450, 3000)}
    assert {steps: run.train.num_steps for steps, run in scaled.items()} == {steps: steps for steps in scaled}
    assert {steps: run.evaluate.every_steps for steps, run in scaled.items()} == {1: 1, 30: 6, 450: 90, 3000: 600}
    assert {s: run.log.checkpoint_every_steps for s, run in scaled.items()} == {1: 1, 30: 10, 450: 150, 3000: 1000}
    assert all(run.log.every_steps == 10 for run in scaled.values())
    assert config.with_steps(300) == config


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(0, 10**6))
def test_cadences_scale_in_proportion_and_never_to_0(before, after, every):
    config = RunConfig.parse({"train": {"num_steps": before}, "evaluate": {"every_steps": every}})
    scaled = config.with_steps(after).evaluate.every_steps
    exact = Fraction(every * after, before)
    assert scaled == 0 if every == 0 else scaled >= 1
    assert abs(scaled - exact) <= Fraction(501, 1000) or (scaled == 1 and exact < 1)


@pytest.mark.parametrize("steps", [0, -5])
def test_a_run_has_a_step(steps):
    with pytest.raises(ValueError, match=rf"^--steps must be at least 1 \(got {steps}\)$"):
        RunConfig().with_steps(steps)


def test_several_teachers_are_a_list_or_a_text_and_recorded_as_one_text() -> None:
    listed = RunConfig.parse({"teacher": {"model": ["a.pt*2", " b.pt "], "scales": [100, 50], "combine": "embeddings"}})
    assert listed == RunConfig.parse(
        {"teacher": {"model": "a.pt*2 + b.pt", "scales": [100, 50], "combine": "embeddings"}}
    )
    assert listed.teacher.teachers == (("a.pt", 2.0), ("b.pt", 1.0))
    assert RunConfig.parse(listed.model_dump(mode="json")) == listed
    assert RunConfig.parse({"teacher": {"model": ["a.pt"]}}).teacher.teachers == (("a.pt", 1.0),)
    assert RunConfig().teacher.teachers == ()


@pytest.mark.parametrize(
    ("teacher", "remedy"),
    [
        ({"model": ["a.pt", ""]}, "no SPEC"),
        ({"model": "a.pt*0 + b.pt"}, "numbers above 0"),
        ({"model": "a.pt + b.pt", "scales": [50]}, "one of each"),
        ({"model": "a.pt + b.pt", "scales": [50, 0]}, "greater than 0"),
        ({"model": "a.pt", "scales": [50]}, "teacher_scale"),
        ({"model": "a.pt", "combine": "embeddings"}, "several teachers"),
        ({"model": "a.pt + b.pt", "combine": "product"}, "combine"),
        ({"model": "a.pt", "combine": "affinities"}, "several teachers"),
    ],
)
def test_teachers_that_cannot_be_combined_are_refused_with_the_remedy(teacher, remedy) -> None:
    with pytest.raises(ValueError, match=remedy):
        RunConfig.parse({"teacher": teacher})


def test_an_inherited_student_names_the_one_model_that_it_inherits_from() -> None:
    table = {"teacher": {"model": "a.pt + b.pt"}, "student": {"model": "inherited"}}
    with pytest.raises(ValueError, match=r"set inheritance\.source"):
        RunConfig.parse(table)
    assert RunConfig.parse(table | {"inheritance": {"source": "a.pt"}}).inheritance.source == "a.pt"
