"""Probe pairs in notebooks: created from embeddings, selected by step, shown as text and as clickable images."""

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

SCRIPT = """
function render({ model, el }) {
  const image = document.createElement("img");
  image.style.width = "100%";
  image.style.cursor = "crosshair";
  const show = () => {
    const before = image.src;
    image.src = URL.createObjectURL(new Blob([model.get("value")], { type: "image/png" }));
    if (before) URL.revokeObjectURL(before);
  };
  image.addEventListener("click", (event) => {
    const box = image.getBoundingClientRect();
    model.set("clicked", [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]);
    model.save_changes();
  });
  model.on("change:value", show);
  show();
  el.appendChild(image);
}
export default { render };
"""


class ClickableImage(anywidget.AnyWidget):
    """A png that reports clicks: ``clicked`` is [x, y] in [0, 1] from the upper left corner, empty at first."""

    _esm: ClassVar[str] = SCRIPT
    value = traitlets.Bytes(b"").tag(sync=True)
    clicked = traitlets.List(traitlets.Float(), []).tag(sync=True)


THUMBNAIL_PX = 112


def card(title: str, image: bytes | None, caption: str) -> str:
    """One item as HTML: a title, its encoded image if given, and its caption."""
    thumbnail = ""
    if image:
        kind = "webp" if image[8:12] == b"WEBP" else "png" if image[1:4] == b"PNG" else "jpeg"
        source = f"data:image/{kind};base64,{b64encode(image).decode()}"
        thumbnail = f'<img src="{source}" width="{THUMBNAIL_PX}" style="image-rendering:pixelated"><br>'
    return (
        f'<div style="display:inline-block;width:220px;vertical-align:top;line-height:1.35;margin-right:12px">'
        f"<b>{escape(title)}</b><br>{thumbnail}{escape(caption)}</div>"
    )


FLAT, ONE_HOT = 0.5, 1.5  # effective number of texts: as a share of all; absolute


def probe_of(
    student: "Embeddings", teacher: "Embeddings | None" = None, captions: Sequence[str] = (), step: int = 0
) -> Probe:
    """A probe for the explorers from embeddings of the same pairs.

    Raises:
        ValueError: student, teacher and captions differ in their number of pairs.
    """

    def outputs(model: "Embeddings") -> ProbeOutputs:
        parts = [part.detach().cpu().half().numpy() for part in (model.image_BD, model.text_BD)]
        return ProbeOutputs(parts[0], parts[1], float(model.scale))

    names = tuple(captions) or tuple(f"pair {number}" for number in range(len(student)))
    sizes = {len(names), len(student), len(teacher) if teacher else len(student)}
    if len(sizes) > 1:
        raise ValueError(f"student, teacher and captions have different numbers of pairs: {sorted(sizes)}")
    return Probe(step, names, outputs(student), outputs(teacher) if teacher else None)


def nearest(probes: Sequence[Probe], step: int) -> Probe:
    """The probe whose step is nearest."""
    return min(probes, key=lambda probe: abs(probe.step - step))


def sharpness_line(probe: Probe, scale: float | None) -> str:
    """The effective number of texts in each model's affinities, at scale 1/τ or at each model's learned scale."""
    parts = []
    for name, model in (("teacher", probe.teacher), ("student", probe.student)):
        if model is not None:
            at = model.scale if scale is None else scale
            num_texts = float(sharpness(Probe(0, probe.captions, model), [at]).student_N[0])
            parts.append(f"{name} at 1/τ = {at:.3g}: {num_texts:.1f}{sharpness_hint(num_texts, len(probe.captions))}")
    return f"effective number of texts in an image's affinity, of {len(probe.captions)}: " + "; ".join(parts)


def sharpness_hint(num_texts: float, num_pairs: int) -> str:
    """A hint for affinities that are almost uniform or almost one-hot; else empty."""
    if num_texts > FLAT * num_pairs:
        return " (almost uniform: little information)"
    return " (almost one-hot: little more than the label)" if num_texts < ONE_HOT else ""


def flip_line(title: str, found: Sequence[Flip]) -> str:
    """The number of flips as HTML, with the captions of the first three."""
    names = "; ".join(escape(flip.caption) for flip in found[:3])
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return f"{title}: <b>{len(found)}</b>" + (f" ({names}{more})" if found else "")
