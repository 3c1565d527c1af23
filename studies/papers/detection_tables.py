"""Published results of MuSc and CoDeGraph; only numbers whose source was read."""

from studies.papers.reproduction import Published

MUSC_SOURCE = "the tables of MuSc's repository, https://github.com/xrli-U/MuSc (README; arXiv:2401.16753)"
MVTEC = "MVTec AD, https://www.mvtec.com/company/research/datasets/mvtec-ad"
VISA = "VisA, https://github.com/amazon-science/spot-diff"
BTAD = "BTAD, https://github.com/pankajmishra000/VT-ADL"
COLUMNS = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "pixel_aupro")
"""Metrics of the tables below; F1-max of MuSc is left out, as the published mean of VisA's pixels is not that of its
rows."""


def _table(text: str, columns: tuple[str, ...] = COLUMNS) -> dict[str, dict[str, float]]:
    """Rows of a name and its numbers; `-` leaves a number out."""
    rows = (line.split() for line in text.strip().splitlines())
    return {
        name: {key: float(number) for key, number in zip(columns, numbers, strict=True) if number != "-"}
        for name, *numbers in rows
    }


MVTEC_NAMES = (
    "bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw", "tile",
    "toothbrush", "transistor", "wood", "zipper",
)  # fmt: skip
VISA_NAMES = (
    "candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2", "pcb1", "pcb2", "pcb3", "pcb4",
    "pipe_fryum",
)  # fmt: skip
MUTUAL = {
    "recurring.defects": "off",
    "backbone.activation": "gelu",
    "metrics.aupro": "musc",
}
"""Mutual scoring alone, with the plain GELU and the PRO of MuSc's released code."""
DINO = {"recurring.defects": "off", "scoring.rescore": True, "metrics.aupro": "musc", "metrics.mask_resizing": "full"}

PAPERS = {
    "musc": (
        Published(
            "MuSc, MVTec AD, CLIP ViT-L/14-336 at 518 px",
            "mvtec",
            MUTUAL | {"metrics.mask_resizing": "full"},
            _table(
                """
                bottle 99.92 99.98 98.48 83.04 96.10
                cable 98.99 99.42 95.76 57.70 89.62
                capsule 96.45 99.30 98.96 48.45 95.49
                carpet 99.88 99.96 99.45 76.05 97.58
                grid 98.66 99.54 98.16 38.24 93.92
                hazelnut 99.61 99.79 99.38 73.28 92.24
                leather 100.0 100.0 99.72 64.47 98.74
                metal_nut 96.92 99.25 86.12 47.54 89.34
                pill 96.24 99.31 97.47 67.25 98.01
                screw 82.17 90.88 98.77 36.12 94.40
                tile 100.0 100.0 97.90 78.90 94.64
                toothbrush 100.0 100.0 99.53 67.79 95.48
                transistor 99.42 99.19 91.38 58.40 77.21
                wood 98.51 99.52 97.24 74.75 94.50
                zipper 99.84 99.96 98.40 61.89 94.46
                mean 97.77 99.07 97.11 62.26 93.45
                """
            ),
            MVTEC_NAMES,
            MUSC_SOURCE,
            MVTEC,
        ),
        Published(
            "MuSc, VisA, CLIP ViT-L/14-336 at 518 px",
            "visa",
            MUTUAL,
            _table(
                """
                candle 96.55 96.45 99.36 28.36 97.62
                capsules 88.62 93.77 98.71 43.90 88.20
                cashew 98.54 99.30 99.33 77.63 94.30
                chewinggum 98.42 99.30 99.54 61.21 88.39
                fryum 98.64 99.43 99.43 50.43 94.38
                macaroni1 89.33 88.64 99.51 15.25 96.37
                macaroni2 68.03 67.37 97.14 3.91 88.84
                pcb1 89.28 89.89 99.50 88.36 92.76
                pcb2 93.20 94.46 97.39 21.86 86.06
                pcb3 93.52 93.48 98.05 41.03 92.32
                pcb4 98.43 98.47 98.70 44.72 92.66
                pipe_fryum 98.34 99.16 99.40 67.90 97.32
                mean 92.57 93.31 - 45.38 92.43
                """
            ),
            VISA_NAMES,
            MUSC_SOURCE,
            VISA,
            "the published mean of pixel AUROC, 98.71, is not that of the rows and is left out",
        ),
        Published(
            "MuSc, BTAD, CLIP ViT-L/14-336 at 518 px",
            "btad",
            MUTUAL,
            _table(
                """
                01 98.74 99.53 97.49 58.76 85.05
                02 90.23 98.41 95.36 55.16 68.64
                03 99.52 95.62 99.20 57.53 96.62
                mean 96.16 97.85 97.35 57.15 83.43
                """
            ),
            ("01", "02", "03"),
            MUSC_SOURCE,
            BTAD,
        ),
        *(
            Published(
                f"MuSc, MVTec AD, DINOv2 {size} at 518 px",
                "mvtec",
                DINO | {"backbone.name": name, "backbone.image_size": 518},
                _table(f"mean {numbers}"),
                MVTEC_NAMES,
                MUSC_SOURCE,
                MVTEC,
                "the blocks are those of this package's preset; the tables do not name them",
            )
            for name, size, numbers in (
                ("dinov2-base", "ViT-B/14", "96.31 98.32 98.07 65.31 95.59"),
                ("dinov2-large", "ViT-L/14", "97.08 98.82 98.34 67.39 96.16"),
            )
        ),
    ),
    "codegraph": (
        Published(
            "CoDeGraph, MVTec AD, CLIP ViT-L/14-336 at 518 px",
            "mvtec",
            {},
            _table("mean 98.3 66.8 68.1", ("image_auroc", "pixel_f1_max", "pixel_ap")),
            MVTEC_NAMES,
            "the abstract of arXiv:2510.10456",
            MVTEC,
            "the stages here follow the abstract; the body of the paper was not available (docs/method.md)",
        ),
        Published(
            "CoDeGraph, MVTec AD, DINOv2 at 518 px",
            "mvtec",
            {"backbone.name": "dinov2-large", "backbone.image_size": 518},
            _table("mean 69.1 71.9", ("pixel_f1_max", "pixel_ap")),
            MVTEC_NAMES,
            "the abstract of arXiv:2510.10456",
            MVTEC,
            "the abstract does not state the size of the network; ViT-L/14 is this package's choice",
        ),
    ),
}
"""The published tables by paper."""
