"""Llama-3.1-8B, supervised, on a v6e-256, 8192 tokens a row.

    python tools/aot_compile.py --config=configs/llama31_8b_v6e256.py

By the TPU compiler, flags of launch/xla_flags/v6e.txt (nothing was run on a TPU):

    program     rows x tokens  memory of a chip    sent by a chip  estimate
    supervised  512 x 8192     15.46 GiB of 31.25  95.7 GB         1.72 s, MFU 54%
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
                    "llama31_8b_v6e256",
                    "meta-llama/Llama-3.1-8B-Instruct",
                    c.MeshConfig(data=16, topology="v6e:16x16"),
                    rows=512,
                    ce_chunk=512,
                ),
                irm,
            )
        )
    )
