"""The study of recurring defects: what it derives from one comparison instead of computing it again."""

import dataclasses

import numpy as np

from codegraph_jax.config import BackboneConfig, Config, ParallelConfig, SimilarityConfig
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.tasks.recurring import _fewer


def test_fewer_references_are_those_of_a_run_with_that_limit():
    images = list(draw_set(9, 56, 0, 0.1, (0.3,)).images)
    backbone = BackboneConfig("dinov2-small", weights="random", image_size=56, blocks=(1,))
    config = Config(backbone=backbone, parallel=ParallelConfig(devices=1))
    limited = CoDeGraph(dataclasses.replace(config, similarity=SimilarityConfig(references=4))).compare(images)
    derived = _fewer(CoDeGraph(config).compare(images), 4)
    np.testing.assert_array_equal(derived.references, limited.references)
    for got, want in zip(derived.tables, limited.tables, strict=True):
        np.testing.assert_array_equal(got, want)
