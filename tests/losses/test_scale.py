"""Every scale setting, against loops over numbers."""

import math
import re

import pytest

from workbench.config.run import LossConfig
from workbench.losses import LOSSES, build_loss
from workbench.losses.registry import make_loss, option_names
from workbench.losses.scale import LearnedScale, ScaleChoice

WITH_TARGETS = ["crd", "gd", "affinity", "cross_modal", "single_modal", "dark"]
CHOICES = [("student", 14.3), ("teacher", 30.0), (5, 5.0), (0.5, 0.5), ("1.5 x teacher", 45.0), ("0.5x teacher", 15.0)]


@pytest.mark.parametrize(("setting", "scale"), CHOICES)
@pytest.mark.parametrize("name", ["clip", "icl", "vrd", "xrd", *WITH_TARGETS])
def test_every_loss_uses_the_scale_it_is_given(embeddings, brute_force, name: str, setting, scale: float) -> None:
    student, teacher = embeddings(1, scale=14.3), embeddings(2, scale=30.0)
    options = {"teacher_scale": 20} if name in WITH_TARGETS else {}
    found = build_loss(name, scale=setting, **options)(student, teacher).item()
    assert found == pytest.approx(getattr(brute_force, name)(student, teacher, scale, 20.0), rel=1e-10)


@pytest.mark.parametrize(("setting", "scale"), [choice for choice in CHOICES if choice[0] != "student"])
@pytest.mark.parametrize("name", WITH_TARGETS)
def test_every_target_uses_the_scale_it_is_given(embeddings, brute_force, name: str, setting, scale: float) -> None:
    student, teacher = embeddings(1, scale=14.3), embeddings(2, scale=30.0)
    found = build_loss(name, scale=20, teacher_scale=setting)(student, teacher).item()
    assert found == pytest.approx(getattr(brute_force, name)(student, teacher, 20.0, scale), rel=1e-10)


@pytest.mark.parametrize(("setting", "scale"), CHOICES)
def test_the_fusion_uses_the_scale_it_is_given(embeddings, setting, scale: float) -> None:
    student, teacher = embeddings(1, scale=14.3), embeddings(2, scale=30.0)
    ours, number = build_loss("afd", scale=setting), build_loss("afd", scale=scale)
    found = ours(student, teacher).item()
    assert found == pytest.approx(number(student, teacher).item(), rel=1e-12)
    assert found != pytest.approx(build_loss("afd", scale=1.3 * scale)(student, teacher).item(), rel=1e-3)


@pytest.mark.parametrize("name", ["clip", "icl", "afd", *WITH_TARGETS])
def test_a_scale_of_its_own_is_learned(embeddings, name: str) -> None:
    student, teacher = embeddings(1, scale=14.3), embeddings(2, scale=30.0)
    loss = build_loss(name, scale="own")
    loss(student, teacher).backward()
    (scale,) = [module for module in loss.learned.modules() if isinstance(module, LearnedScale)]
    assert scale.logit_scale.grad.abs() > 0
    assert student.scale.grad is None
    assert set(loss.learned.scales()) == {name}
    start = 50 if name in ("affinity", "cross_modal", "single_modal") else 1 / 0.07
    assert loss.learned.scales()[name].item() == pytest.approx(start, rel=1e-6)


@pytest.mark.parametrize("name", ["clip", "crd", "gd"])
def test_the_students_scale_is_learned_where_the_loss_shares_it(embeddings, name: str) -> None:
    student, teacher = embeddings(1), embeddings(2)
    loss = build_loss(name)
    loss(student, teacher).backward()
    assert student.scale.grad.abs() > 0
    assert not list(loss.learned.parameters())


@pytest.mark.parametrize("name", ["clip", "icl", "afd", *WITH_TARGETS])
@pytest.mark.parametrize("setting", ["student", "teacher", 20])
def test_a_scale_that_is_not_its_own_adds_no_parameter(embeddings, name: str, setting) -> None:
    loss = build_loss(name, scale=setting)
    loss(embeddings(1), embeddings(2))
    assert not loss.learned.scales()


@pytest.mark.parametrize(
    ("setting", "remedy"),
    [
        ("hot", "1.5 x teacher"),
        ("studnet", "did you mean 'student'"),
        ("50", "1.5 x teacher"),
        (-3, "positive"),
        (0, "positive"),
        (math.nan, "positive"),
        (math.inf, "positive"),
        (True, "positive number"),
        ([50], "positive number"),
        ("-1 x teacher", "positive"),
        ("1.5.2 x teacher", "1.5 x teacher"),
    ],
)
@pytest.mark.parametrize("option", ["scale", "teacher_scale"])
def test_a_scale_that_is_none_is_refused_with_the_remedy(option: str, setting: object, remedy: str) -> None:
    with pytest.raises(ValueError, match=r"loss\.affinity: ") as refusal:
        build_loss("affinity", **{option: setting})
    assert remedy in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_target_cannot_learn_its_scale() -> None:
    for learned in ("own", "student"):
        with pytest.raises(ValueError, match="cannot be learned"):
            build_loss("crd", teacher_scale=learned)


@pytest.mark.parametrize("name", ["fd", "mfd", "intermediate"])
def test_a_loss_without_a_temperature_refuses_one(name: str) -> None:
    with pytest.raises(ValueError, match="scale"):
        build_loss(name, scale=50)


def test_only_a_multiple_of_the_teachers_needs_one() -> None:
    needing = [setting for setting, _ in CHOICES if ScaleChoice(setting).needs_teacher]
    assert needing == ["teacher", "1.5 x teacher", "0.5x teacher"]


def test_a_learned_scale_stays_within_clips_range() -> None:
    scale = LearnedScale()
    assert scale().item() == pytest.approx(1 / 0.07)
    for start, end in ((9.0, 100.0), (-3.0, 1.0)):
        scale.logit_scale.data.fill_(start)
        scale.clamp_()
        assert scale().item() == pytest.approx(end)


def test_the_released_scale_is_the_parameter_itself_and_free() -> None:
    scale = LearnedScale(exponential=False)
    assert scale().item() == pytest.approx(math.log(1 / 0.07))
    scale.logit_scale.data.fill_(500.0)
    scale.clamp_()
    assert scale().item() == 500.0


def test_a_config_takes_a_temperature_for_its_inverse() -> None:
    assert LossConfig.parse({"temperature": 0.05}).options() == {"scale": 20.0}
    both = {"temperature": 0.05, "scale": "teacher"}
    assert LossConfig.parse(both).options() == both
    assert LossConfig.parse({"temperature": 0.05, "file": "mine.py"}).options() == {"temperature": 0.05}
    assert LossConfig.parse({"temperature": "teacher"}).options() == {"temperature": "teacher"}


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if "scale" in option_names(loss)])
@pytest.mark.parametrize("temperature", [0.07, 0.02, 1, 3.0])
def test_a_temperature_is_refused_with_the_equivalent_scale(name: str, temperature: float) -> None:
    with pytest.raises(ValueError, match=rf"^loss\.{name}\.temperature: .* 1/temperature") as caught:
        make_loss(name, temperature=temperature)
    (value,) = re.findall(rf"loss\.{name}\.scale=(\S+)$", str(caught.value))
    assert float(value) == 1 / temperature
    make_loss(name, scale=float(value))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("tau", 0.5, r"is loss\.crd\.scale=2\.0$"),
        ("teacher_temperature", 0.25, r"is loss\.crd\.teacher_scale=4\.0$"),
        ("temperature", "teacher", r"write loss\.crd\.scale=teacher$"),
        ("temperature", 0, r"a temperature is a positive number \(got 0\)"),
        ("temperature", True, "a temperature is a positive number"),
    ],
)
def test_other_words_for_a_temperature(option: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_loss("crd", **{option: value})


def test_a_loss_without_a_temperature_has_no_such_setting() -> None:
    with pytest.raises(ValueError, match=r"^unknown setting of loss\.fd 'temperature'"):
        make_loss("fd", temperature=0.07)
