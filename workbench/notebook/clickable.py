"""A picture that says where it was clicked."""

from typing import ClassVar

import anywidget
import traitlets

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


class ClickablePicture(anywidget.AnyWidget):
    """A png in a notebook. ``clicked`` are shares of its width and height, from the upper left; empty before any."""

    _esm: ClassVar[str] = SCRIPT
    value = traitlets.Bytes(b"").tag(sync=True)
    clicked = traitlets.List(traitlets.Float(), []).tag(sync=True)
