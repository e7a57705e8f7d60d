"""``workbench bench``: speed and memory, as ratios taken in one run."""

import typer

from workbench.cli.bench import cache, cohort, data, everything, losses, peer, step

app = typer.Typer(help="Measure speed and memory.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Measure speed and memory."""


app.command()(losses.losses)
app.command()(step.step)
app.command()(data.data)
app.command()(cache.cache)
app.command()(cohort.cohort)
app.command()(peer.peer)
app.command("all")(everything.everything)
