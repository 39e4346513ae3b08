"""The embedded tool world: tools, dialogues with them, and plain text about them."""

from tl_jax.data.synthetic.answers import BaseText
from tl_jax.data.synthetic.base_texts import base_texts
from tl_jax.data.synthetic.trajectories import trajectories, trajectory
from tl_jax.data.synthetic.world import domains, tools

__all__ = ["BaseText", "base_texts", "domains", "tools", "trajectories", "trajectory"]
