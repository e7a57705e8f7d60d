"""Embeddings of a few held-out pairs, saved at every evaluation; they cost a file and no extra forward.

Shape letters: P probe pairs, D width.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from workbench.embeddings import Embeddings
from workbench.events import Event, Warned
from workbench.runs.snapshots import MOST_PAIRS, Probe, ProbeOutputs, write_snapshot

if TYPE_CHECKING:
    from workbench.engine.member import Member


def first_pairs(captions: Sequence[str], student: Embeddings, teacher: Embeddings | None, step: int = 0) -> Probe:
    """Embeddings of the first evaluated pairs, at most 32.

    Args:
        captions: one per image.
    """
    return Probe(step, tuple(captions[:MOST_PAIRS]), _outputs(student), _outputs(teacher) if teacher else None)


def _outputs(embeddings: Embeddings) -> ProbeOutputs:
    image_PD, text_PD = (part[:MOST_PAIRS].half().cpu().numpy() for part in (embeddings.image_BD, embeddings.text_BD))
    return ProbeOutputs(image_PD, text_PD, float(embeddings.scale))


def save_probe(member: "Member", probe: Probe) -> Iterator[Event]:
    """Save it in the member's directory; a failure is a warning, since training can continue."""
    if member.directory is None:
        return
    try:
        write_snapshot(member.directory, probe)
    except (OSError, ValueError) as error:
        yield Warned(run=member.run, step=probe.step, message=f"probe pairs not saved: {error}")
