"""CodeLlama-7B, supervised, on a v5e-16, 8192 tokens a row.

    python tools/aot_compile.py --config=configs/codellama_7b_v5e16.py

By the TPU compiler, flags of launch/xla_flags/v5e.txt (nothing was run on a TPU):

    program     rows x tokens  memory of a chip    sent by a chip  estimate
    supervised  16 x 8192      14.32 GiB of 15.75  45.7 GB         3.19 s, MFU 60%
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
                    "codellama_7b_v5e16",
                    "codellama/CodeLlama-7b-hf",
                    c.MeshConfig(data=2, topology="v5e:4x4"),
                    rows=16,
                    moments="bfloat16",
                ),
                irm,
            )
        )
    )
