"""Anyone's layer beside a reference: outputs, gradients, and where it first goes wrong."""

from qkv.check.parity.cases import CASES
from qkv.check.parity.judge import parity
from qkv.check.parity.variants import CAUSES

__all__ = ["CASES", "CAUSES", "parity"]
