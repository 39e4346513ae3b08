"""CodeLlama-7B, supervised and with reward training, on 64 chips of v5p, 8192 tokens a row.

    python tools/aot_compile.py --config=configs/codellama_7b_v5p64.py

By the TPU compiler, flags of launch/xla_flags/v5p.txt (nothing was run on a TPU):

    program     rows x tokens  memory of a chip    sent by a chip  estimate
    supervised  128 x 8192     50.11 GiB of 95.74  44.7 GB         2.60 s, MFU 63%
    update      64 x 8192      50.68 GiB of 95.74  82.9 GB         2.71 s, MFU 60%
    score       64 x 8192      3.77 GiB of 95.74   27.6 GB         685 ms
    prefill     64 x 7680      19.88 GiB of 95.74  57.3 GB         1.12 s
    decode      64 x 1         21.67 GiB of 95.74  0.0 GB          38.9 ms
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
                    "codellama_7b_v5p64",
                    "codellama/CodeLlama-7b-hf",
                    c.MeshConfig(topology="v5p:4x4x4", sampling_tensor=8),
                    rows=128,
                    remat="minimal",
                    prompts=16,
                ),
                irm,
            )
        )
    )
