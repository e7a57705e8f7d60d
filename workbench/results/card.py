"""A model card for a run: README.md with the Hub's metadata, results with intervals, recipe and departures.

https://huggingface.co/docs/hub/model-cards describes the metadata.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tomli_w

from workbench.config.run import INHERITED, RunConfig
from workbench.config.study import read_origin
from workbench.config.toml import load_run_config, read_toml
from workbench.errors import visible
from workbench.events import Commanded, EvalDone, RunStarted, Warned
from workbench.losses.declared import declared_losses
from workbench.models.names import parse_model
from workbench.results.departures import run_departures
from workbench.results.markdown import escape, table_lines
from workbench.runs.directory import RunDirectory
from workbench.runs.log import read_history
from workbench.runs.studies import counted, runs_of_study
from workbench.runs.suites import SuiteResult, read_results
from workbench.runs.summary import summarize
from workbench.statistics.intervals import seed_mean
from workbench.views.comparison import setting_text
from workbench.views.metrics import in_order, metric_label
from workbench.views.suite import COLUMNS, suite_views

CARD = "README.md"
LIBRARIES = {"native": "clip-distillation-workbench", "open_clip": "open_clip", "transformers": "transformers"}
Z95 = 1.96  # a 95 % interval from a standard error over many test items
# Metrics with a place in the Hub's leaderboards, and its name for them.
HUB_METRICS = {"zero_shot_top1": "accuracy", "zero_shot_top5": "top_5_accuracy"}
HUB_TASKS = {"zero_shot": "zero-shot-image-classification", "image_to_text": "image-to-text-retrieval"}
_FOLDERS = re.compile(r"(?<![\w.])(?:~|\.{1,2})?/(?:[^/\s@#*+]+/)+(?=[^/\s])")


@dataclass(frozen=True)
class Measured:
    """One metric of the exported weights on one split; ``error`` is None for metrics without a standard error."""

    data: str
    split: str
    num_pairs: int
    metric: str
    value: float
    error: float | None
    chance: float | None
    teacher: float | None

    @property
    def interval(self) -> str:
        """The 95 % interval over test items; empty if unknown."""
        if self.error is None:
            return ""
        half = Z95 * self.error
        return metric_label(self.metric).interval(self.value - half, self.value + half)


def model_card(
    run: RunDirectory, step: int, *, num_params: Mapping[str, int], format: str, use: Sequence[str], size_px: int
) -> str:
    """The text of the card.

    Args:
        step: step of the exported checkpoint; only its evaluations are listed.
        num_params: parameters by tower, and in all.
        format: the export's format.
        use: lines of Python that load the exported folder.
        size_px: the image size.

    Raises:
        UnreadableError: the run's log or config cannot be read.
    """
    config = load_run_config(run.config_file)
    measured = list(_measured(run, config, step))
    suites = [result for result in read_results(run.suites) if result.step in (None, step)]
    lines = [
        _metadata(run, config, measured, suites, format),
        f"# {escape(run.id)}",
        "",
        _introduction(config, num_params, size_px),
        *_section("Use", ["```python", *use, "```"]),
        *_section("Results", _results(run, measured, suites, step)),
        *_section("Training", _training(run, config, step)),
        *_section("Losses", _losses(config)),
        *_section("Departures from the papers", _departures(run)),
        *_section("Limits", _limits(run)),
    ]
    return "\n".join(lines).rstrip() + "\n"


def public(spec: str) -> str:
    """A data or model SPEC without the folders of this machine."""
    return _FOLDERS.sub("", spec)


def _section(title: str, lines: Sequence[str] | Iterator[str]) -> list[str]:
    text = "\n".join(lines).rstrip()
    return ["", f"## {title}", "", text] if text else []


def _metadata(
    run: RunDirectory, config: RunConfig, measured: Sequence[Measured], suites: Sequence[SuiteResult], format: str
) -> str:
    """The YAML front matter, with the results as the Hub's model index."""
    from huggingface_hub import EvalResult, ModelCardData  # takes a second

    found = [(one.data, one.split, one.metric, one.value) for one in measured if one.metric in HUB_METRICS]
    found += [
        (result.name, "test", metric, value)
        for result in suites
        for metric, value in result.metrics.items()
        if metric in HUB_METRICS
    ]
    results = [
        EvalResult(
            task_type=HUB_TASKS["zero_shot"],
            dataset_type=re.sub(r"[^\w.-]+", "-", data),
            dataset_name=data,
            dataset_split=split,
            metric_type=HUB_METRICS[metric],
            metric_name=metric_label(metric).label,
            metric_value=round(value, 6),
        )
        for data, split, metric, value in found
    ]
    card = ModelCardData(
        language="en",
        library_name=LIBRARIES.get(format, format),
        pipeline_tag=HUB_TASKS["zero_shot"],
        tags=["clip", "distillation", *(["pruned"] if config.student.model == INHERITED else [])],
        model_name=run.id if results else None,
        eval_results=results or None,
    )
    return f"---\n{card.to_yaml()}\n---\n"


def _introduction(config: RunConfig, num_params: Mapping[str, int], size_px: int) -> str:
    made = "trained from scratch"
    if config.student.model == INHERITED:
        made = "initialized with a part of its source's weights"
    elif not parse_model(config.student.model).is_architecture:
        made = f"initialized with {escape(public(config.student.model))}"
    towers = ", ".join(f"{num_params[tower] / 1e6:,.2f} M in the {tower} tower" for tower in ("image", "text"))
    teacher = f"distilled from {escape(public(config.teacher.model))}" if config.teacher.model else "without a teacher"
    return (
        f"A CLIP model of {num_params['total'] / 1e6:,.2f} M parameters ({towers}) for images of {size_px} × {size_px} "
        f"pixels, {made}, {teacher}. Made with clip-distillation-workbench."
    )


def _measured(run: RunDirectory, config: RunConfig, step: int) -> Iterator[Measured]:
    """The last evaluation of each split at this step."""
    events = [event for event in read_history(run, (EvalDone,)).events if isinstance(event, EvalDone)]
    last = {event.split: event for event in events if event.step == step}
    specs = {"validation": config.data.validation, "test": config.data.test}
    for split, event in last.items():
        spec = specs.get(split, "")
        data = config.data.train if spec == "auto" else spec
        for name in in_order(set(event.metrics)):
            others = (numbers.get(name) for numbers in (event.errors, event.chance, event.teacher))
            yield Measured(public(data), split, event.num_pairs, name, event.metrics[name], *others)


def _results(
    run: RunDirectory, measured: Sequence[Measured], suites: Sequence[SuiteResult], step: int
) -> Iterator[str]:
    if not measured and not suites:
        yield f"The weights of step {step:,} were not evaluated."
        return
    columns = ["metric", "value", "95 % interval", "chance", "teacher"]
    for data, split, num_pairs in dict.fromkeys((one.data, one.split, one.num_pairs) for one in measured):
        rows = []
        for one in measured:
            if one.split == split:
                label = metric_label(one.metric)
                numbers = (label.number(value) for value in (one.chance, one.teacher))
                rows.append([label.title, label.number(one.value), one.interval, *numbers])
        yield from (f"{escape(data)}, {split}: {num_pairs:,} pairs", "", *table_lines(columns, rows), "")
    for view in suite_views(list(suites)):
        yield from (f"Suite {escape(view.name)}", "", *table_lines(COLUMNS, view.table(), num_words=2), "")
    yield "Intervals cover test pairs, not seeds: another seed gives another model."
    yield from _over_seeds(run)


def _over_seeds(run: RunDirectory) -> Iterator[str]:
    """Means over the seeds of the run's cell, if it is part of a study with several finished ones."""
    origin = read_origin(run.config_file)
    if origin is None:
        return
    replicates = [
        one.run for one in counted(runs_of_study(run.path.parent, origin.study)) if one.origin.cell == origin.cell
    ]
    finished = [found for found in map(summarize, replicates) if found.state == "finished" and found.metrics]
    if len(finished) < 2:
        return
    rows = []
    for name in in_order(set.intersection(*(set(found.metrics) for found in finished))):
        label, errors = metric_label(name), [found.errors.get(name) for found in finished]
        known = [error for error in errors if error is not None]
        estimate = seed_mean([found.metrics[name] for found in finished], known if len(known) == len(errors) else None)
        covers = label.interval(estimate.low, estimate.high)
        rows.append([label.title, label.number(estimate.mean), covers, estimate.covers])
    yield from (
        "",
        f"All {len(finished)} seeds of cell {escape(origin.cell)} of study {escape(origin.study)}, at their ends:",
        "",
        *table_lines(["metric", "mean", "95 % interval", "covers"], rows),
    )


def _training(run: RunDirectory, config: RunConfig, step: int) -> Iterator[str]:
    started = [one for one in read_history(run, (RunStarted,)).events if isinstance(one, RunStarted)]
    pairs = f", {started[-1].num_pairs:,} pairs" if started else ""
    machine = read_toml(run.config_file).get("machine", {})
    rows = {
        "data": f"{public(config.data.train)}{pairs}",
        "teacher": public(config.teacher.model) or "none",
        "recipe": config.recipe,
        "steps": f"{step:,} of {config.train.num_steps:,}, batch {config.train.batch_size:,}",
        "seed": f"{config.seed}, of the data {config.data.seed}",
        "machine": ", ".join(f"{key} {machine[key]}" for key in ("device", "torch", "python") if key in machine),
        "code": f"sha256 {str(machine['code_sha256'])[:16]}" if "code_sha256" in machine else "",
    }
    yield from (f"- {name}: {escape(value)}" for name, value in rows.items() if value)
    settings = _public_settings(config.model_dump(mode="json", exclude_none=True))
    settings = {name: value for name, value in settings.items() if name not in ("recipe", "question")}
    text = visible(tomli_w.dumps(settings), lines=True).rstrip().replace("```", "")
    yield from (
        "",
        "<details><summary>All settings</summary>",
        "",
        "```toml",
        *text.split("\n"),
        "```",
        "",
        "</details>",
    )


def _public_settings(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _public_settings(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_public_settings(one) for one in value]
    return public(value) if isinstance(value, str) else value


def _losses(config: RunConfig) -> Iterator[str]:
    known = declared_losses()
    rows = []
    for name, loss in config.loss.items():
        if loss.schedule.is_ever_on:
            options = ", ".join(f"{key} = {setting_text(value)}" for key, value in loss.options().items())
            weight = setting_text(loss.model_dump()["weight"])
            rows.append([name, weight, loss.weight_at, options, known[name].paper if name in known else "a file"])
    columns = ["loss", "weight", "weight at", "settings", "paper"]
    yield from table_lines(columns, rows, num_words=len(columns))


def _departures(run: RunDirectory) -> Iterator[str]:
    for found in run_departures(run):
        rows = [
            [one.setting, public(setting_text(one.paper)), public(setting_text(one.run)), one.why]
            for one in found.departures
        ]
        same = found.num_compared - len(rows)
        yield f"- {found.paper.name}: {same} of {found.num_compared} settings are as in the paper."
        if rows:
            columns = ["setting", "paper", "here", "why it matters"]
            yield from ("", *table_lines(columns, rows, num_words=len(columns)), "")


def _limits(run: RunDirectory) -> Iterator[str]:
    yield (
        "- A student for ablations: compare it with others that were trained on the same pairs for as many steps, not "
        "with published sizes."
    )
    events = read_history(run, (Commanded, Warned)).events
    for event in events:
        if isinstance(event, Commanded) and event.command == "set":
            changed = ", ".join(f"{name} = {setting_text(value)}" for name, value in event.arguments.items())
            yield f"- Changed while running, after step {event.step:,}: {escape(changed)}"
    yield from (
        f"- Warning after step {event.step:,}: {escape(public(event.message))}"
        for event in events
        if isinstance(event, Warned)
    )
