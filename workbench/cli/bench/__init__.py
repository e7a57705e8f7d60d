"""``workbench bench``: speed and memory, as ratios measured in one run."""

import typer

from workbench.cli.bench import everything, parts, runs

app = typer.Typer(help="Measure speed and memory.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Measure speed and memory."""


app.command()(parts.losses)
app.command()(parts.step)
app.command()(parts.data)
app.command()(runs.cache)
app.command()(runs.cohort)
app.command()(runs.peer)
app.command("all")(everything.everything)
