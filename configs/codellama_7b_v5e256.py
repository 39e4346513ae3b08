"""CodeLlama-7B, supervised and with reward training, on a v5e-256, 8192 tokens a row.

    tl-jax train --config=configs/codellama_7b_v5e256.py --dry_run

By the TPU compiler (tools/aot_compile.py; nothing was run on a TPU):

    program     rows x tokens  memory of a chip       sent by a chip  estimate
    supervised  256 x 8192     3.99 GiB of 15.75      62.3 GB         3.25 s, MFU 59%
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
                    "codellama_7b_v5e256",
                    "codellama/CodeLlama-7b-hf",
                    c.MeshConfig(data=4, topology="v5e:16x16", sampling_tensor=16),
                    rows=256,
                    remat="attention",
                    prompts=64,
                    idle_memory="host",
                ),
                irm,
            )
        )
    )
