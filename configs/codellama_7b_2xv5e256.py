"""CodeLlama-7B, supervised, on two slices of v5e-256, 8192 tokens a row.

    python tools/aot_compile.py --config=configs/codellama_7b_2xv5e256.py

By the TPU compiler, flags of launch/xla_flags/v5e.txt (nothing was run on a TPU):

    program     rows x tokens  memory of a chip   sent by a chip  estimate
    supervised  512 x 8192     7.41 GiB of 15.75  49.5 GB         3.31 s, MFU 58%
"""

import ml_collections

from tl_jax import config as c
from tl_jax.config import presets
from tl_jax.config.fields import to_dict


def get_config(irm: str = presets.RECOMMENDED) -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        to_dict(
            presets.with_irm(
                presets.on_pod(
                    "codellama_7b_2xv5e256",
                    "codellama/CodeLlama-7b-hf",
                    c.MeshConfig(data=8, topology="v5e:16x16", slices=2),
                    rows=512,
                    remat="attention",
                ),
                irm,
            )
        )
    )
