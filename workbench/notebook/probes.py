"""Probes of a few pairs: made of embeddings, found by step, and put into words."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, ClassVar

import anywidget
import traitlets

from workbench.runs.snapshots import Probe, ProbeOutputs
from workbench.views.affinity import Flip, sharpness

if TYPE_CHECKING:
    from workbench.embeddings import Embeddings


# A picture that says where it was clicked.

SCRIPT = """
function render({ model, el }) {
  const picture = document.createElement("img");
  picture.style.width = "100%";
  picture.style.cursor = "crosshair";
  const show = () => {
    const before = picture.src;
    picture.src = URL.createObjectURL(new Blob([model.get("value")], { type: "image/png" }));
    if (before) URL.revokeObjectURL(before);
  };
  picture.addEventListener("click", (event) => {
    const box = picture.getBoundingClientRect();
    model.set("clicked", [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]);
    model.save_changes();
  });
  model.on("change:value", show);
  show();
  el.appendChild(picture);
}
export default { render };
"""


class ClickableImage(anywidget.AnyWidget):
    """A png in a notebook. ``clicked`` are shares of its width and height, from the upper left; empty before any."""

    _esm: ClassVar[str] = SCRIPT
    value = traitlets.Bytes(b"").tag(sync=True)
    clicked = traitlets.List(traitlets.Float(), []).tag(sync=True)


# A pair as a card beside a matrix.

THUMBNAIL_PX = 112


def card(title: str, picture: bytes | None, caption: str) -> str:
    """One item as HTML: what it is, its picture if there is one, its caption."""
    image = ""
    if picture:
        kind = "webp" if picture[8:12] == b"WEBP" else "png" if picture[1:4] == b"PNG" else "jpeg"
        source = f"data:image/{kind};base64,{b64encode(picture).decode()}"
        image = f'<img src="{source}" width="{THUMBNAIL_PX}" style="image-rendering:pixelated"><br>'
    return (
        f'<div style="display:inline-block;width:220px;vertical-align:top;line-height:1.35;margin-right:12px">'
        f"<b>{escape(title)}</b><br>{image}{escape(caption)}</div>"
    )


FLAT, ONE_HOT = 0.5, 1.5  # of the texts are covered; as many texts are


def probe_of(
    student: "Embeddings", teacher: "Embeddings | None" = None, captions: Sequence[str] = (), step: int = 0
) -> Probe:
    """Embeddings of the same pairs as what an explorer takes.

    Raises:
        ValueError: they are of different numbers of pairs.
    """

    def said(model: "Embeddings") -> ProbeOutputs:
        parts = [part.detach().cpu().half().numpy() for part in (model.image_BD, model.text_BD)]
        return ProbeOutputs(parts[0], parts[1], float(model.scale))

    names = tuple(captions) or tuple(f"pair {number}" for number in range(len(student)))
    sizes = {len(names), len(student), len(teacher) if teacher else len(student)}
    if len(sizes) > 1:
        raise ValueError(f"student, teacher and captions are of different numbers of pairs: {sorted(sizes)}")
    return Probe(step, names, said(student), said(teacher) if teacher else None)


def nearest(probes: Sequence[Probe], step: int) -> Probe:
    """The one whose step is nearest."""
    return min(probes, key=lambda probe: abs(probe.step - step))


def sharpness_line(probe: Probe, scale: float | None) -> str:
    """How many texts a picture's affinity covers, by model, at this scale 1/τ or at each model's own."""
    parts = []
    for name, said in (("teacher", probe.teacher), ("student", probe.student)):
        if said is not None:
            at = said.scale if scale is None else scale
            covered = float(sharpness(Probe(0, probe.captions, said), [at]).student_N[0])
            parts.append(f"{name} at 1/τ = {at:.3g}: {covered:.1f} texts{judged(covered, len(probe.captions))}")
    return f"a picture's affinity covers, of {len(probe.captions)}: " + "; ".join(parts)


def judged(covered: float, num_pairs: int) -> str:
    """What to think of affinities that cover so many of the texts; empty where they teach."""
    if covered > FLAT * num_pairs:
        return " (flat: hardly anything is taught)"
    return " (one-hot: hardly more than the label is taught)" if covered < ONE_HOT else ""


def flip_line(title: str, found: Sequence[Flip]) -> str:
    """How many pairs flipped, as HTML, with the captions of the first."""
    names = "; ".join(escape(flip.caption) for flip in found[:3])
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return f"{title}: <b>{len(found)}</b>" + (f" ({names}{more})" if found else "")
