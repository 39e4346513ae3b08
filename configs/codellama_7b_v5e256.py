"""CodeLlama-7B, supervised and with reward training, on a v5e-256, 8192 tokens a row.

    python tools/aot_compile.py --config=configs/codellama_7b_v5e256.py

By the TPU compiler, flags of launch/xla_flags/v5e.txt (nothing was run on a TPU):

    program     rows x tokens  memory of a chip    sent by a chip  estimate
    supervised  256 x 8192     7.29 GiB of 15.75   49.6 GB         3.11 s, MFU 62%
    update      256 x 8192     12.83 GiB of 15.75  92.9 GB         6.39 s, MFU 59%
    score       256 x 8192     2.22 GiB of 15.75   27.6 GB         1.46 s
    prefill     256 x 7680     15.42 GiB of 15.75  122.7 GB        3.36 s
    decode      256 x 1        14.28 GiB of 15.75  0.0 GB          125 ms
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
