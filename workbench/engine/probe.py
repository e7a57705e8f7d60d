"""What student and teacher say of a few held-out pairs, kept at every evaluation: it costs a file, and no forward.

Shape letters: P probe pairs, D width.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from workbench.embeddings import Embeddings
from workbench.events import Event, Warned
from workbench.runs.snapshots import MOST_PAIRS, Probe, ProbeOutputs, write_probe

if TYPE_CHECKING:
    from workbench.engine.member import Member


def first_pairs(captions: Sequence[str], student: Embeddings, teacher: Embeddings | None, step: int = 0) -> Probe:
    """The first of the evaluated pairs, at most 32.

    Args:
        captions: the one that each picture is paired with.
    """
    return Probe(step, tuple(captions[:MOST_PAIRS]), _said(student), _said(teacher) if teacher else None)


def _said(embeddings: Embeddings) -> ProbeOutputs:
    image_PD, text_PD = (part[:MOST_PAIRS].half().cpu().numpy() for part in (embeddings.image_BD, embeddings.text_BD))
    return ProbeOutputs(image_PD, text_PD, float(embeddings.scale))


def save_probe(member: "Member", probe: Probe) -> Iterator[Event]:
    """Keep it in the member's directory. Failing to is a warning, for the run itself is sound."""
    if member.directory is None:
        return
    try:
        write_probe(member.directory, probe)
    except (OSError, ValueError) as error:
        yield Warned(run=member.run, step=probe.step, message=f"probe pairs not saved: {error}")
