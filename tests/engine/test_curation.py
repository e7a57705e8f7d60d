"""Active curation of batches, against the joint CLIP loss written out over sets of pairs."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from workbench.config.run import CurationConfig
from workbench.embeddings import Embeddings
from workbench.engine import loop, resume
from workbench.engine.build import build_cohort
from workbench.engine.curation import JointLoss, choose_rows
from workbench.engine.distributed import ALONE
from workbench.engine.launch import launch, relaunch
from workbench.models.weights import weights_sha256

CURATED = {
    "curation": {"method": "learnability", "drop_ratio": 0.6, "num_chunks": 4},
    "train": {"batch_size": 8, "num_steps": 8},
}


def pairs(seed: int, num_pairs: int = 9, scale: float = 8.0) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)
    image, text = (F.normalize(torch.randn(num_pairs, 4, generator=generator).double(), dim=1) for _ in range(2))
    return Embeddings(image, text, torch.tensor(scale, dtype=torch.float64))


def summed_clip_loss(side: Embeddings, rows: list[int]) -> float:
    if not rows:
        return 0.0
    logits = side.scale * side.image_BD[rows] @ side.text_BD[rows].T
    own = torch.arange(len(rows))
    both = F.cross_entropy(logits, own, reduction="sum") + F.cross_entropy(logits.T, own, reduction="sum")
    return both.item() / 2


@pytest.mark.parametrize("chosen", [[], [4], [4, 0, 7, 2]])
def test_a_gain_is_what_a_pair_adds_to_the_summed_loss_of_the_set(chosen: list[int]) -> None:
    side = pairs(1)
    loss = JointLoss(side)
    for start in range(0, len(chosen), 3):
        loss.add(torch.tensor(chosen[start : start + 3]))
    before = summed_clip_loss(side, chosen)
    found = loss.gains().tolist()
    for row in set(range(9)) - set(chosen):
        assert found[row] == pytest.approx(summed_clip_loss(side, [*chosen, row]) - before, abs=1e-9)


@pytest.mark.parametrize("method", ["learnability", "easy"])
def test_chunks_are_drawn_by_their_conditional_scores(method: str) -> None:
    student, teacher = pairs(1, 20), pairs(2, 20, scale=30.0)
    found = choose_rows(student if method == "learnability" else None, teacher, 7, 3, torch.Generator().manual_seed(5))
    generator, chosen = torch.Generator().manual_seed(5), []
    for size in (3, 2, 2):
        noise = -(-torch.rand(20, generator=generator, dtype=torch.float64).log()).log()

        def score(row: int, so_far: list[int]) -> float:
            def gain(side: Embeddings) -> float:
                return summed_clip_loss(side, [*so_far, row]) - summed_clip_loss(side, so_far)

            return (gain(student) if method == "learnability" else 0.0) - gain(teacher)

        rest = [row for row in range(20) if row not in chosen]
        scores = {row: score(row, list(chosen)) + noise[row].item() for row in rest}
        chosen += sorted(scores, key=scores.__getitem__, reverse=True)[:size]
    assert found.tolist() == sorted(chosen)


def test_pairs_that_only_the_student_finds_hard_are_drawn_more_often() -> None:
    student, teacher = pairs(1, 40), pairs(3, 40, scale=50.0)
    teacher = replace(teacher, text_BD=teacher.image_BD)  # finds every pair easy
    student = replace(student, text_BD=torch.cat([student.image_BD[:20], -student.image_BD[20:]]))
    counts = torch.zeros(40)
    for seed in range(60):
        counts[choose_rows(student, teacher, 10, 5, torch.Generator().manual_seed(seed))] += 1
    assert counts[20:].sum() > 2 * counts[:20].sum()


def trained(config, **options) -> str:
    cohort = build_cohort({"run": config}, **options)
    for _ in loop.train(cohort):
        pass
    return weights_sha256(cohort.members[0].state)


def test_a_step_trains_on_rows_of_the_larger_batch_and_its_reports_too(tiny) -> None:
    cohort = build_cohort({"run": tiny(**CURATED)})
    (member,) = cohort.members
    shown = []
    for step, batch in itertools.islice(cohort.batches(), 6):
        assert len(batch) == 20  # 8 / (1 − 0.6)
        outputs = cohort.teacher_forward(batch, step)
        chosen, theirs = member.selected(batch, outputs, step)
        assert len(chosen) == len(set(chosen.keys)) == len(theirs.embeddings) == 8
        where = [batch.keys.index(key) for key in chosen.keys]
        assert torch.equal(chosen.student_image_BCHW, batch.student_image_BCHW[where])
        assert torch.equal(theirs.embeddings.text_BD, outputs.embeddings.text_BD[where])
        assert chosen.indices == tuple(batch.indices[row] for row in where)
        member.train_step(batch, outputs, step)
        assert member.selected(batch, outputs, step)[0].keys == chosen.keys  # although the weights have changed
        shown.append(where)
    assert len({tuple(where) for where in shown}) == 6


def test_each_member_of_a_cohort_chooses_as_it_does_alone(tiny) -> None:
    configs = {"a": tiny(**CURATED, seed=0), "b": tiny(**CURATED, seed=1)}
    cohort = build_cohort(configs)
    for _ in loop.train(cohort):
        pass
    together = [weights_sha256(member.state) for member in cohort.members]
    assert together == [trained(config) for config in configs.values()]
    assert together[0] != together[1]


def test_a_cached_teacher_and_a_live_one_choose_the_same(tiny) -> None:
    live, cached = (tiny(**CURATED, data={"views": 2}, teacher={"cache": cache}) for cache in ("off", "on"))
    assert trained(live) == trained(cached)


def test_micro_batches_and_all_candidates_take_part(tiny) -> None:
    loss = {"icl": {"weight": 1.0, "candidates": "all"}}
    whole, parts = (
        build_cohort(
            {"run": tiny(**CURATED, data={"views": 2}, loss=loss) if not size else _in_parts(tiny, loss, size)}
        )
        for size in (0, 3)
    )
    losses = []
    for cohort in (whole, parts):
        found = []
        for step, batch in cohort.batches():
            cohort.train_step(batch, cohort.teacher_forward(batch, step), step)
            found.append(cohort.members[0].step_done(step + 1, 8, 1.0, 1.0).loss)
        losses.append(found)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def _in_parts(tiny, loss, size: int):
    train = CURATED["train"] | {"micro_batch_size": size}
    return tiny(**CURATED | {"train": train}, data={"views": 2}, loss=loss)


def test_a_resumed_run_chooses_the_same_pairs(tiny, tmp_path: Path) -> None:
    asked = iter(range(1, 1000))
    started = launch({"run": tiny(**CURATED)}, tmp_path)
    list(started.events(lambda: next(asked) == 5))
    again = relaunch(started.directories["run"])
    list(again.events())
    assert again.cohort.start_step == 5
    assert weights_sha256(again.cohort.members[0].state) == trained(tiny(**CURATED))


def test_a_run_from_before_curation_resumes(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = iter(range(1, 1000))
    started = launch({"run": tiny()}, tmp_path)
    list(started.events(lambda: next(asked) == 5))
    honest = resume.read_manifest

    def older(checkpoint):
        manifest = honest(checkpoint)
        return manifest | {"config": {key: table for key, table in manifest["config"].items() if key != "curation"}}

    monkeypatch.setattr(resume, "read_manifest", older)
    config = started.cohort.members[0].config
    resume.check_unchanged(started.directories["run"], config)
    changed = config.model_copy(update={"curation": CurationConfig(method="easy")})
    with pytest.raises(ValueError, match=r"curation\.method was off and is easy"):
        resume.check_unchanged(started.directories["run"], changed)


def test_several_ranks_are_refused(tiny) -> None:
    with pytest.raises(ValueError, match=r"curation\.method=off"):
        build_cohort({"run": tiny(**CURATED)}, ranks=replace(ALONE, size=2))


def test_a_larger_batch_than_the_data_is_refused(tiny) -> None:
    with pytest.raises(ValueError, match="a batch of 80 needs as many pairs"):
        build_cohort({"run": tiny(**CURATED | {"curation": CURATED["curation"] | {"drop_ratio": 0.9}})})
