#!/usr/bin/env bash
# An adapter of PEFT with an alpha_pattern may come back from its directory with another scale.
#
# Guess:  where two keys of alpha_pattern fit a module the more exact one counts, or the first; and an
#         adapter that is loaded again gives what it gave before it was saved.
# Seen:   with peft 0.21.2 (torch 2.13.0) the first key that fits counts, and save_pretrained writes the
#         keys in the order of the alphabet: {"q_proj": 4, "layers.0.self_attn.q_proj": 8} trains every
#         q_proj with alpha 4 (the second key does nothing), and after loading layer 0 has 8, twice the
#         scale that its weights were trained with. Nothing is said, and evaluations during training show
#         nothing. With rank_pattern loading fails, as the shapes differ. The exact keys have to come
#         first, and first in the alphabet, too.
#
# Needs pip and a network; on Linux torch from PyTorch's index of CPU wheels is the small build:
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet torch==2.13.0 peft==0.21.2 transformers==5.24.0 \
    accelerate==1.15.0 numpy==2.4.6
HF_HUB_OFFLINE=1 "$folder/env/bin/python" - "$folder/adapter" <<'PYTHON'
import importlib.metadata
import sys

import peft
from torch import nn

for name in ("peft", "torch"):
    print(name, importlib.metadata.version(name))


def tree(**parts):
    module = nn.Module()
    for name, part in parts.items():
        module.add_module(name, part)
    return module


def model():
    layers = nn.ModuleList(tree(self_attn=tree(q_proj=nn.Linear(8, 8))) for _ in range(2))
    return tree(model=tree(layers=layers))


def scales(tuned):
    modules = [module for module in tuned.modules() if getattr(module, "lora_A", None)]
    return [module.scaling["default"] for module in modules]


def before_and_after(pattern):
    config = peft.LoraConfig(target_modules=["q_proj"], r=2, alpha_pattern=pattern)
    tuned = peft.get_peft_model(model(), config)
    tuned.save_pretrained(sys.argv[1])
    loaded = peft.PeftModel.from_pretrained(model(), sys.argv[1])
    print(f"{pattern}: trained with the scales {scales(tuned)}, loaded with {scales(loaded)}")
    return scales(tuned), scales(loaded)


exact = "layers.0.self_attn.q_proj"
if before_and_after({"q_proj": 4, exact: 8}) != ([2.0, 2.0], [4.0, 2.0]):
    sys.exit("the behaviour has changed: which key of alpha_pattern counts after loading")
if before_and_after({exact: 8, "q_proj": 4}) != ([4.0, 2.0], [4.0, 2.0]):
    sys.exit("the behaviour has changed: which key of alpha_pattern counts")
PYTHON
