"""The rotary base and scaling in ``config.json``, which has had several places for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tl_jax.config import RopeScaling
from tl_jax.config.fields import from_dict
from tl_jax.errors import ConfigError

_SECTIONS = ("rope_scaling", "rope_parameters")

# Field of a section -> field of RopeScaling, by kind.
_ORIGINAL = "original_max_position_embeddings"

FIELDS = (*_SECTIONS, "rope_theta", _ORIGINAL)
"""Fields of ``config.json`` that speak of rotary embeddings."""

_STRETCHED = {"factor": "factor", _ORIGINAL: "original_max_position"}
_FIELDS = {
    "default": {},
    # Only texts longer than max_position_embeddings change dynamic frequencies, and those are
    # refused: they would change with every token, so that no cache of keys could hold them.
    "dynamic": {},
    "linear": {"factor": "factor"},
    "llama3": _STRETCHED
    | {"low_freq_factor": "low_freq_factor", "high_freq_factor": "high_freq_factor"},
    "yarn": _STRETCHED
    | {
        "beta_fast": "beta_fast",
        "beta_slow": "beta_slow",
        "truncate": "truncate",
        "attention_factor": "attention_factor",
    },
}
_REQUIRED = ("factor", "low_freq_factor", "high_freq_factor")

# Fields that a section may have beside those: what they say is read elsewhere or has no effect.
_BESIDE = {"type", "rope_type", "rope_theta", "partial_rotary_factor"}
_BESIDE_KIND = {
    "dynamic": {"factor", _ORIGINAL},
    "yarn": {"mscale", "mscale_all_dim", "attn_factor"},
}


def read_theta(raw: Mapping[str, Any], default: float) -> float:
    """Return the rotary base; transformers 5 moved it from the top level into a section.

    Raises:
      ConfigError: Not a number above 1, or two places disagree.
    """
    places = {"rope_theta": raw.get("rope_theta")}
    places |= {f"{name}.rope_theta": _section(raw, name).get("rope_theta") for name in _SECTIONS}
    bases = {place: base for place, base in places.items() if base is not None}
    for place, base in bases.items():
        if isinstance(base, bool) or not isinstance(base, (int, float)) or base <= 1:
            raise ConfigError(f"{place} must be a number above 1, got {base!r}")
    if len(set(bases.values())) > 1:
        raise ConfigError(f"rotary bases disagree: {bases}")
    return float(next(iter(bases.values()), default))


def read_scaling(raw: Mapping[str, Any], max_position: int) -> RopeScaling:
    """Return the rotary scaling; without a section it is none.

    Args:
      raw: The whole ``config.json``.
      max_position: Its ``max_position_embeddings``, which a scaling takes for the original length
        where it names none.

    Raises:
      ConfigError: A kind or field that is not implemented, or two sections that disagree.

    Source: ``transformers/modeling_rope_utils.py``.
    """
    found = {name: _scaling(raw, name, max_position) for name in _SECTIONS if _section(raw, name)}
    if len(set(found.values())) > 1:
        raise ConfigError(f"{' and '.join(found)} disagree")
    return next(iter(found.values()), RopeScaling())


def write_section(scaling: RopeScaling) -> dict[str, Any]:
    """Return the section that says ``scaling``, without the base."""
    if scaling.kind == "none":
        return {"rope_type": "default"}
    fields = _FIELDS[scaling.kind]
    return {"rope_type": scaling.kind} | {
        field: getattr(scaling, name) for field, name in fields.items()
    }


def write(theta: float, scaling: RopeScaling) -> dict[str, Any]:
    """Return the fields of a new ``config.json``.

    They are written twice: transformers 4 reads those at the top level, transformers 5 the section.
    """
    section = write_section(scaling)
    fields = {"rope_theta": theta, "rope_parameters": section | {"rope_theta": theta}}
    return fields if scaling.kind == "none" else fields | {"rope_scaling": section}


def _section(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = raw.get(name) or {}
    if not isinstance(section, Mapping):
        raise ConfigError(f"{name} must be an object, got {section!r}")
    return section


def _scaling(raw: Mapping[str, Any], name: str, max_position: int) -> RopeScaling:
    section = {key: value for key, value in _section(raw, name).items() if value is not None}
    kind = section.get("rope_type", section.get("type", "default"))
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise ConfigError(f"{name}.rope_type is {kind!r}; implemented: {', '.join(_FIELDS)}")
    if section.get("type", kind) != kind:
        raise ConfigError(f"{name}.type {section['type']!r} and {name}.rope_type {kind!r} disagree")
    if section.get("partial_rotary_factor", 1.0) != 1.0:
        raise ConfigError(f"{name}.partial_rotary_factor must be 1.0")
    fields = _FIELDS[kind]
    for key in sorted(section.keys() - fields.keys() - _BESIDE - _BESIDE_KIND.get(kind, set())):
        raise ConfigError(f"{name}.{key} is not implemented for rope_type {kind!r}")
    missing = [field for field in _REQUIRED if field in fields and field not in section]
    if missing:
        raise ConfigError(f"{name} of rope_type {kind!r} lacks {', '.join(missing)}")
    if not fields:
        return RopeScaling()
    values = {ours: section[field] for field, ours in fields.items() if field in section}
    if _ORIGINAL in fields:
        # It may also stand at the top level.
        lengths = [place[_ORIGINAL] for place in (raw, section) if place.get(_ORIGINAL) is not None]
        if len(lengths) > 1 and lengths[0] != lengths[1]:
            raise ConfigError(
                f"{_ORIGINAL} {lengths[0]} and {name}.{_ORIGINAL} {lengths[1]} disagree"
            )
        values["original_max_position"] = lengths[0] if lengths else max_position
    scaling = from_dict(RopeScaling, {"kind": kind, **values}, path=name)
    if kind == "yarn" and "attention_factor" not in section:
        factor = _yarn_magnitude(section, scaling.factor)
        scaling = from_dict(RopeScaling, {**vars(scaling), "attention_factor": factor}, path=name)
    if "attn_factor" in section:
        _check_engines_agree(section, scaling, name)
    if scaling.high_freq_factor <= scaling.low_freq_factor:
        raise ConfigError(f"{name}.high_freq_factor must be above low_freq_factor")
    if scaling.beta_fast <= scaling.beta_slow:
        raise ConfigError(f"{name}.beta_fast must be above beta_slow")
    return scaling


def _check_engines_agree(section: Mapping[str, Any], scaling: RopeScaling, name: str) -> None:
    """Refuse a factor that some engines multiply into that of YaRN and others do not know.

    Source: ``YaRNScalingRotaryEmbedding`` of vLLM; transformers leaves ``attn_factor`` out.
    """
    given = section["attn_factor"]
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not given > 0:
        raise ConfigError(f"{name}.attn_factor must be a number above 0, got {given!r}")
    vllm = given * _yarn_magnitude({}, scaling.factor)
    if not math.isclose(vllm, scaling.attention_factor, rel_tol=1e-3):
        raise ConfigError(
            f"{name}.attn_factor is {given:g}: with it vLLM scales by {vllm:g}, while transformers "
            f"does not know it and scales by {scaling.attention_factor:g}; write attention_factor="
            f"{vllm:g} beside it if vLLM is right, or take it out if transformers is"
        )


def _yarn_magnitude(section: Mapping[str, Any], factor: float) -> float:
    """Return the factor of cosines and sines that YaRN derives from its stretching factor."""

    def magnitude(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    weights = [section.get(field) for field in ("mscale", "mscale_all_dim")]
    for field, weight in zip(("mscale", "mscale_all_dim"), weights, strict=True):
        if isinstance(weight, bool) or not isinstance(weight, (int, float, type(None))):
            raise ConfigError(f"rotary {field} must be a number, got {weight!r}")
    cosines, queries = weights
    if cosines and queries:
        return magnitude(cosines) / magnitude(queries)
    return magnitude(1.0)
