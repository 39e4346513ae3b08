"""The configuration of a run: frozen dataclasses, a section each.

Example:
  >>> import tl_jax as tl
  >>> tl.RunConfig(data=tl.config.DataConfig(path="trajectories.jsonl")).data.template
  'auto'
"""

from tl_jax.config.model import LoraConfig, ModelConfig, RopeScaling, SplashConfig
from tl_jax.config.reward import EnvironmentConfig, PpoConfig, RewardConfig
from tl_jax.config.run import (
    AblationConfig,
    CheckpointConfig,
    DataConfig,
    EvaluateConfig,
    KeyTokenConfig,
    MaeConfig,
    MeshConfig,
    ModelSourceConfig,
    OptimConfig,
    RunConfig,
    TrackingConfig,
    TrainConfig,
)

__all__ = [
    "AblationConfig",
    "CheckpointConfig",
    "DataConfig",
    "EnvironmentConfig",
    "EvaluateConfig",
    "KeyTokenConfig",
    "LoraConfig",
    "MaeConfig",
    "MeshConfig",
    "ModelConfig",
    "ModelSourceConfig",
    "OptimConfig",
    "PpoConfig",
    "RewardConfig",
    "RopeScaling",
    "RunConfig",
    "SplashConfig",
    "TrackingConfig",
    "TrainConfig",
]
