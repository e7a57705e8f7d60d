"""What the field has, and what people have asked of it: each line with the tests that prove it.

``THREADS`` are the lines of the page ``asked.md``; ``FIELD`` is the rest of the project's list.
"""

import re
from dataclasses import dataclass

import pytest

from tests.faults.test_table import defined_in
from workbench.resources import PACKAGE


@dataclass(frozen=True)
class Demand:
    """``proofs`` are written ``folder/test_file.py::test_name``, under ``tests/``."""

    name: str
    proofs: tuple[str, ...]


def demand(name: str, *proofs: str) -> Demand:
    return Demand(name, proofs)


FIELD = [
    # Released students
    demand(
        "TinyCLIP, manual; CLIP-KD; text. prefixes; EMA; Lightning",
        "models/test_released.py::test_every_layout_loads_by_name",
        "models/test_released.py::test_a_file_alone_is_recognized_and_its_activation_named",
    ),
    demand(
        "TinyCLIP, automatic, with a layer that lost its heads",
        "models/test_released.py::test_unevenly_pruned_students_are_read_off_their_shapes",
        "cli/test_inspect.py::test_an_uneven_student_is_shown_layer_by_layer",
    ),
    demand("TinyCLIP on the Hub", "models/test_released.py::test_transformers_names_and_back"),
    demand("Swin of timm up to 0.6", "models/test_released.py::test_swin_towers_of_old_timm_load"),
    demand(
        "a scale of shape (1,), OpenAI's three integers, a numpy scalar next to the weights",
        "models/test_weights.py::test_a_scale_of_either_shape_loads",
        "models/test_weights.py::test_constants_that_openai_stores_are_skipped",
        "models/test_released.py::test_openais_files_hold_three_integers_and_half_precision",
        "models/test_weights.py::test_the_usual_wrappings_of_pytorch_files_are_undone",
    ),
    demand(
        "a remedy only where it is one",
        "models/test_spec.py::test_another_tokenizer_is_only_named_where_the_token_table_differs",
        "models/test_released.py::test_shapes_of_nothing_known_name_the_remedy",
    ),
    demand(
        "MobileCLIP's normalization for a local file",
        "models/test_spec.py::test_weights_by_file_have_the_mean_and_std_of_their_architectures_tags",
        "models/test_siglip.py::test_its_inputs_are_those_of_its_tag",
    ),
    # Yardsticks
    demand(
        "ImageNet by the papers' protocol, V2, R, A, Sketch, ObjectNet",
        "data/sources/test_imagenet.py::test_scores_are_those_of_open_clip",
        "data/sources/test_imagenet.py::test_imagenet_v2_has_indices",
        "data/sources/test_imagenet.py::test_some_classes_are_scored_among_themselves_with_verbatim_prompts",
        "data/sources/test_objectnet.py::test_only_classes_of_imagenet_are_read_with_objectnets_names",
        "cli/test_data.py::test_numbers_for_class_names_are_warned_of_and_zero_shot_comes_first",
    ),
    demand(
        "Karpathy's JSON, token files, results.csv, CLIP_benchmark's webdatasets",
        "data/sources/test_coco.py::test_the_split_is_the_role_or_the_given_one",
        "data/sources/test_csv.py::test_flickrs_token_files_have_no_header",
        "data/sources/test_csv.py::test_results_csv_of_flickr30k_is_a_table",
        "data/sources/test_clip_benchmark.py::test_a_declared_retrieval_set_has_a_caption_a_line",
        "data/sources/test_clip_benchmark.py::test_class_numbers_are_classes_with_the_names_and_templates_of_the_files",
    ),
    demand(
        "CLIP_benchmark's own code on an uneven student",
        "models/test_clip_benchmark.py::test_its_loader_dispatches_on_our_type",
        "models/test_clip_benchmark.py::test_clip_benchmark_itself_measures_the_same",
    ),
    demand(
        "linear and few-shot probes",
        "evaluation/test_linear_probe.py::test_the_fit_is_the_minimum_that_scipy_finds",
        "engine/test_linear_probe.py::test_more_shots_help_and_a_repeat_has_the_same_numbers",
    ),
    # Teachers
    demand(
        "SigLIP, SigLIP 2 and MobileCLIP 2: bias, tokenizers, squash",
        "models/test_siglip.py::test_embeddings_are_those_of_open_clip",
        "models/test_siglip.py::test_a_run_gives_student_and_teacher_their_own_tokens_live_and_cached",
        "models/test_siglip.py::test_a_sentencepiece_model_is_refused_with_the_command_that_converts_it",
    ),
    demand(
        "ensembles of teachers, and a temperature for each",
        "models/test_teacher_group.py::test_logits_are_the_weighted_mean_of_the_teachers_logits",
        "engine/test_several_teachers.py::test_each_teacher_embeds_its_own_view_of_a_batch",
        "engine/test_several_teachers.py::test_live_cached_and_mixed_runs_end_with_the_same_weights",
    ),
    demand(
        "DataCompDR: synthetic captions read, stored teacher outputs left out with the reason",
        "data/test_synthetic.py::test_both_layouts_are_read_and_what_is_unusable_is_counted",
        "data/test_synthetic.py::test_stored_outputs_of_datacompdr_are_left_out_with_the_reason",
    ),
    # Losses
    demand(
        "CLIP-RD, DARK with a weight below zero, active curation (ACID)",
        "losses/test_vrd.py::test_the_captions_are_a_constant_target_of_the_images",
        "losses/test_xrd.py::test_each_similarity_is_the_constant_target_of_the_other",
        "losses/test_dark.py::test_a_negative_weight_repels_from_the_teachers_unmatched_pairs",
        "engine/test_curation.py::test_pairs_that_only_the_student_finds_hard_are_drawn_more_often",
    ),
    demand(
        "SigLIP's sigmoid loss as a task loss",
        "losses/test_sigmoid.py::test_value_and_gradients_are_those_of_open_clip",
    ),
    # Data
    demand(
        "remote shards",
        "data/sources/test_remote.py::test_it_is_the_same_data_as_on_disk_and_copied_once",
    ),
    demand(
        "blank captions in shards, quotes in a TSV, the words None, null and NA",
        "data/sources/test_tar.py::test_blank_captions_are_left_out_and_counted",
        "data/sources/test_csv.py::test_a_quotation_mark_in_a_tsv_is_a_plain_character",
        "data/sources/test_csv.py::test_words_that_pandas_reads_as_missing_are_captions",
    ),
]

THREADS = [
    demand(
        "TinyCLIP#5, Cream#222",
        "models/test_released.py::test_unevenly_pruned_students_are_read_off_their_shapes",
        "docs/test_released.py::test_the_script_prints_a_table_of_teacher_released_and_distilled",
    ),
    demand(
        "TinyCLIP#4, Cream#212, open_clip#766",
        "models/test_transformers_export.py::test_the_folder_has_transformers_names_and_config",
        "models/test_transformers_export.py::test_it_loads_again_here",
        "models/test_released.py::test_transformers_names_and_back",
    ),
    demand(
        "open_clip#616, open_clip#894, accelerate#1154, lightly#1977",
        "engine/test_distributed.py::test_two_ranks_are_bit_identical_to_micro_batches_of_half_the_batch",
        "engine/test_distributed.py::test_uneven_ranks_and_micro_batches_have_the_losses_of_one_process",
    ),
    demand(
        "open_clip#742",  # the sigmoid loss is among the losses of this test
        "engine/test_distributed.py::test_two_ranks_are_bit_identical_to_micro_batches_of_half_the_batch",
        "losses/test_sigmoid.py::test_value_and_gradients_are_those_of_open_clip",
    ),
    demand(
        "open_clip#1076",
        "models/test_siglip.py::test_it_trains_with_clips_loss_and_then_without_a_gradient_for_its_bias",
    ),
    demand(
        "open_clip#933",
        "data/sources/test_parquet.py::test_rows_are_pairs_with_the_bytes_of_the_table",
        "data/sources/test_parquet.py::test_a_wrong_spec_is_one_line_with_the_remedy",
    ),
    demand(
        "webdataset#142",
        "data/sources/test_tar.py::test_bad_shards_are_refused_or_skipped_and_counted",
        "cli/test_data.py::test_bad_shards_are_refused_unless_they_may_be_skipped",
    ),
    demand(
        "open_clip#413",
        "engine/test_cadence.py::test_a_longer_fork_warns_how_far_its_learning_rate_rises",
        "engine/test_cadence.py::test_the_offered_learning_rate_continues_the_parents",
    ),
    demand(
        "CLIP_benchmark#7, mteb#1434",
        "engine/test_suite.py::test_numbers_are_those_of_open_clips_own_code",
        "data/sources/test_coco.py::test_all_captions_are_used_at_evaluation",
        "data/sources/test_coco.py::test_the_split_is_the_role_or_the_given_one",
    ),
    demand(
        "Cream#249",
        "preflight/test_run_checks.py::test_runs_that_do_not_fit_or_take_long_are_found",
        "engine/test_data_wait.py::test_every_run_of_a_cohort_is_warned",
        "engine/test_start_checks.py::test_a_run_warns_once_at_its_start_also_one_that_was_only_created",
    ),
]


@pytest.mark.parametrize("demand", [*FIELD, *THREADS], ids=lambda demand: demand.name)
def test_every_demand_has_its_tests(demand: Demand) -> None:
    assert demand.proofs
    for proof in demand.proofs:
        file, _, name = proof.partition("::")
        assert name in defined_in(file), f"no such test: {proof}"


def test_the_page_has_the_threads_that_are_proven() -> None:
    page = (PACKAGE / "docs" / "asked.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| ([^|]*#\d[^|]*?) \|", page, re.MULTILINE) == [demand.name for demand in THREADS]
