"""Pods by name, and compiler flags as text."""

import pytest

from tl_jax.errors import ConfigError
from tl_jax.parallel import tpu


@pytest.mark.parametrize(
    ("topology", "count"),
    [("v5e:16x16", 256), ("v5p:4x4x4", 64), ("v6e:4x4", 16), ("tpu7x:2x2x2", 16)],
)
def test_a_topology_has_as_many_devices_as_jax_sees(topology, count):
    assert tpu.parse(topology) == (topology.partition(":")[0], count)


@pytest.mark.parametrize("topology", ["", "v5e", "v5e:16", "h100:8x8", "v5e:4x4x4x4", "v5e:axb"])
def test_another_text_is_refused_with_an_example(topology):
    with pytest.raises(ConfigError, match="such as v5e:16x16"):
        tpu.parse(topology)


def test_without_the_compiler_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(tpu, "is_compiler_installed", lambda: False)
    with pytest.raises(ConfigError, match="pip install"):
        tpu.devices("v5e:4x4")


def test_flags_are_read_from_files_with_comments_and_from_one_line():
    text = "# what it does\n--xla_a=true\n\n--xla_b=98304  # why\n"
    assert tpu.read_flags(text) == {"xla_a": "true", "xla_b": "98304"}
    assert tpu.read_flags("--xla_a=true --xla_b=98304") == tpu.read_flags(text)
