"""``workbench bench all``: every benchmark, and the goals reached."""

from datetime import datetime
from typing import TYPE_CHECKING

from workbench.bench.program import check_program
from workbench.cli.bench.parts import STRAIGHTFORWARD_UP_TO, WIDTH, data_bench, losses_bench, step_bench
from workbench.cli.bench.report import Bench, Device, device_named, measured, print_table
from workbench.cli.bench.runs import cache_bench, cohort_bench, peer_bench
from workbench.cli.options import Json
from workbench.cli.output import print_json, print_line, print_rows

if TYPE_CHECKING:
    import torch

    from workbench.bench.contest import Row
    from workbench.bench.goals import Reached

LOSS_BATCHES = [512, 2048]


def everything(device: Device = "cpu", json: Json = False) -> None:
    """Run all benchmarks at their default sizes, and compare the results with the goals.

    Takes minutes on an idle machine, up to an hour on a busy one. Runs the mixture of losses, samples and photographs
    at 256 px, and both cache sizes. Needs the extra `peer`.

    Examples:

        workbench bench all

        COLUMNS=110 workbench bench all > tables.txt
    """
    from workbench.bench.goals import reached
    from workbench.engine.device import machine_facts

    place = device_named(device)
    check_program()
    date, machine = datetime.now().astimezone().date().isoformat(), machine_facts(place)
    benches = _benches(place)
    tables: dict[str, list[Row]] = {}
    if not json:
        print_line(f"{date}, {machine['device']}, torch {machine['torch']}, {machine['num_threads']} threads")
    for name, bench in benches.items():
        tables[name] = measured(bench.entries)
        if not json:
            print_line("")
            print_table(tables[name], bench, title=name)
    goals = reached(tables)
    if not json:
        _print_goals(goals)
        return
    rows = [
        {"bench": name, "clock": benches[name].clock, **row.to_json()}
        for name, found in tables.items()
        for row in found
    ]
    print_json({"machine": machine, "date": date, "goals": [goal.to_json() for goal in goals], "rows": rows})


def _benches(place: "torch.device") -> dict[str, Bench]:
    from workbench.bench.cache import SIZES
    from workbench.bench.losses import LossBench
    from workbench.bench.peer import Match
    from workbench.bench.step import step_config

    return {
        "peer": peer_bench(Match(device=place)),
        "cohort": cohort_bench(place),
        "cache": cache_bench([(size, size.batch_size) for size in SIZES.values()], place),
        "data": data_bench(["samples", "photographs-256"]),
        "step": step_bench(step_config("clip-kd", [f"train.device={place.type}"])),
        "losses": losses_bench(LossBench(WIDTH, place, STRAIGHTFORWARD_UP_TO), ["mixture"], LOSS_BATCHES),
    }


def _print_goals(goals: "list[Reached]") -> None:
    print_line("")
    rows = [
        [
            goal.name,
            f"{'at most' if goal.at_most else 'at least'} {goal.wanted:.2f}",
            f"{goal.measured:.2f}",
            "reached" if goal.is_reached else "missed",
        ]
        for goal in goals
    ]
    print_rows(["goal", "wanted", "measured", ""], rows)
