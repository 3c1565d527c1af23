"""New images of a product, each judged on its own by the reference bank of an earlier run.

    codegraph detect /photos/of/the/night --save-bank=parts.safetensors
    codegraph inspect parts.safetensors /new/photos

The first command detects as always and keeps 32 of its images (`--config.bank.references`), without the patches that
show a recurring defect, and the threshold that the set has taught. The second scores every new image against them: the
bank says which backbone and which settings, and other weights are refused. It writes scores.csv, heat maps on the scale
of the set, masks and report.html.

Each image is a row of line.sqlite in the workdir as well. Parts that come one by one are for `codegraph watch` and
`codegraph serve`, and a compact bank (--config.bank.kind=compact with the first command) takes a tenth of the time or
less for each (docs/line.md).

Beside the backbone an image costs 1.1 s of CPU time (ViT-S/14, 448 px, two blocks, 32 references; measured on a busy
machine; proportional to the references), and 0.8 s where the bank was made with bfloat16 products
(`--config.similarity.precision=bfloat16`); the file takes 1.6 MB a reference. It holds no picture and no path, but
features from which much of a picture can be guessed: give it to whom you would give the photographs.
"""

from ml_collections import ConfigDict

from codegraph_jax.config import InspectConfig, to_config_dict


def get_config() -> ConfigDict:
    return to_config_dict(InspectConfig())
