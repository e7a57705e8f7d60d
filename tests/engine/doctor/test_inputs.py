import pytest

from workbench.data.spec import open_dataset
from workbench.engine.doctor.inputs import input_findings, picture_finding, share_unknown
from workbench.engine.doctor.trial import Trial
from workbench.engine.laps import Lap
from workbench.models.spec import load_model
from workbench.models.teacher import Teacher
from workbench.models.tokenizers import BytePairTokenizer, WordTokenizer


@pytest.fixture
def look(tiny_models):
    """``look(data, tokenizer)``: the findings on a data SPEC, for the tiny student."""

    def findings(spec: str, *, tokenizer: str = "", batch_size: int = 20, student: str = ""):
        spec_of_student = student or tiny_models["student"]
        student_model = load_model(spec_of_student, seed=0, tokenizer=tokenizer)
        teacher = Teacher(load_model("sample:scenes"), 20)
        dataset = open_dataset(spec, "train", 60 if spec.startswith("samples:") else 0)
        return list(input_findings(dataset, student_model, teacher, batch_size, spec_of_student))

    return findings


def test_the_samples_suit_the_tiny_student(look, one) -> None:
    found = look("samples:scenes")
    assert {finding.level for finding in found} == {"ok"}
    assert [finding.check for finding in found] == [
        "captions",
        "caption length",
        "student's words",
        "teacher's words",
        "input forms",
    ]
    assert "pictures of 16 and 48 pixels" in one(found, "input forms").message


def test_shared_captions_are_warned_of(look, pairs, one) -> None:
    found = one(look(pairs([f"a red circle {'left' if i % 2 else 'right'}" for i in range(40)])), "captions")
    assert found.level == "warning"
    assert "40, 2 of them different: 9.3 of a pair's 19" in found.message


def test_cut_captions_are_warned_of(look, pairs, one) -> None:
    found = one(look(pairs([f"{'a red circle ' * 10}{i}" for i in range(40)])), "caption length")
    assert found.level == "warning"
    assert "100% fill the 20 tokens" in found.message


def test_unknown_words_are_a_problem_of_the_model_that_does_not_know_them(look, pairs, one, tiny_models) -> None:
    spec = pairs([f"xylophone quagmire zeppelin{i}" for i in range(40)])
    found = look(spec)
    assert one(found, "student's words").level == one(found, "teacher's words").level == "problem"
    assert one(found, "student's words").remedy == "--set student.tokenizer=bpe"
    assert "teacher.model" in one(found, "teacher's words").remedy
    found = look(spec, student=tiny_models["teacher"])  # a folder with weights, whose tokenizer stays
    assert one(found, "student's words").remedy == "begin with a student that knows them"


def test_byte_pairs_know_all_words(look, pairs, one) -> None:
    found = look(pairs([f"xylophone quagmire {i}" for i in range(40)]), tokenizer="bpe")
    assert "student's words" not in {finding.check for finding in found}
    assert "tokenizers (49,408 byte pairs in 20 tokens and " in one(found, "input forms").message


def test_the_share_of_unknown_words_is_counted_by_word() -> None:
    tokenize = WordTokenizer(("a", "red", "bus"), context_length=6)
    assert share_unknown(tokenize, ["a red bus", "a BLUE bus"]) == pytest.approx(1 / 6)
    assert share_unknown(tokenize, ["..."]) == 0
    assert share_unknown(BytePairTokenizer(8), ["a red bus"]) is None


@pytest.mark.parametrize(
    ("num_replaced", "level"), [(0, "ok"), (1, "ok"), (2, "warning"), (7, "warning"), (8, "problem")]
)
def test_broken_pictures_are_counted(num_replaced: int, level: str) -> None:
    trial = Trial(3, Lap(0, 0, {"run": 1}), 0, 100, None, num_pairs=150, num_replaced=num_replaced)
    assert picture_finding(trial).level == level


@pytest.mark.filterwarnings("ignore:left out", "ignore:.*have a number or an id")
def test_what_was_left_out_is_a_warning(look, pairs, one, tmp_path) -> None:
    found = one(look(pairs([*(f"a red circle {i}" for i in range(39)), ""])), "training data")
    assert found.level == "warning"
    assert "1 of 40 (1 blank" in found.message
    for name in ("0", "1"):
        (tmp_path / "digits" / name).mkdir(parents=True)
        (tmp_path / f"{name}.png").rename(tmp_path / "digits" / name / "a.png")
    assert "classes.json" in one(look(f"folder:{tmp_path / 'digits'}"), "training data").message
