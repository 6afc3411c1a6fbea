"""Mathematics checked: anyone's gradients and curvature, layers beside a reference, worked steps on worksheets. What is
found is a `Report`."""

from qkv.check.causes import CAUSES
from qkv.check.curvature import (
    Product,
    Spectrum,
    eigenvalues,
    gauss_newton_vector,
    hessian,
    hessian_vector,
    vector_hessian,
)
from qkv.check.curvature_cost import Bracketing, Cost, bracketings, costs
from qkv.check.curvature_report import agreement, as_loss
from qkv.check.gradients import gradients
from qkv.check.parity import parity
from qkv.check.point import WAYS
from qkv.check.worksheets.sheet import Worksheet

__all__ = [
    "CAUSES",
    "WAYS",
    "Bracketing",
    "Cost",
    "Product",
    "Spectrum",
    "Worksheet",
    "agreement",
    "as_loss",
    "bracketings",
    "costs",
    "eigenvalues",
    "gauss_newton_vector",
    "gradients",
    "hessian",
    "hessian_vector",
    "parity",
    "vector_hessian",
]
