import pytest
import torch

from workbench.engine.build import build_cohort
from workbench.engine.gradients import diagnose
from workbench.engine.member import Member
from workbench.preflight import trial
from workbench.preflight.trial import LEAST_STEPS, MOST_STEPS, try_steps


def test_a_few_steps_are_timed_and_the_weights_put_back(tiny) -> None:
    cohort = build_cohort({"run": tiny()})
    (member,) = cohort.members
    before = {name: tensor.clone() for name, tensor in member.state.state_dict().items()}
    found = try_steps(cohort)
    assert found is not None
    assert LEAST_STEPS <= found.num_steps <= min(12, MOST_STEPS)
    assert sum(found.timing.learn_s.values()) > 0
    assert found.timing.teacher_forward_s > 0
    assert found.timing.wait_s >= 0
    assert found.peak_mb > 10
    assert (found.num_pairs, found.num_replaced) == (20 * found.num_steps, 0)
    assert found.divergence is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in member.state.state_dict().items())


def test_shares_are_those_before_the_first_step(tiny) -> None:
    found = try_steps(build_cohort({"run": tiny()}))
    cohort = build_cohort({"run": tiny()})
    (member,) = cohort.members
    batch = cohort.stream.batch(0)
    expected = diagnose(member.state, batch, cohort.teacher_forward(batch, 0), member.objective, 0)
    assert list(found.shares) == ["clip", "crd", "fd", "icl"]
    assert list(found.shares.values()) == pytest.approx(expected.share_K.tolist(), rel=1e-4)


def test_stored_teacher_outputs_take_no_time(tiny) -> None:
    live, remembered = (try_steps(build_cohort({"run": tiny(data={"views": views})})) for views in (0, 2))
    assert remembered.teacher_again_s < live.teacher_again_s


def test_a_single_loss_shares_with_none(tiny) -> None:
    off = {name: {"weight": 0.0} for name in ("crd", "fd", "icl")}
    assert try_steps(build_cohort({"run": tiny(loss=off)})).shares == {}


def test_a_run_shorter_than_the_trial_is_taken_to_its_end(tiny) -> None:
    assert try_steps(build_cohort({"run": tiny(train={"num_steps": 1})})).num_steps == 1


def test_a_step_that_is_not_finite_is_noticed(tiny) -> None:
    found = try_steps(build_cohort({"run": tiny(optimizer={"learning_rate": 1e30})}))
    assert found.divergence is not None
    assert found.divergence.step > 1


def test_bad_images_are_counted(tiny, noise_pairs) -> None:
    spec = noise_pairs([f"picture {i}" for i in range(60)], num_broken=1)
    found = try_steps(build_cohort({"run": tiny(data={"train": spec, "validation": ""})}))
    assert found.num_replaced >= 1


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("can't allocate memory: you")]
)
def test_running_out_of_memory_is_an_answer(tiny, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Member, "train_step", fail)
    assert try_steps(build_cohort({"run": tiny()})) is None


def test_a_diagnosis_that_does_not_fit_is_left_out(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trial, "member_gradients", fail)
    found = trial.try_steps(build_cohort({"run": tiny()}))
    assert found is not None
    assert found.shares == {}


def test_any_other_error_is_not_hidden(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Member, "train_step", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        try_steps(build_cohort({"run": tiny()}))


def test_one_step_is_enough_where_it_takes_long(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "TOO_LONG_S", 0.0)
    found = try_steps(build_cohort({"run": tiny()}))
    assert found is not None
    assert found.num_steps == 1
