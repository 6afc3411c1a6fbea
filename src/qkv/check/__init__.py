"""Mathematics checked: anyone's gradients, and what else is claimed. What is found is a `Report`."""

from qkv.check.causes import CAUSES
from qkv.check.gradients import gradients

__all__ = ["CAUSES", "gradients"]
