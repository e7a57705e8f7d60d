"""What can go wrong, what the workbench makes of it, and the tests that prove it.

Numbers are those of the project's list of faults; the terminal interface and notebooks have theirs elsewhere.
"""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Fault:
    """One line of the table: ``proofs`` are written ``folder/test_file.py::test_name``, under ``tests/``."""

    name: str
    expected: str
    proofs: tuple[str, ...]


def fault(name: str, expected: str, *proofs: str) -> Fault:
    return Fault(name, expected, proofs)


FAULTS = [
    fault(
        "1 kill -9 amid the saving of a checkpoint",
        "the newest complete checkpoint loads, 50 times of 50; partial files are removed at the next start",
        "faults/test_kill.py::test_fifty_of_fifty_killed_runs_are_readable_and_resume",
        "test_files.py::test_a_kill_at_any_time_leaves_a_complete_file",
        "test_files.py::test_a_kill_while_replacing_a_folder_leaves_the_old_or_the_new_one",
        "runs/test_liveness.py::test_a_killed_holders_lock_and_half_written_files_are_taken_over",
    ),
    fault(
        "2 kill -9 between weights and manifest",
        "the folder without a manifest is skipped with a warning, and the one before it is used",
        "engine/test_resume.py::test_an_unfinished_or_damaged_checkpoint_is_skipped_with_a_warning",
    ),
    fault(
        "3 resume",
        "losses, weights, optimizer and measurements are bit for bit those of a run that was never interrupted",
        "faults/test_resume.py::test_it_ends_bit_identical",
        "faults/test_resume.py::test_a_run_that_died_before_its_first_step_starts_over",
        "engine/test_checkpoint.py::test_an_interrupted_run_resumes_bit_identically",
        "engine/test_checkpoint.py::test_a_killed_run_ends_as_an_undisturbed_one",
    ),
    fault(
        "4 resume with another config",
        "refused with what changed; changes are made in a fork",
        "engine/test_resume.py::test_settings_edited_since_the_checkpoint_are_refused_and_shown",
        "engine/test_resume.py::test_other_pairs_under_the_same_name_are_refused",
        "engine/test_fork.py::test_changes_start_at_the_fork",
    ),
    fault(
        "5 resume with other workers or on another machine",
        "workers change no bit; another machine gives a warning about the last ones",
        "faults/test_resume.py::test_the_number_of_workers_may_change_on_the_way",
        "engine/test_resume.py::test_what_changes_no_step_may_be_edited",
        "engine/test_resume.py::test_a_change_of_machine_warns_of_other_last_bits",
    ),
    fault(
        "6 truncated, empty or bit-flipped checkpoint",
        "the file and the reason are named, and the intact checkpoint before it is used",
        "engine/test_checkpoint.py::test_a_damaged_checkpoint_is_skipped",
        "engine/test_resume.py::test_with_every_checkpoint_damaged_a_run_starts_over_with_a_warning",
        "runs/test_checkpoints.py::test_a_checkpoint_that_is_damaged_or_not_there_makes_no_fork",
        "models/test_weights.py::test_a_truncated_file_is_refused_in_one_line",
        "faults/test_files.py::test_an_empty_weights_file_is_called_empty",
    ),
    fault(
        "7 a pickle that would run code",
        "refused; nothing runs, and no unsafe way is offered",
        "models/test_weights.py::test_a_pickle_that_would_run_code_is_refused_and_does_not_run",
        "models/test_weights.py::test_a_pickled_module_is_refused",
    ),
    fault(
        "8 weights of another shape, missing or unexpected",
        "a table of the first few, with both shapes",
        "models/test_weights.py::test_weights_that_do_not_fit_are_listed_in_a_table",
        "models/test_weights.py::test_a_long_table_is_shortened_kind_by_kind",
    ),
    fault(
        "9 a loss that is not a number",
        "the step is not taken, weights in memory and on disk stay finite; step, term, first parameter (on a "
        "CPU) and some pairs of the batch are named, exit status 1",
        "engine/test_loop.py::test_a_step_that_is_not_finite_leaves_the_weights_finite",
        "engine/test_loop.py::test_a_member_that_diverges_ends_alone_with_step_and_term",
        "engine/test_loop.py::test_the_first_parameter_and_the_pairs_of_a_bad_step_are_named",
        "faults/test_training.py::test_what_a_diverged_run_leaves_on_disk_is_finite",
        "cli/test_train.py::test_a_diverged_run_exits_with_1_and_names_the_step",
    ),
    fault(
        "10 an infinite gradient of a finite loss",
        "as 9, or skipped and reported, as often as train.max_skipped_steps allows",
        "faults/test_training.py::test_an_infinite_gradient_of_a_finite_loss_stops_the_run_before_its_step",
        "faults/test_training.py::test_infinite_gradients_are_skipped_and_reported",
        "faults/test_training.py::test_one_infinite_gradient_too_many_stops_the_run",
    ),
    fault(
        "11 a loss spike of ten times the median",
        "a warning in the log that names the largest term; training continues",
        "engine/test_step.py::test_a_spike_is_reported_once_until_it_is_over",
        "engine/test_step.py::test_a_run_whose_loss_spikes_continues",
    ),
    fault(
        "12 too little memory on the GPU",
        "one line with batch, peak and remedy; the last checkpoint is kept, and the batch is never halved unasked",
        "engine/test_loop.py::test_too_little_memory_is_one_line_with_the_remedy",
    ),
    fault(
        "13 too little memory on the CPU",
        "as 12, though torch raises a bare RuntimeError",
        "engine/test_loop.py::test_too_little_memory_is_one_line_with_the_remedy",
        "engine/test_loop.py::test_other_errors_are_raised_as_they_are",
    ),
    fault(
        "14 disk full",
        "too small a one is refused before the data are read; one that fills up is told with what is needed "
        "and what there is; the newest checkpoint is intact, older ones make room, training continues and its"
        " log counts the gap; only where its last weights are lost has it failed, and it can be resumed",
        "engine/test_checkpoint.py::test_too_small_a_disk_is_refused_before_the_data_are_read",
        "engine/test_checkpoint.py::test_what_a_resumed_or_forked_run_has_on_disk_already_is_room",
        "cli/test_train.py::test_too_small_a_disk_is_one_line_and_leaves_nothing",
        "test_files.py::test_a_full_disk_reports_needed_and_free_space",
        "test_files.py::test_a_really_full_disk_keeps_the_old_file",
        "test_files.py::test_a_failure_of_any_call_leaves_the_old_file_or_the_new_one",
        "runs/test_summary.py::test_a_full_disk_is_reported_once_and_the_gap_is_written_down",
        "runs/test_log.py::test_a_disk_that_fills_up_within_a_line_tears_that_line_only",
        "engine/test_checkpoint.py::test_a_full_disk_is_a_warning_until_the_last_weights_cannot_be_saved",
        "engine/test_checkpoint.py::test_older_checkpoints_make_room_on_a_full_disk",
        "engine/test_gradients.py::test_a_full_disk_is_a_warning",
        "runs/test_snapshots.py::test_a_full_disk_leaves_the_old_snapshot_or_none",
        "runs/test_liveness.py::test_a_full_disk_is_one_line",
    ),
    fault(
        "15 a runs folder that is read-only, missing, a file or unreadable",
        "one line before any model is loaded",
        "faults/test_training.py::test_a_place_that_cannot_hold_runs_is_refused_before_a_model_is_loaded",
        "runs/test_directory.py::test_an_unusable_runs_folder_is_reported_at_once",
        "runs/test_directory.py::test_a_place_that_even_root_cannot_write_to",
        "runs/test_directory.py::test_a_place_that_may_not_be_read_is_named",
        "runs/test_liveness.py::test_a_read_only_run_is_an_error_with_the_remedy",
    ),
    fault(
        "16 SIGINT, SIGTERM and SIGHUP",
        "the step is finished and saved, exit status 130, 143 or 129, though the terminal is gone; a second "
        "signal, unless it is SIGHUP, ends it at once; no worker stays",
        "cli/test_progress.py::test_a_terminal_that_closes_ends_the_run_resumable",
        "cli/test_progress.py::test_a_second_hangup_or_warning_of_a_cluster_changes_nothing",
        "cli/test_train.py::test_a_signal_saves_and_the_run_can_be_resumed",
        "faults/test_training.py::test_a_second_signal_ends_it_at_once",
        "data/test_batches.py::test_sigterm_ends_workers_quietly",
        "data/test_batches.py::test_closing_early_leaves_no_thread_or_process",
    ),
    fault(
        "18 kill -9 of a sweep's worker",
        "its runs are taken over, here at once and elsewhere after the grace period, and continue from their "
        "own checkpoints; a run that its workers die of three times has failed",
        "sweeps/test_workers.py::test_one_killed_and_one_suspended_and_the_grid_is_finished_once",
        "sweeps/test_leases.py::test_a_process_that_died_here_is_not_waited_for",
        "sweeps/test_leases.py::test_a_process_elsewhere_is_given_the_grace_period",
    ),
    fault(
        "19 a sweep's worker suspended past its grace period",
        "another takes its runs over under new ids; on waking it reports that and drops its own",
        "sweeps/test_workers.py::test_one_killed_and_one_suspended_and_the_grid_is_finished_once",
        "sweeps/test_leases.py::test_timed_out_workers_lose_their_lease_and_notice_when_they_resume",
    ),
    fault(
        "20 two sweeps of one study at once",
        "they share the work: every run is trained once, and both print the same table",
        "sweeps/test_workers.py::test_two_commands_at_once_train_nothing_twice",
        "sweeps/test_postgres.py::test_two_machines_train_every_cell_once_and_both_report_all",
        "sweeps/test_leases.py::test_of_many_who_ask_at_once_one_gets_it",
    ),
    fault(
        "21 a cell that diverges or runs out of memory",
        "its cell shows it, the rest of its cohort stands, and it is never the best; --resume tries again what failed",
        "sweeps/test_sweep.py::test_what_fails_is_stated_and_the_rest_stands",
        "sweeps/test_sweep.py::test_what_failed_is_tried_again_only_if_asked",
        "sweeps/test_sweep.py::test_diverged_trials_are_reported_and_the_budget_holds",
        "sweeps/test_search.py::test_a_value_that_is_not_a_number_is_never_the_best",
        "sweeps/test_search.py::test_three_failures_end_a_search_until_it_is_resumed",
    ),
    fault(
        "22 a study that was started with another space, objective or setting",
        "refused with what was and what is, and how to keep the two apart",
        "sweeps/test_sweep.py::test_another_space_is_refused_with_the_difference",
        "sweeps/test_search.py::test_another_space_or_direction_is_refused_with_the_difference",
        "sweeps/test_sweep.py::test_runs_of_the_same_name_with_other_settings_are_not_taken_for_ours",
    ),
    fault(
        "23 a study's database damaged, lost, out of reach, or of a later version",
        "named and left as it is; the runs folder has what is needed to make it again; out of reach, it is waited for",
        "cli/test_sweep.py::test_a_damaged_database_is_named_and_left_as_it_is",
        "cli/test_sweep.py::test_a_storage_that_cannot_be_used",
        "cli/test_sweep.py::test_a_database_of_a_later_version_is_named_and_left_as_it_is",
        "sweeps/test_sweep.py::test_a_lost_database_is_made_again_from_the_runs",
        "sweeps/test_storage.py::test_a_change_that_was_cut_short_by_a_kill_is_undone",
        "sweeps/test_worker.py::test_it_goes_on_where_it_was",
        "sweeps/test_postgres.py::test_a_server_that_goes_away_is_waited_for",
    ),
    fault(
        "24 a corrupt tar: garbage, empty, cut anywhere, also between members",
        "refused with its name, the reason and the remedy",
        "data/sources/test_tar_index.py::test_a_truncated_tar_is_refused",
        "data/sources/test_tar_index.py::test_damage_is_refused_or_harmless",
        "data/sources/test_tar_index.py::test_other_files_are_refused",
        "data/sources/test_tar.py::test_a_shard_that_changes_while_open_is_refused",
    ),
    fault(
        "25 a hostile tar or SPEC",
        "members are left out by name; nothing is written, unpickled or run",
        "data/sources/test_tar_index.py::test_hostile_members_are_left_out_by_name_and_nothing_is_written",
        "data/sources/test_tar_index.py::test_a_negative_size_does_not_hang",
        "data/test_spec.py::test_a_wrong_spec_is_one_line_with_the_remedy",
    ),
    fault(
        "26 images that are truncated, not images, empty, or of odd modes and sizes",
        "decoded, or replaced and counted by reason; above 5 % the run is refused or ends in one line",
        "data/test_check.py::test_every_kind_of_damaged_image_is_used_or_counted",
        "data/test_batches.py::test_a_broken_image_is_replaced_by_another_pair",
        "data/test_unusable.py::test_too_many_raise_with_reasons_and_examples",
        "data/test_check.py::test_too_many_unusable_images_are_refused",
        "data/test_evaluation_set.py::test_broken_images_are_left_out_of_evaluation",
    ),
    fault(
        "27 a decompression bomb",
        "refused by its header, at a third of Pillow's limit",
        "data/test_images.py::test_a_decompression_bomb_is_refused_by_its_header",
    ),
    fault(
        "28 captions that are empty, long, not UTF-8, or hold NUL, escapes or markup",
        "no crash anywhere; those that are cut are counted",
        "faults/test_training.py::test_captions_of_any_kind_train",
        "data/test_captions.py::test_odd_bytes",
        "data/sources/test_tar.py::test_blank_captions_are_left_out_and_counted",
        "data/test_check.py::test_truncated_captions_are_a_note",
        "models/test_tokenizers.py::test_any_caption_ends_with_the_largest_id",
        "cli/test_data.py::test_captions_may_hold_anything",
    ),
    fault(
        "29 fewer pairs than a batch, one, none; equal captions; teacher embeddings that are NaN",
        "an error with the remedy, or a note",
        "data/test_batches.py::test_a_batch_larger_than_the_data_is_refused_at_once",
        "data/sources/test_tar.py::test_no_pairs_are_refused",
        "data/test_check.py::test_identical_captions_are_refused",
        "data/test_check.py::test_shared_captions_are_a_note_if_frequent_in_a_batch",
        "faults/test_training.py::test_teacher_embeddings_that_are_nan_stop_the_run_at_its_first_step",
    ),
    fault(
        "30 an event log that is torn, huge, of two writers, with NaN tokens or a clock set back",
        "what cannot be read is counted and skipped",
        "runs/test_log.py::test_a_log_truncated_at_any_byte_keeps_every_complete_line",
        "runs/test_log.py::test_no_bytes_make_the_readers_raise",
        "runs/test_log.py::test_nan_and_infinity_tokens_of_other_writers_are_numbers",
        "runs/test_log.py::test_a_hundred_thousand_lines_are_read_in_seconds",
        "runs/test_log.py::test_a_million_lines_are_read_in_seconds_and_little_memory",
        "runs/test_log.py::test_a_clock_set_back_changes_nothing",
        "runs/test_log.py::test_two_writers_never_mix_their_lines",
    ),
    fault(
        "31 the lock of a process that died",
        "recognized by process id and start time, and taken over",
        "runs/test_liveness.py::test_a_killed_holders_lock_and_half_written_files_are_taken_over",
        "runs/test_liveness.py::test_a_pid_that_now_belongs_to_another_process_is_not_the_owner",
        "runs/test_liveness.py::test_another_container_on_this_machine_that_died_is_taken_over_at_once",
    ),
    fault(
        "captions of 10,000 characters or not UTF-8",
        "they train; the tokenizer cuts them, and many that are cut are a note",
        "faults/test_training.py::test_captions_of_any_kind_train",
        "data/sources/test_csv.py::test_bytes_that_are_not_utf8_are_replaced",
        "data/sources/test_coco.py::test_a_caption_may_be_anything",
    ),
    fault(
        "images of 1 x 1, CMYK, 16 bits, animated, rotated, 20,000 pixels wide",
        "shown as a browser shows them; too many pixels are refused by the header",
        "data/test_check.py::test_every_kind_of_damaged_image_is_used_or_counted",
        "data/test_images.py::test_a_print_jpeg_in_cmyk",
        "data/test_images.py::test_sixteen_bit_grays_keep_their_range",
        "data/test_images.py::test_rotated_by_exif",
        "data/test_images.py::test_odd_sizes",
    ),
    fault(
        "unknown names of losses, recipes and settings; a negative weight; a batch larger than the data",
        "one line with the nearest name or the remedy, exit status 2, and no run is left behind",
        "cli/test_train.py::test_bad_input_is_one_line_with_the_remedy",
        "config/test_run.py::test_a_misspelt_setting_of_every_group_is_answered_with_the_right_one",
        "config/test_toml.py::test_an_unknown_recipe_offers_the_nearest",
    ),
    fault(
        "two runs with one name",
        "of two at once exactly one starts; the other fails with both remedies",
        "cli/test_train.py::test_two_runs_cannot_share_a_name",
        "runs/test_directory.py::test_of_two_processes_creating_one_id_exactly_one_wins",
        "runs/test_liveness.py::test_of_many_processes_exactly_one_gets_the_lock",
    ),
    fault(
        "a clock that jumps",
        "order, durations and states do not depend on it",
        "faults/test_training.py::test_a_clock_that_jumps_changes_nothing_that_is_measured",
        "runs/test_liveness.py::test_a_clock_set_back_does_not_change_the_order",
        "runs/test_log.py::test_silence_is_measured_by_the_event_but_never_by_a_clock_ahead_of_ours",
    ),
    fault(
        "a full disk under a command that writes, or under its log",
        "one line with the place, what is needed, what there is and the remedy; nothing half-written is left;"
        " a log or a display that cannot be written ends no training",
        "cli/test_full_disk.py::test_a_command_on_a_full_disk_leaves_nothing",
        "cli/test_full_disk.py::test_a_recipe_is_complete_or_absent",
        "cli/test_full_disk.py::test_a_log_on_a_full_disk_ends_no_training",
        "cli/test_full_disk.py::test_a_study_whose_runs_all_failed_shows_it_in_table_and_exit_status",
        "test_errors.py::test_messages_are_dropped_while_the_disk_is_full_and_the_gap_is_reported",
        "test_errors.py::test_results_that_cannot_be_printed_are_one_line",
        "cli/test_progress.py::test_a_display_that_fails_is_reported_once_and_the_events_go_on",
        "cli/test_workers.py::test_a_baseline_that_failed_leaves_a_table_without_differences",
        "test_files.py::test_a_new_folder_on_a_full_disk_reports_its_full_size",
    ),
    fault(
        "kill -9 of a command that writes a folder or a file",
        "the output is complete or absent; partial files are removed by the next command that writes there, "
        "recognized from what a living process writes by process id and start time",
        "cli/test_killed_output.py::test_a_killed_command_leaves_complete_output_or_none",
        "cli/test_killed_output.py::test_samples_drawn_on_first_use_are_whole_or_drawn_again",
        "test_files.py::test_what_a_living_process_writes_is_spared_until_it_is_dead",
        "test_files.py::test_a_process_with_the_id_of_a_dead_writer_is_not_the_writer",
        "test_files.py::test_what_another_machine_writes_is_spared_for_a_day",
        "test_files.py::test_an_error_in_a_new_folder_leaves_nothing_not_even_its_parents",
    ),
    fault(
        "an --out that exists already, a model or run that does not",
        "refused before torch is imported, with whether what is there is whole and what to do",
        "cli/test_options.py::test_it_is_refused_before_torch_is_imported",
        "cli/test_options.py::test_a_complete_model_is_reported_as_complete",
        "cli/test_options.py::test_a_partial_model_is_reported_as_incomplete",
        "cli/test_options.py::test_samples_recipes_and_onnx",
        "cli/test_options.py::test_files_of_somebody_else_are_not_to_be_removed",
    ),
    fault(
        "a caption that starts with a quotation mark",
        "a letter in a TSV; in a CSV, where it would take in other rows, refused with its line",
        "data/sources/test_csv.py::test_a_quotation_mark_in_a_tsv_is_a_plain_character",
        "data/sources/test_csv.py::test_an_unclosed_quotation_mark_in_a_csv_is_refused_with_its_line",
        "cli/test_data.py::test_captions_left_out_and_line_breaks_are_counted",
    ),
    fault(
        "captions that are blank, null, numbers or missing, or in JSON that cannot be read, among good ones",
        "left out, counted by reason and warned of; above 5 % refused; the words None and null are captions",
        "data/test_captions.py::test_unusable_captions_are_left_out_by_reason",
        "data/sources/test_tar.py::test_too_many_blank_captions_are_refused",
        "data/sources/test_csv.py::test_too_many_rows_without_a_caption_are_refused",
        "data/sources/test_csv.py::test_words_that_pandas_reads_as_missing_are_captions",
        "data/sources/test_coco.py::test_unusable_captions_are_left_out_and_counted",
        "data/sources/test_coco.py::test_unusable_sentences_are_left_out_and_counted",
        "data/test_mixture.py::test_every_part_counts_its_unusable_captions",
    ),
    fault(
        "several captions in one .txt, a line each",
        "lines are captions where most texts have several, which data check reports",
        "data/sources/test_tar.py::test_lines_are_captions_if_most_texts_have_several",
        "data/sources/test_tar.py::test_line_breaks_in_json_captions_never_split_them",
        "cli/test_data.py::test_the_chosen_reading_of_captions_is_printed",
    ),
    fault(
        "one torn shard of many, or a gap in a range of shards",
        "refused with the setting that skips them; skipped, they are counted, warned of and in the fingerprint",
        "data/sources/test_tar.py::test_bad_shards_are_refused_or_skipped_and_counted",
        "engine/test_any_data.py::test_bad_shards_are_refused_by_default_and_skipped_where_the_setting_allows_it",
        "cli/test_data.py::test_bad_shards_are_refused_unless_they_may_be_skipped",
    ),
    fault(
        "class folders named by numbers or WordNet ids",
        "warned of wherever the folder is opened, with the file that names them",
        "data/sources/test_folder.py::test_numbers_and_ids_as_class_names_are_a_warning",
        "cli/test_data.py::test_numbers_for_class_names_are_warned_of_and_zero_shot_comes_first",
        "preflight/test_data_checks.py::test_what_was_left_out_is_a_warning",
    ),
    fault(
        "few images, a few of which are bad",
        "data check exits with 1 where training would end; a run that fails reports the reason once",
        "cli/test_data.py::test_a_few_unusable_images_of_a_few_are_too_many",
        "cli/test_train.py::test_a_failed_run_reports_why_once",
    ),
    fault(
        "integers of hundreds of digits, deep nesting, long chains of extends, files of gigabytes",
        "one short line with the setting or file, before the file is read or Python recurses",
        "test_documents.py::test_an_integer_beyond_64_bits_is_refused_whatever_its_length",
        "test_documents.py::test_toml_that_is_nested_too_deeply_is_refused",
        "test_documents.py::test_json_that_is_nested_too_deeply_is_refused",
        "test_documents.py::test_a_file_of_gigabytes_is_refused_without_reading_it",
        "config/test_toml.py::test_an_override_beyond_the_bounds_is_one_short_line",
        "config/test_toml.py::test_a_long_chain_of_recipes_is_refused_and_one_within_the_bound_is_read",
        "config/test_study.py::test_a_long_chain_of_studies_and_a_key_nested_too_deeply_are_refused",
        "models/test_folder.py::test_documents_beyond_the_bounds_are_refused_in_a_line",
        "models/test_weights.py::test_a_header_beyond_the_bounds_is_refused_in_a_line",
    ),
    fault(
        "nan or infinity in a setting",
        "refused before anything is built, with the setting's name",
        "config/test_run.py::test_no_setting_of_any_group_or_loss_is_infinite_or_undefined",
        "config/test_base.py::test_an_axis_of_no_finite_numbers_is_refused_with_its_name",
        "cli/test_runs.py::test_a_refused_command_is_one_line",
        "cli/test_inherit.py::test_an_odd_request_is_one_line",
    ),
    fault(
        "a mistake in a user's own loss",
        "found on random embeddings before the first step: one line with the loss, its file, the line and the"
        " rule; one that shows later ends the run with the same line",
        "cli/test_custom_loss.py::test_a_mistake_is_found_before_the_first_step",
        "cli/test_custom_loss.py::test_a_mistake_that_shows_later_ends_the_run_in_one_line",
        "losses/test_registry.py::test_a_mistake_in_a_loss_is_one_line_with_loss_file_and_rule",
        "losses/test_registry.py::test_a_file_that_defines_no_single_loss_is_refused_in_a_line",
    ),
    fault(
        "settings at which a loss contributes nothing to the gradient, or everything",
        "warned of by doctor and at the first report, with the settings; never for a shipped recipe",
        "engine/test_gradients.py::test_a_loss_at_a_scale_of_nothing_is_named_with_its_scale_at_the_first_report",
        "engine/test_gradients.py::test_a_loss_with_everything_is_named_with_its_weight",
        "engine/test_gradients.py::test_a_single_loss_whose_gradient_adamw_does_not_feel_is_named",
        "engine/test_gradients.py::test_a_loss_that_is_merely_small_or_large_is_not_named",
        "engine/test_gradients.py::test_doctor_reports_it_too",
        "engine/test_trace.py::test_every_loss_of_a_recipe_contributes_at_every_step",
    ),
    fault(
        "a study whose objective nothing measures, or whose losses cannot be at one of its values",
        "refused before a model is loaded, with the cell and the remedy",
        "sweeps/test_plan.py::test_an_invalid_grid_is_refused_with_the_cells_name",
        "sweeps/test_plan.py::test_a_search_is_tried_at_every_end_and_choice",
        "sweeps/test_plan.py::test_every_shipped_study_can_be",
    ),
    fault(
        "weights in int8, float8, bool or complex, with NaN or infinity, or with a scale of 0 or infinity",
        "refused in one line, from whatever file or folder; constants that are no weights are skipped",
        "models/test_weights.py::test_only_floating_weights_of_16_bits_or_more_load",
        "models/test_weights.py::test_weights_that_are_not_finite_are_refused",
        "models/test_weights.py::test_a_scale_that_is_not_positive_and_finite_is_refused",
        "models/test_weights.py::test_constants_that_openai_stores_are_skipped",
    ),
    fault(
        "weights by file whose images were normalized otherwise than OpenAI's",
        "those of the architecture's pretrained weights; where these differ, a warning that names the setting",
        "models/test_spec.py::test_weights_by_file_have_the_mean_and_std_of_their_architectures_tags",
        "models/test_spec.py::test_where_an_architectures_tags_disagree_openais_is_taken_and_the_setting_named",
        "preflight/test_import_teacher.py::test_the_normalization_that_finds_clearly_more_is_taken",
    ),
    fault(
        "a model config of 1e9 layers, with a timm tower to download, or with a captioning decoder",
        "refused by its parameter count and by name before anything is allocated or downloaded",
        "models/test_clip.py::test_what_is_not_supported_or_too_large_is_refused_before_it_is_built",
        "models/test_clip.py::test_a_timm_tower_is_never_downloaded",
        "models/test_spec.py::test_what_cannot_be_built_is_refused_before_it_is_downloaded",
    ),
    fault(
        "a run whose teacher, pairs or loss file are not on this machine, or lie elsewhere now",
        "evaluated without agreement, and a note; resumed with new paths, if the fingerprints are the same",
        "engine/test_remeasure.py::test_a_run_copied_without_its_teacher_is_measured_without_agreement",
        "engine/test_remeasure.py::test_a_teacher_with_other_weights_is_not_compared_with",
        "engine/test_settings.py::test_a_moved_run_resumes_with_new_paths_and_records_them",
        "engine/test_settings.py::test_new_paths_must_lead_to_the_same_files",
        "engine/test_settings.py::test_a_run_with_relative_paths_resumes_from_any_folder",
    ),
    fault(
        "a recipe or a run's folder of somebody else's that names a loss file",
        "its code does not run without --trust, in any command: one line, exit status 2",
        "config/test_trust.py::test_files_elsewhere_do_not",
        "config/test_trust.py::test_nor_do_those_in_the_folder_of_a_run",
        "losses/test_registry.py::test_a_configs_file_elsewhere_is_not_run_without_trust",
        "cli/test_custom_loss.py::test_a_strangers_loss_runs_only_with_trust",
    ),
    fault(
        "loaded state in another memory format, dtype or device than what it stands for",
        "resumed and forked students of every kind end bit-identical; AdamW's step lies where the weights do",
        "faults/test_resume_students.py::test_a_resumed_student_ends_bit_identical",
        "faults/test_resume_students.py::test_a_forked_student_ends_bit_identical",
        "engine/test_state.py::test_a_loaded_moment_has_the_dtype_and_strides_of_its_parameter",
        "gpu/test_pretended_runs.py::test_a_run_resumed_on_the_gpu_ends_bit_identical",
    ),
    fault(
        "weights that overflow in a step whose gradient is finite",
        "the run has diverged, nothing that is not finite is saved or resumed, and the last finite checkpoint is named",
        "faults/test_training.py::test_weights_that_overflow_in_a_finite_step_are_never_saved",
        "faults/test_training.py::test_a_diverged_run_names_its_last_finite_checkpoint",
        "faults/test_training.py::test_a_checkpoint_whose_weights_are_not_finite_is_neither_saved_nor_gone_on_from",
    ),
    fault(
        "a fork whose --steps move it to another place of its schedules",
        "learning rate, loss weights and masks that jump are reported with both values; another phase is refused",
        "engine/test_cadence.py::test_a_longer_fork_warns_how_far_its_learning_rate_rises",
        "engine/test_cadence.py::test_a_weight_that_ramps_goes_back_with_a_warning",
        "engine/test_cadence.py::test_masks_whose_target_goes_back_say_so",
        "engine/test_cadence.py::test_a_fork_that_would_be_in_another_phase_is_refused",
    ),
    fault(
        "a run's folder deleted, moved or replaced while it trains",
        "that run has failed with the reason, exit status 1; its cohort continues, and the folder stays gone",
        "faults/test_training.py::test_a_run_whose_folder_is_deleted_fails_alone_with_the_reason",
        "faults/test_training.py::test_a_run_whose_folder_goes_away_during_the_last_evaluation_has_not_finished",
        "cli/test_train.py::test_a_run_whose_folder_is_deleted_fails",
    ),
    fault(
        "a launcher that starts several ranks",
        "refused in one line by every command that trains, before anything is written",
        "cli/test_train.py::test_several_ranks_are_refused",
    ),
    fault(
        "batches of a few pairs, whose rows a library may sum in another order by their place",
        "the teacher pads them to 12 rows: live and cached runs end with the same weights",
        "engine/teacher_cache/test_cached_runs.py::test_small_batches_train_alike_live_and_cached_on_two_threads",
    ),
    fault(
        "a teacher that knows nothing of the pairs, or cannot read their words",
        "the run warns at its start, its last lines name chance and the teacher's recall; doctor calls it a problem",
        "engine/test_start_checks.py::test_a_teacher_at_chance_is_named_with_its_level_and_the_remedy",
        "engine/test_start_checks.py::test_words_that_neither_model_knows_are_named",
        "engine/test_start_checks.py::test_a_run_warns_once_at_its_start_also_one_that_was_only_created",
        "evaluation/test_chance.py::test_chance_is_the_mean_of_random_orders",
        "cli/test_teacher.py::test_a_teacher_is_written_measured_and_teaches",
    ),
    fault(
        "work of minutes, such as an evaluation, without output",
        "a bar in a terminal, a line every ten seconds in a log, and a live run is shown as evaluating",
        "test_progress.py::test_a_log_gets_lines_also_while_nothing_is_counted",
        "test_progress.py::test_lines_are_ten_seconds_apart_over_phases_that_follow_one_another",
        "engine/test_evaluate.py::test_an_evaluation_is_announced_before_it_starts",
        "cli/test_evaluate.py::test_chance_and_teacher_are_columns_next_to_the_student",
        "evaluation/test_chance.py::test_chance_is_the_mean_of_random_orders",
        "cli/test_teacher.py::test_a_teacher_is_written_measured_and_teaches",
        "cli/test_progress.py::test_a_long_test_evaluation_has_a_hint_how_to_skip_it",
        "runs/test_liveness.py::test_a_live_run_shows_the_split_under_evaluation",
    ),
    fault(
        "a run that this machine could not finish in weeks, looked into or calibrated",
        "estimated from a few pairs: doctor and a dry run report the time and take no step, calibrate refuses",
        "preflight/test_doctor.py::test_a_run_that_this_machine_cannot_do_is_estimated_and_not_tried",
        "cli/test_preflight.py::test_a_trial_beyond_the_bound_is_left_out_and_the_run_estimated",
        "sweeps/test_plan.py::test_a_step_that_takes_long_is_estimated_and_not_taken",
        "preflight/test_calibrate.py::test_what_would_take_this_machine_hours_is_refused_with_the_ways_out",
        "preflight/test_timing.py::test_the_training_after_it_is_the_same",
    ),
    fault(
        "a run folder that somebody else has damaged: pipes, devices, folders, sparse or deeply nested files",
        "every file is read within bounds; the run is listed as unreadable with the reason, and the others as they are",
        "faults/test_planted_runs.py::test_every_run_is_listed_with_the_reason_if_it_cannot_be_read",
        "faults/test_planted_runs.py::test_a_damaged_run_is_shown_or_refused_in_one_line",
        "faults/test_planted_runs.py::test_list_show_and_dashboard_agree_about_the_state",
        "runs/test_summary.py::test_a_summary_that_the_log_contradicts_does_not_count",
        "faults/test_planted_runs.py::test_a_folder_whose_name_is_not_utf8_is_listed_and_refused",
        "faults/test_planted_runs.py::test_a_link_to_itself_is_refused_in_one_line",
        "faults/test_planted_runs.py::test_a_comparison_leaves_out_what_it_cannot_read",
        "faults/test_planted_runs.py::test_the_dashboard_lists_what_it_cannot_read",
        "faults/test_planted_runs.py::test_a_study_is_reported_without_what_cannot_be_read",
        "faults/test_planted_runs.py::test_the_dashboards_screens_open_on_every_damaged_run",
        "test_documents.py::test_what_is_no_plain_file_is_named_and_not_waited_for",
        "test_documents.py::test_a_sparse_file_of_a_terabyte_takes_neither_time_nor_memory",
        "runs/test_log.py::test_a_line_or_a_log_that_is_too_long_is_refused_by_its_size",
    ),
    fault(
        "names, captions and messages from files that would steer a terminal, a spreadsheet or a typesetter",
        "control characters are shown, never sent; no markup, formula, Markdown or LaTeX in them is interpreted",
        "test_errors.py::test_no_character_of_unicode_steers",
        "cli/test_output.py::test_a_console_sends_no_control_character_of_a_text",
        "faults/test_planted_runs.py::test_no_name_of_a_file_steers_the_terminal",
        "faults/test_planted_runs.py::test_no_name_of_a_file_steers_the_terminal_in_an_error",
        "faults/test_planted_runs.py::test_no_name_of_a_file_steers_the_dashboard",
        "test_formatting.py::test_no_text_is_a_formula",
        "test_formatting.py::test_numbers_stay_numbers",
        "results/test_report.py::test_names_of_others_break_no_table_in_markdown",
        "results/test_report.py::test_names_of_others_are_text_in_latex",
    ),
    fault(
        "numbers that are not finite in what a command prints as JSON",
        'one valid document: they are "NaN", "Infinity" and "-Infinity"',
        "cli/test_output.py::test_json_is_valid_and_printable_whatever_is_in_it",
        "faults/test_planted_runs.py::test_every_run_is_listed_with_the_reason_if_it_cannot_be_read",
    ),
    fault(
        "a misspelt loss, setting, model, data set, run or study in any command",
        "one line with the remedy before torch is imported; what is said early is what building the run would say",
        "cli/test_start.py::test_bad_input_is_refused_without_torch",
        "cli/test_start.py::test_what_is_kept_is_listed_without_torch",
        "preflight/test_precheck.py::test_early_checks_report_what_building_reports",
        "preflight/test_precheck.py::test_every_recipe_passes",
        "losses/test_declared.py::test_parsed_settings_are_those_of_the_classes",
        "losses/test_declared.py::test_a_typo_is_refused_with_the_nearest_name",
        "models/test_names.py::test_a_spec_that_names_nothing_is_refused_as_the_loader_refuses_it",
    ),
    fault(
        "an example of a help that the shell reads otherwise, or that names what is not there",
        "each is one command whose words stay as they are, of a command with these options; every command has one",
        "cli/test_help.py::test_a_command_has_an_example_of_itself",
        "cli/test_help.py::test_an_example_is_one_shell_command_without_expansion",
        "cli/test_help.py::test_an_example_names_a_command_with_options_that_it_has",
    ),
    fault(
        "a study of one's own whose file lies elsewhere, or is gone",
        "found by its name in the working directory, in ./studies, as the copy beside its runs, or by its runs",
        "runs/test_studies.py::test_a_study_of_ones_own_is_found_by_name",
        "runs/test_studies.py::test_a_study_without_a_file_is_reconstructed_from_its_runs",
        "results/test_command.py::test_a_study_of_ones_own_is_reported_by_its_name",
        "results/test_command.py::test_a_rehearsal_whose_file_has_moved_is_reported_by_its_studys_name",
    ),
    fault(
        "an --out that names a file or folder of the user's own",
        "said to exist, with another --out as the remedy; never called incomplete, never to be removed",
        "cli/test_options.py::test_a_file_of_somebody_else_is_only_in_the_way",
        "cli/test_options.py::test_files_of_somebody_else_are_not_to_be_removed",
        "cli/test_options.py::test_a_recipe_is_not_what_a_command_for_folders_wrote",
        "cli/test_options.py::test_a_partial_model_beside_other_files_is_not_to_be_removed",
    ),
    fault(
        "a loss file that changed since a run started, moved or not",
        "resuming is refused with the file and the command for a fork; a fork warns once; older checkpoints warn",
        "engine/test_resume.py::test_a_changed_loss_file_is_refused_and_the_same_one_resumes",
        "engine/test_resume.py::test_a_moved_loss_file_must_have_the_same_content",
        "engine/test_resume.py::test_a_fork_warns_once_of_another_loss_file",
        "engine/test_resume.py::test_a_checkpoint_without_a_recorded_loss_file_resumes_with_a_warning",
    ),
    fault(
        "equal captions, as of a class folder, which take many ranks at once",
        "the chance level is the mean over random orders of the distinct captions",
        "evaluation/test_chance.py::test_equal_captions_take_consecutive_ranks_at_chance",
        "evaluation/test_chance.py::test_chance_of_a_class_folder_is_one_in_its_classes",
    ),
]


@cache
def defined_in(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_has_its_tests(fault: Fault) -> None:
    assert fault.proofs
    for proof in fault.proofs:
        file, _, name = proof.partition("::")
        assert name in defined_in(file), f"no such test: {proof}"


def test_no_fault_of_the_list_is_left_out() -> None:
    numbers = [int(fault.name.split()[0]) for fault in FAULTS if fault.name.split()[0].isdigit()]
    assert numbers == [*range(1, 17), *range(18, 32)]
