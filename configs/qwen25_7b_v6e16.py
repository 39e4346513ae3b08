"""Qwen2.5-7B, supervised, on a v6e-16, 8192 tokens a row.

    python tools/aot_compile.py --config=configs/qwen25_7b_v6e16.py

By the TPU compiler, flags of launch/xla_flags/v6e.txt (nothing was run on a TPU):

    program     rows x tokens  memory of a chip    sent by a chip  estimate
    supervised  32 x 8192      14.55 GiB of 31.25  86.7 GB         1.73 s, MFU 49%
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
                    "qwen25_7b_v6e16",
                    "Qwen/Qwen2.5-7B-Instruct",
                    c.MeshConfig(topology="v6e:4x4"),
                    rows=32,
                    ce_chunk=512,
                ),
                irm,
            )
        )
    )
