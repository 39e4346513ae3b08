#!/usr/bin/env bash
# safetensors 0.8 writes other numbers than those of a transposed numpy array.
#
# Guess:  safetensors.numpy.save_file writes an array's values in the order of its shape, also where it
#         is a transpose or a slice, as 0.7.0 did, or refuses it, as safetensors.torch does with
#         tensors that are not contiguous.
# Seen:   with safetensors 0.8.0 (numpy 2.4.6) the memory is written as it lies, under the shape of the
#         view, without a word: kernel.T of [[0 1 2] [3 4 5]] is read back as [[0 1] [2 3] [4 5]], and an
#         array in Fortran's order comes back shuffled. Flax keeps kernels as torch's weights transposed,
#         so a conversion that ends with save_file({... kernel.T}) now makes a checkpoint of the right
#         names, shapes and norms that says nothing. 0.7.0 wrote the same call's array rightly.
#         np.ascontiguousarray before saving helps.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet safetensors==0.8.0 numpy==2.4.6
"$folder/env/bin/python" -m pip install --quiet --no-deps --target "$folder/before" safetensors==0.7.0
cat > "$folder/look.py" <<'PYTHON'
import json

import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
views = {
    "transposed": kernel.T,
    "columns": kernel[:, ::2],
    "fortran": np.asfortranarray(kernel),
    "contiguous": np.ascontiguousarray(kernel.T),
}
save_file(views, "views.safetensors")
read = load_file("views.safetensors")
right = {name: bool(np.array_equal(read[name], view)) for name, view in views.items()}
print(f"safetensors {safetensors.__version__}: kernel.T is {kernel.T.tolist()}")
print(f"  read back as {read['transposed'].tolist()}; right: {json.dumps(right)}")
PYTHON
cd "$folder"
now="$("$folder/env/bin/python" look.py)"
before="$(PYTHONPATH="$folder/before" "$folder/env/bin/python" look.py)"
printf '%s\n%s\n' "$now" "$before"
wrong='right: {"transposed": false, "columns": false, "fortran": false, "contiguous": true}'
right='right: {"transposed": true, "columns": true, "fortran": true, "contiguous": true}'
if [[ "$now" != *"$wrong" || "$before" != *"$right" ]]; then
    echo "the behaviour has changed: which views safetensors.numpy writes rightly" >&2
    exit 1
fi
