"""All training pairs as candidates of a run's losses."""

import pytest
import torch

from workbench.engine import loop
from workbench.engine.build import build_cohort
from workbench.engine.teacher_cache import candidates
from workbench.engine.teacher_cache.candidates import CandidatePairs
from workbench.models.weights import weights_sha256

ALL = {"icl": {"weight": 1.0, "candidates": "all"}, "cross_modal": {"weight": 1.0, "candidates": "all"}}


@pytest.fixture
def cohort_of(tiny):
    """``cohort_of(**changes)``: a cohort of one whose losses compare with all training pairs, in two views."""

    def build(**changes):
        return build_cohort({"run": tiny(loss=ALL, data={"views": 2} | changes.pop("data", {}), **changes)})

    return build


def gathered(found, modality: str) -> tuple[list[int], torch.Tensor]:
    pairs, rows = zip(*found.blocks(modality), strict=True)
    return torch.cat(pairs).tolist(), torch.cat(rows)


def test_candidates_are_the_cached_rows_of_the_batchs_view(cohort_of, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "BLOCK_ROWS", 7)
    cohort = cohort_of()
    seen = set()
    for step, batch in cohort.batches():
        outputs = cohort.teacher_forward(batch, step)
        (view,) = set(batch.views)
        seen.add(view)
        expected = cohort.cached.embeddings(2 * torch.arange(60) + view, cohort.teacher.scale)
        for modality, rows, own in (
            ("image", expected.image_BD, outputs.embeddings.image_BD),
            ("text", expected.text_BD, outputs.embeddings.text_BD),
        ):
            pairs, found = gathered(outputs.candidates, modality)
            assert pairs == list(range(60))
            assert torch.equal(found, rows)
            assert torch.equal(found[list(batch.indices)], own)
    assert seen == {0, 1}


def test_pairs_of_one_caption_are_no_negatives_and_bad_images_no_candidates(cohort_of, noise_pairs) -> None:
    captions = [f"number {index % 17}" for index in range(40)]
    data = {"train": noise_pairs(captions, 2), "validation": "", "num_pairs": 0}
    cohort = cohort_of(data=data)
    bad = [index for index in range(40) if torch.isnan(_image(cohort, index)).any()]
    assert len(bad) == 2
    for step, batch in cohort.batches():
        found = cohort.teacher_forward(batch, step).candidates
        assert gathered(found, "text")[0] == [index for index in range(40) if index not in bad]
        for rows, pairs in found.matches.values():
            known = {(row, pair) for row, own in enumerate(batch.indices) for pair in range(own % 17, 40, 17)}
            assert set(zip(rows.tolist(), pairs.tolist(), strict=True)) == known


def _image(cohort, index: int) -> torch.Tensor:
    is_good, found = cohort.cached.good_embeddings(torch.tensor([2 * index]), cohort.teacher.scale)
    return found.image_BD if is_good.all() else torch.tensor(torch.nan)


def test_each_source_of_a_mixture_has_the_view_of_its_own_epoch(cohort_of, noise_pairs) -> None:
    file = noise_pairs([f"number {index}" for index in range(40)])
    data = {"train": f"{file}*3 + samples:scenes*1", "validation": "", "num_pairs": 100}
    cohort = cohort_of(data=data, train={"num_steps": 8})
    (_, first, _), (start, second, _) = cohort.stream.dataset.sources
    views = set()
    for step, batch in cohort.batches():
        outputs = cohort.teacher_forward(batch, step)
        by_pair = dict(zip(batch.indices, batch.views, strict=True))
        one = next(view for pair, view in by_pair.items() if pair < first)
        other = next(view for pair, view in by_pair.items() if pair >= start)
        views.add((one, other))
        rows = torch.cat([2 * torch.arange(first) + one, 2 * torch.arange(start, start + second) + other])
        expected = cohort.cached.embeddings(rows, cohort.teacher.scale)
        assert torch.equal(gathered(outputs.candidates, "image")[1], expected.image_BD)
    assert (1, 0) in views


def trained(cohort) -> str:
    for _ in loop.train(cohort):
        pass
    return weights_sha256(cohort.members[0].state)


def test_weights_are_the_same_from_memory_and_from_disk(cohort_of, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "BLOCK_ROWS", 16)
    kept = trained(cohort_of())
    monkeypatch.setattr(candidates, "fits_in_memory", lambda *_: False)
    reads = []
    honest = CandidatePairs._read
    monkeypatch.setattr(CandidatePairs, "_read", lambda self, views: reads.append(views) or honest(self, views))
    assert trained(cohort_of()) == kept
    assert len(reads) >= 12 * 4  # forward and backward of each modality, at every step


def test_micro_batches_and_stacks_compute_the_same(tiny) -> None:
    def losses(**changes):
        configs = {name: tiny(loss=ALL, data={"views": 2}, seed=seed, **changes) for seed, name in enumerate("ab")}
        cohort = build_cohort(configs)
        found = []
        for step, batch in cohort.batches():
            cohort.train_step(batch, cohort.teacher_forward(batch, step), step)
            found += [member.step_done(step + 1, 20, 1.0, 1.0).loss for member in cohort.members]
        return found

    alone = losses()
    assert losses(train={"micro_batch_size": 7}) == pytest.approx(alone, rel=1e-5)
    assert losses(train={"stacked": "on"}) == pytest.approx(alone, rel=1e-4)


def test_a_live_teacher_is_refused_with_the_remedy(cohort_of) -> None:
    refused = {"teacher.cache=on": {"teacher": {"cache": "off"}}, "data.views=3": {"data": {"views": 0}}}
    for setting, changes in refused.items():
        with pytest.raises(ValueError, match=rf"loss\.icl\.candidates.*{setting}"):
            cohort_of(**changes)
