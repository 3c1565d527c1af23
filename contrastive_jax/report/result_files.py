"""Names of the files that a training run writes."""

MANIFEST, RESULTS, SCORES_CSV, LOG = "manifest.json", "results.json", "scores.csv", "metrics.jsonl"
NORMS, CURVES = "norms.png", "learning_curve.png"
PICTURES = (NORMS, CURVES)
"""Pictures that a run writes, which are not photos to be scored."""
