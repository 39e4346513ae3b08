"""Known architectures have the sizes that their model cards state."""

import math

import jax
import pytest

from tl_jax.models import functional, known


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("codellama/CodeLlama-7b-hf", 6_738_546_688),
        ("meta-llama/Llama-3.1-8B-Instruct@main", 8_030_261_248),
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
    ],
)
def test_a_known_model_has_its_published_number_of_parameters(path, count):
    declared = functional.abstract_params(known.find(path))
    leaves = jax.tree.leaves(declared, is_leaf=lambda leaf: hasattr(leaf, "axes"))
    assert sum(math.prod(leaf.shape) for leaf in leaves) == count


def test_other_ids_are_not_known():
    assert known.find("somebody/CodeLlama-7b-hf") is None and known.find("embedded") is None
