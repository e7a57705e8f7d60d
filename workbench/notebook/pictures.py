"""The pictures of a run's probe pairs, for cards beside a matrix."""

from base64 import b64encode
from html import escape

from workbench.config.toml import load_run_config
from workbench.runs.directory import RunDirectory

THUMBNAIL_PX = 112


def probe_pictures(run: RunDirectory, captions: tuple[str, ...]) -> list[bytes]:
    """The files of the pictures that the captions are of, as they lie in the run's validation data.

    Raises:
        ValueError: the data are not there any more, or have other captions now.
    """
    from workbench.data.readable import readable
    from workbench.data.spec import open_dataset, sample_set_of

    data = load_run_config(run.config_file).data
    spec = f"samples:{sample_set_of(data.train)}" if data.validation == "auto" else data.validation
    # The first pairs of most data are the same however many are asked for, and a few are there sooner.
    for num_pairs in (len(captions), data.num_validation_pairs):
        dataset, _ = readable(open_dataset(spec, "validation", num_pairs))
        found = tuple(dataset.text(index).captions[0] for index in range(min(len(captions), len(dataset))))
        if found == captions:
            return [dataset.encoded(index) for index in range(len(captions))]
    raise ValueError(f"the pairs of {spec} are not those that this run was probed with")


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
