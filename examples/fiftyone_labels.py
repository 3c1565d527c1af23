"""Writes the regions of a run as labels that FiftyOne imports.

    python examples/fiftyone_labels.py runs/photos labels.json

Then, where FiftyOne is installed:

    fiftyone.Dataset.from_dir(
        dataset_type=fiftyone.types.FiftyOneImageDetectionDataset, data_path="/my/photos", labels_path="labels.json"
    )

Boxes only. For polygons run with --config.report.files=page,coco, and import coco.json as
fiftyone.types.COCODetectionDataset with label_types=["detections", "segmentations"]. Uses the standard library alone.
"""

import json
import sys
from pathlib import Path, PurePath
from typing import Any


def labels_of(run: Path) -> dict[str, Any]:
    """labels.json of a FiftyOneImageDetectionDataset; photos are named by their path below the folder, without suffix.

    Raises:
        FileNotFoundError: the run has not finished; its manifest is written last.
    """
    manifest, rows, regions = (
        json.loads((run / name).read_text(encoding="utf-8"))
        for name in ("manifest.json", "scores.json", "regions.json")
    )
    root = manifest["config"]["data"]["root"]
    boxes: dict[str, list[dict[str, Any]]] = {row["path"]: [] for row in rows}
    for region in regions:
        left, top, right, bottom = region["box"]
        width, height = region["width"], region["height"]
        boxes[region["path"]].append(
            {
                "label": "anomaly",
                "bounding_box": [left / width, top / height, (right - left) / width, (bottom - top) / height],
                # a score is a distance, not a confidence
                "attributes": {
                    "peak_score": region["peak_score"],
                    "p_value": region["p_value"],
                    "group": region["group"],
                },
            }
        )

    def name(path: str) -> str:
        short = PurePath(path).relative_to(root) if root and PurePath(path).is_relative_to(root) else PurePath(path)
        return short.with_suffix("").as_posix()

    return {"classes": ["anomaly"], "labels": {name(path): found for path, found in boxes.items()}}


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(labels_of(Path(sys.argv[1])), indent=1), encoding="ascii")
    print(sys.argv[2])
