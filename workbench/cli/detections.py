"""``workbench runs show --detections``: what the detectors of runs find in the images that they are measured on."""

from pathlib import Path
from typing import Any

import numpy as np

from workbench.cli.options import write_figure
from workbench.cli.output import print_line, print_rows
from workbench.data.detection.dataset import DetectionDataset, Objects, decode_masks
from workbench.figures.detections import ShownObjects, detections_figure
from workbench.progress import phase
from workbench.runs.directory import RunDirectory, find_run

NUM_IMAGES = 6
LEAST_SCORE = 0.3  # of a detection that is drawn
TRUTH = "truth"


def show_detections(
    run: RunDirectory, against: str, figure: Path | None, *, runs_dir: Path, prints: bool
) -> dict[str, Any]:
    """Detections in the first held-out images as a JSON document; also drawn to ``figure``, and counted if asked for.

    Args:
        against: another run whose detector is measured on the same images; empty for none.

    Raises:
        ValueError: a run has no detector, or the two are measured on different images.
    """
    with phase("loading PyTorch"):
        from workbench.engine.detector import load_detector

    runs = [run, *([find_run(runs_dir, against)] if against else [])]
    detectors = {one.id: load_detector(one) for one in runs}
    dataset = detectors[run.id][1]
    if other := next((one for one, (_, own) in detectors.items() if own.fingerprint != dataset.fingerprint), ""):
        raise ValueError(
            f"runs {run.id} and {other} are measured on different images: choose runs with the same [dense]"
        )
    indices = range(min(NUM_IMAGES, len(dataset)))
    rows = {TRUTH: [_true(dataset, index) for index in indices]}
    for name, (training, _) in detectors.items():
        rows[name] = [
            _shown(dataset, index, found.boxes_M4, found.labels_M, found.masks, found.scores_M)
            for index, found in zip(indices, training.detect(dataset, indices), strict=True)
        ]
    if figure:
        write_figure(detections_figure([np.array(dataset.image(index)) for index in indices], rows), figure)
    if prints:
        cells = [[str(index), *(str(len(shown[index].names)) for shown in rows.values())] for index in indices]
        print_rows(["image", *rows], cells, f"objects, and detections with a score of at least {LEAST_SCORE}")
        if figure:
            print_line(f"figure: {figure}")
    return {name: [_document(one) for one in shown] for name, shown in rows.items()}


def _true(dataset: DetectionDataset, index: int) -> ShownObjects:
    objects: Objects = dataset.objects(index)
    return _shown(dataset, index, objects.boxes_M4, objects.labels_M, objects.masks)


def _shown(
    dataset: DetectionDataset, index: int, boxes_M4: Any, labels_M: Any, masks: Any, scores_M: Any = None
) -> ShownObjects:
    """Objects with a high enough score, all if they have none."""
    kept = np.flatnonzero(scores_M >= LEAST_SCORE) if scores_M is not None else np.arange(len(labels_M))
    return ShownObjects(
        boxes_M4=boxes_M4[kept],
        names=[dataset.categories[label] for label in labels_M[kept]],
        scores=[] if scores_M is None else scores_M[kept].tolist(),
        masks_MHW=decode_masks([masks[row] for row in kept], *dataset.size(index)) if len(masks) else None,
    )


def _document(shown: ShownObjects) -> dict[str, Any]:
    scores = {"scores": list(shown.scores)} if shown.scores else {}
    return {"boxes": shown.boxes_M4.tolist(), "classes": list(shown.names), **scores}
