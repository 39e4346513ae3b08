"""Qwen2.5-7B, supervised, on a v6e-16, 8192 tokens a row.

tl-jax train --config=configs/qwen25_7b_v6e16.py --dry_run
"""

import ml_collections

from tl_jax import config as c
from tl_jax import presets
from tl_jax.settings import to_dict


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
