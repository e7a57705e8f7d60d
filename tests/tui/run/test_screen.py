import re
import shutil

import numpy as np
import pytest

from workbench.config.inheritance import TowerShape
from workbench.events import Commanded, RunFinished, RunResumed, StageStarted, Warned
from workbench.runs.snapshots import PLACES, Gradients, MaskSnapshot, TowerMask, write_snapshot
from workbench.runs.suites import SuiteResult, keep_result
from workbench.tui.charts.chart import Chart
from workbench.tui.follow import RunHistory
from workbench.tui.preferences import read_preferences
from workbench.tui.run.actions import fork_fields, fork_summary
from workbench.tui.run.plots import metric_plots
from workbench.tui.run.screen import PANES

SLOW = pytest.mark.slow


@pytest.mark.parametrize("size", [(80, 24), pytest.param((140, 45), marks=SLOW), pytest.param((60, 20), marks=SLOW)])
def test_every_pane_shows_something(record, drive, seen, size) -> None:
    run = record("one", extra=[Warned(run="one", step=60, message="a [/b] warning")])
    wanted = {
        "loss": "clip 0.03",
        "metrics": "R@1",
        "speed": "throughput",
        "masks": "learns no masks",
        "gradients": "no gradients measured yet",
        "affinity": "no probe pairs yet",
        "config": "differences from the recipe clip-kd",
        "events": "a [/b] warning",
    }
    assert tuple(wanted) == PANES

    async def steps(pilot) -> None:
        assert "finished" in seen(pilot)
        for number, text in enumerate(wanted.values(), start=1):
            await pilot.press(str(number))
            await pilot.pause()
            assert text in seen(pilot)
        assert read_preferences().pane == "events"

    drive(steps, run, size)


def test_a_suite_measured_while_the_run_is_shown_is_below_its_metrics(record, drive, seen, soon) -> None:
    run = record("one")
    fields = {"suite": "papers", "data": "x", "identity": "i", "weights_sha256": "w", "step": 100, "num_images": 50_000}
    top1 = {"zero_shot_top1": 0.345}
    result = SuiteResult(name="[ImageNet", task="zero-shot", metrics=top1, errors={"zero_shot_top1": 0.002}, **fields)

    async def steps(pilot) -> None:
        await pilot.press("2")
        await pilot.pause()
        assert "suite papers" not in seen(pilot)
        keep_result(run.suites, result)
        await soon(lambda: "suite papers, step 100" in seen(pilot))
        assert re.search(r"\[ImageNet +zero-shot top-1 \(%\) +34\.5 +± 0\.2 +50,000", seen(pilot))

    drive(steps, run, (120, 60))


@pytest.mark.parametrize(
    ("state", "offered", "not_offered"),
    [
        (None, ["stop and save"], ["resume", "fork"]),
        ("stopped", ["resume", "fork, with"], ["stop and save"]),
        ("finished", ["fork"], ["resume", "stop and save"]),
    ],
)
def test_the_footer_offers_what_applies_to_the_state(record, drive, seen, soon, state, offered, not_offered) -> None:
    run = record("one", last=100 if state == "finished" else 50, state=state)

    async def steps(pilot) -> None:
        def footer() -> str:
            return seen(pilot).splitlines()[-1]

        await soon(lambda: all(words in footer() for words in offered))
        assert not any(words in footer() for words in not_offered)

    drive(steps, run, (140, 24))


def test_why_a_run_diverged_is_at_the_top_of_every_pane(record, drive, seen) -> None:
    end = RunFinished(run="one", step=50, state="diverged", reason="the loss is nan at step 50", elapsed_s=1.0)
    run = record("one", last=50, state="", extra=[end])

    async def steps(pilot) -> None:
        for pane in "17":
            await pilot.press(pane)
            assert "diverged: the loss is nan at step 50" in seen(pilot).splitlines()[1]

    drive(steps, run)


def test_a_metric_has_one_color_on_all_splits(evaluated) -> None:
    history = RunHistory()
    for split, value in (("validation", 0.2), ("test", 0.3)):
        history.take(evaluated("one", 50, value, split))
    colors = {one.name: one.color for plot in metric_plots(history) for one in plot.curves}
    assert colors["R@1"] == colors["R@1 test"]


def test_the_cursor_reads_the_values_that_were_logged(record, drive, seen) -> None:
    run = record("one")

    async def steps(pilot) -> None:
        await pilot.press("left")
        assert "@ step 100" in seen(pilot)
        for _ in range(8):
            await pilot.press("H")
        text = seen(pilot)
        assert "@ step 10" in text
        assert "total 0.4" in text  # 3 / 10 + 1 / 10
        assert "clip 0.3" in text
        await pilot.press("0")
        assert "@ step" not in seen(pilot)

    drive(steps, run)


def test_zoom_pan_log_smoothing_and_time(record, drive, seen) -> None:
    run = record("one")

    async def steps(pilot) -> None:
        chart = pilot.app.screen.query(Chart).first()
        await pilot.press("plus")
        assert chart.drawing.x_range == (55.0, 100.0)
        await pilot.press("less_than_sign")
        assert chart.drawing.x_range == (43.75, 88.75)
        await pilot.press("greater_than_sign", "minus")
        assert chart.drawing.x_range == (10.0, 100.0)
        await pilot.press("y", "s")
        assert "log axis, smoothed 0.6" in seen(pilot)
        await pilot.press("x")
        assert chart.drawing.x_range == (1.0, 10.0)
        assert "time" in seen(pilot)
        preferences = read_preferences()
        assert (preferences.is_log, preferences.smoothing, preferences.axis) == (True, 0.6, "time")

    drive(steps, run)


def test_the_mouse_sets_the_cursor_and_a_double_click_fills_the_screen(record, drive, seen) -> None:
    run = record("one")

    async def steps(pilot) -> None:
        chart = pilot.app.screen.query(Chart).first()
        await pilot.click(Chart, offset=(1 + chart.drawing.left, 5))
        assert "@ step 10" in seen(pilot)
        await pilot.press("2")
        await pilot.pause()
        await pilot.press("enter")
        assert pilot.app.screen.maximized is not None
        await pilot.press("enter")
        assert pilot.app.screen.maximized is None

    drive(steps, run)


def test_a_live_run_grows_on_screen(record, drive, seen, done, soon) -> None:
    run = record("one", last=40, state=None)

    async def steps(pilot) -> None:
        assert "step 40 of 100" in seen(pilot)
        record.log("one", done("one", 50, 123.0))
        await soon(lambda: "step 50 of 100" in seen(pilot) and "total 123" in seen(pilot))

    drive(steps, run)


def test_steps_replaced_by_a_resume_are_dropped(record, drive, done) -> None:
    resumed = RunResumed(run="one", step=50, host="h", pid=1)
    run = record("one", extra=[resumed, done("one", 60, 9.0)])

    async def steps(pilot) -> None:
        total = pilot.app.screen.follower.history.group("loss")["total"].series
        assert total.step.tolist() == [10, 20, 30, 40, 50, 60]
        assert total.value[-1] == 9.0

    drive(steps, run)


def test_a_run_removed_while_it_is_shown_stays_on_screen(record, drive, seen, soon) -> None:
    run = record("one")

    async def steps(pilot) -> None:
        shutil.rmtree(run.path)
        await soon(lambda: "this run has been removed" in seen(pilot))
        assert " removed  100%" in seen(pilot).splitlines()[0] or " removed 100%" in seen(pilot).splitlines()[0]
        assert "total 0.04" in seen(pilot)
        for number in range(1, 9):
            await pilot.press(str(number))
            await pilot.pause()
        await pilot.press("S")

    drive(steps, run)


def test_non_finite_numbers_are_marked(record, drive, seen, done) -> None:
    run = record("one", last=50, state="diverged", extra=[done("one", 60, float("nan"))])

    async def steps(pilot) -> None:
        assert "total nan" in seen(pilot)
        assert "×" in seen(pilot)

    drive(steps, run)


def test_a_set_command_is_marked_on_the_curves(record, drive, seen) -> None:
    command = Commanded(run="one", step=50, command="set", arguments={"loss.icl.weight": 2.0})
    run = record("one", extra=[command])

    async def steps(pilot) -> None:
        assert "┊" in seen(pilot)
        pilot.app.screen.lens.cursor = 50.0
        pilot.app.screen.query(Chart).first().redraw()
        await pilot.pause()
        assert "command: set loss.icl.weight = 2.0" in seen(pilot)

    drive(steps, run, (140, 45))


def test_gradients_show_shares_cosines_and_conflicts(record, drive, seen, soon) -> None:
    run = record("one")
    for step in (1, 50, 100):
        write_snapshot(
            run, Gradients(step, ("clip", "fd"), dict.fromkeys(PLACES, np.array([[4.0, -1.0], [-1.0, 1.0]])))
        )

    async def steps(pilot) -> None:
        await pilot.press("5")
        await soon(lambda: "gradient conflicts: clip and fd (−0.50)" in seen(pilot))
        assert "66.67" in seen(pilot)

    drive(steps, run)


def test_masks_show_sparsity_against_its_target_and_the_layers_at_the_cursor(record, drive, seen, done, soon) -> None:
    tower = TowerShape(width=8, head_width=4, heads=(2, 2), channels=(16, 16))
    stage = StageStarted(
        run="one", step=0, name="s", stage=0, until=9, learns_masks=True, num_parameters=1, num_embedding_parameters=1
    )
    learning = [done("one", step, masks={"sparsity": step / 400, "target": 0.5}) for step in (90, 100)]
    run = record("one", last=80, extra=[stage, *learning])
    for step, opening in ((0, 1.0), (80, 0.5)):
        half = tuple(np.full(16, opening, dtype=np.float32) for _ in range(2))
        mask = TowerMask(tower, np.ones(8, np.float32), tuple(np.ones(2, np.float32) for _ in range(2)), half)
        write_snapshot(run, MaskSnapshot(step, 0, True, 0.25, 0.5, {"image": mask}))

    async def steps(pilot) -> None:
        await pilot.press("4")
        await soon(lambda: "8/16" in seen(pilot))
        assert "a sparsity 25  b target 50" in seen(pilot)
        await pilot.press("left")
        pilot.app.screen.lens.cursor = 60.0
        pilot.app.screen.on_chart_moved()
        await pilot.pause()
        assert "16/16" in seen(pilot)

    drive(steps, run, (140, 45))


def test_exports_are_the_screen_and_the_data(record, drive, notices, tmp_path) -> None:
    run = record("one")

    async def steps(pilot) -> None:
        await pilot.press("e")
        await pilot.pause()
        assert "saved " in notices(pilot)

    drive(steps, run)
    (svg,) = tmp_path.glob("workbench-one-loss-*.svg")
    assert svg.read_text().startswith("<svg")
    (table,) = tmp_path.glob("workbench-one-loss-*.csv")
    lines = table.read_text().splitlines()
    assert lines[0] == "plot,curve,step,elapsed_s,value,unit"
    assert "loss and its weighted terms,total,10,1.000,0.4,"[:-1] in lines[1]


def test_copy_puts_the_data_into_the_clipboard(record, drive) -> None:
    run = record("one")

    async def steps(pilot) -> None:
        await pilot.press("Y")
        assert "\ttotal\t10\t" in pilot.app.clipboard

    drive(steps, run)


def test_help_lists_every_key_of_the_screen(record, drive) -> None:
    run = record("one")

    async def steps(pilot) -> None:
        from workbench.tui.dialogs import keys_text

        text = keys_text(pilot.app.screen).plain
        for active in pilot.app.screen.active_bindings.values():
            assert active.binding.description.lower() in text.lower()
        assert {"stop and save", "log axis", "zoom out", "quit"} <= set(text.replace("\n", "  ").split("  ")) | {
            part.strip() for part in text.replace("\n", "  ").split("  ")
        }
        await pilot.press("question_mark")
        await pilot.pause()
        assert type(pilot.app.screen).__name__ == "Keys"
        await pilot.press("escape")

    drive(steps, run)


@pytest.mark.slow
@pytest.mark.parametrize("pane", PANES)
def test_every_key_can_be_pressed_on_every_pane(record, drive, pane: str) -> None:
    run = record("one")

    async def steps(pilot) -> None:
        screen = pilot.app.screen
        screen.action_pane(pane)
        await pilot.pause()
        for key, active in list(screen.active_bindings.items()):
            action = active.binding.action
            if "quit" in action or "suspend" in action or "pop_screen" in action or "paper" in action:
                continue
            await pilot.press(key)
            await pilot.pause()
            while pilot.app.screen is not screen:
                pilot.app.pop_screen()
                await pilot.pause()

    drive(steps, run, (100, 30))


def test_the_terminal_can_shrink_to_one_cell_and_grow_again(record, drive, seen) -> None:
    run = record("one")

    async def steps(pilot) -> None:
        for size in ((1, 1), (30, 8), (300, 90), (80, 24)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
        assert "total 0.04" in seen(pilot)

    drive(steps, run)


def test_lens_keys_are_offered_only_where_they_apply(record, drive, seen) -> None:
    run = record("one")
    offered = {"1": "y log axis  s smooth  x axis", "2": "x axis", "7": "", "8": ""}

    async def steps(pilot) -> None:
        for key, keys in offered.items():
            await pilot.press(key)
            await pilot.pause(0.1)
            foot = seen(pilot).splitlines()[-1]
            assert keys in foot
            assert ("y log axis" in foot) == ("y log axis" in keys)
            assert ("x axis" in foot) == ("x axis" in keys)
        await pilot.press("y")
        assert read_preferences().is_log is False
        await pilot.press("1", "y")
        assert read_preferences().is_log is True

    drive(steps, run)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_the_numbers_of_all_panes_stay_visible(record, drive, seen, soon, width: int) -> None:
    run = record("one")
    names = ["1 loss", "2 metrics", "3 speed", "4 masks", "5 grads", "6 affinity", "7 config", "8 events"]

    async def steps(pilot) -> None:
        def tabs() -> list[str]:
            line = next((line for line in seen(pilot).splitlines() if line.startswith(" 1")), "")
            return [f"{number}{rest}".strip() for number, rest in re.findall(r"(\d)(\D*)", line)]

        for front in (1, 7, 8):
            await pilot.press(str(front))
            await soon(lambda front=front: tabs()[front - 1 : front] == [names[front - 1]])
            assert all(name.startswith(short) for name, short in zip(names, tabs(), strict=True))
        assert (tabs() == names) == (width == 80)
        await pilot.resize_terminal(120, 40)
        await soon(lambda: tabs() == names)

    drive(steps, run=run, size=(width, 20))


def test_the_error_of_a_process_started_here_is_shown(record, drive, notices, soon) -> None:
    run = record("one", state="interrupted", settings={"data": {"train": "nowhere/{000..003}.tar"}})
    run.output_file.write_text("workbench: what was wrong once\n")

    async def steps(pilot) -> None:
        await pilot.press("R", "y")
        await soon(lambda: "resuming one: failed: " in notices(pilot) and "nowhere" in notices(pilot))
        assert "once" not in notices(pilot)

    drive(steps, run=run)


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        ((40, 80), {"at": "", "steps": ""}),  # the newest checkpoint has steps left
        ((40, 100), {"at": "40", "steps": ""}),
        ((100,), {"at": "", "steps": "200"}),  # nothing is left: as many steps once more
    ],
)
def test_the_form_of_a_fork_opens_with_what_is_valid(record, steps: tuple[int, ...], wanted: dict[str, str]) -> None:
    run = record("one", settings={"train": {"num_steps": 100, "batch_size": 20}})
    for step in steps:
        (run.checkpoints / f"step-{step:08}").mkdir(parents=True)
    filled = {name: text for name, (_, text) in fork_fields(run).items()}
    assert {name: filled[name] for name in wanted} == wanted
    assert "Starts a new run" in fork_summary(run, filled)


def test_without_a_checkpoint_there_is_no_form_but_the_remedy(record) -> None:
    with pytest.raises(ValueError, match="press C"):
        fork_fields(record("one"))
