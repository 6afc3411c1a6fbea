"""Gradients of anyone's code, judged: which entries are wrong, what is left out, what is refused."""

import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qkv.check import CAUSES, gradients
from qkv.errors import InputError, InputTypeError, NotFiniteError
from qkv.functional import TaylorFeatures, linear_attention
from qkv.vectors.dense_glove import DenseGlove

RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(7, 3)), RNG.normal(size=(7, 2))
PARAMETERS = {"w1": RNG.normal(size=(3, 5)), "b1": RNG.normal(size=5), "w2": RNG.normal(size=(5, 2))}


def network(parameters, *, relu: bool = False):
    w1, b1, w2 = (parameters[name] for name in ("w1", "b1", "w2"))
    z = X @ w1 + b1
    h = np.where(z > 0, z, 0) if relu else np.tanh(z)
    error = h @ w2 - T
    dz = 2 * error @ w2.T * ((z > 0) if relu else 1 - h**2)
    return (error**2).sum(), {"w1": X.T @ dz, "b1": dz.sum(0), "w2": 2 * h.T @ error}


def changed(name: str, change):
    """The network with one gradient changed."""

    def function(parameters):
        loss, found = network(parameters)
        return loss, found | {name: change(found[name])}

    return function


# -- right -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relu", [False, True])
def test_right_gradients_agree(relu: bool):
    report = gradients(lambda parameters: network(parameters, relu=relu), PARAMETERS)
    assert report.ok
    assert [claim.verdict for claim in report.claims] == ["correct"] * 3
    assert max(claim.error for claim in report.claims) < 1e-9


def test_float32_is_judged_as_it_can_be():
    single = {name: value.astype(np.float32) for name, value in PARAMETERS.items()}
    assert gradients(network, single)["w1"].tolerance == 1e-6  # it can be run in float64

    def throughout(parameters, factor=1):
        loss, found = network({name: value.astype(np.float32) for name, value in parameters.items()})
        return np.float32(loss), {name: (factor * value).astype(np.float32) for name, value in found.items()}

    report = gradients(throughout, single)
    assert report.ok
    assert report["w1"].tolerance == 2e-3
    assert "float32" in report.notes[0]
    assert not gradients(lambda parameters: throughout(parameters, 1.02), single).ok


def test_our_own_by_hand():
    m = RNG.normal(size=(5, 5))

    def glove(p):
        model = DenseGlove(p["w"], p["wt"], p["b"], p["bt"])
        found = model.gradients(model.predicted() - m)
        return model.loss(m), {name: getattr(found, name) for name in p}

    shapes = {"w": (5, 2), "wt": (5, 2), "b": (5,), "bt": (5,)}
    assert gradients(glove, {name: RNG.normal(size=shape) for name, shape in shapes.items()}).ok


@pytest.mark.usefixtures("no_shape_hook")
def test_our_own_custom_backward():
    def attention(query, key, value):
        return linear_attention(query, key, value, TaylorFeatures(), is_causal=True)

    q, k, v = (torch.randn(1, 1, 5, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
    report = gradients(attention, 0.3 * q, 0.3 * k, v, points=1)
    assert report.ok
    assert [claim.name for claim in report.claims] == ["query", "key", "value"]
    assert any("random factors" in note for note in report.notes)


# -- wrong -----------------------------------------------------------------------------------------------------------


def test_the_entry_is_named():
    def one_off(gradient):
        gradient = gradient.copy()
        gradient[2, 4] += 0.5
        return gradient

    report = gradients(changed("w1", one_off), PARAMETERS)
    assert [claim.name for claim in report.wrong] == ["w1"]
    (entry,) = report["w1"].entries
    assert entry.index == (2, 4)
    assert entry.claimed - entry.value == pytest.approx(0.5)
    errors = report["w1"].errors
    assert errors is not None
    assert np.argwhere(errors > 1e-6).tolist() == [[2, 4]]


def test_one_wrong_row_of_many_is_found_by_directions():
    """One word in a thousand, of which a sample of 13 entries would hardly see anything."""
    table = RNG.normal(size=(1009, 5))
    ids = RNG.integers(1, 1009, size=97)

    def loss(parameters, forgotten):
        x = parameters["table"][ids]
        found = np.zeros_like(table)
        np.add.at(found, ids, 2 * x)
        found[ids[3]] *= 0 if forgotten else 1
        return (x**2).sum(), {"table": found}

    report = gradients(loss, {"table": table}, True, entries=13, points=1)
    assert {entry.index[0] for entry in report["table"].entries} == {ids[3]}
    report = gradients(loss, {"table": table}, False, entries=13, points=1)
    assert report.ok
    unused = 5 * (1009 - len(set(ids)))
    assert report["table"].facts["zero"] == unused  # and none of them among the sample
    assert report["table"].facts["judged"] == 13
    assert report["table"].facts["together"] == 5 * 1009 - unused - 13
    assert any("1 % or more would be found with 12 %" in note for note in report.notes)  # 1 - 0.99^13 = 0.122


@pytest.mark.parametrize(
    ("name", "change", "cause"),
    [
        ("w1", lambda g: -g, "sign"),
        ("w1", lambda g: g / 2, "factor"),
        ("w2", lambda g: 7 * g, "mean"),
        ("w1", lambda g: g[:, ::-1], "moved"),
        ("w1", lambda g: np.roll(g, 2, axis=1), "moved"),
        ("w1", lambda g: g[[1, 2, 0]], "moved"),
        ("w2", lambda g: g.T.reshape(g.shape), "transposed"),
        ("b1", lambda g: 0 * g, "term"),
        ("w2", lambda g: np.broadcast_to(g.mean(axis=0), g.shape), "axis"),
    ],
)
def test_causes_are_told_from_the_arrays_alone(name: str, change, cause: str, monkeypatch):
    monkeypatch.setattr("qkv.check.causes.mended", lambda *_: None)
    claim = gradients(changed(name, change), PARAMETERS)[name]
    assert claim.verdict == "wrong"
    assert claim.cause == cause
    assert claim.cause in CAUSES
    assert claim.explanation


# -- what is left out, and said --------------------------------------------------------------------------------------


def test_kinks_are_left_out_and_counted():
    def hinge(parameters):
        w = parameters["w"]
        return np.abs(w).sum(), {"w": np.where(w > 0, 1.0, -1.0)}

    report = gradients(hinge, {"w": np.array([1.0, 0.0, -2.0])}, points=1)
    assert report.ok
    assert report["w"].facts["kinks"] == 1
    assert report["w"].facts["judged"] == 2
    assert any("kink" in note for note in report.notes)


def test_unused_parameters_are_said_not_failed():
    def loss(parameters):
        return (parameters["w"] ** 2).sum(), {"w": 2 * parameters["w"], "v": np.zeros(3)}

    report = gradients(loss, {"w": np.ones(2), "v": np.ones(3)})
    assert report.ok
    assert report["v"].verdict == "unused"
    module = nn.Linear(3, 2)
    module.register_parameter("spare", nn.Parameter(torch.ones(5)))
    assert gradients(module, torch.ones(1, 3))["spare"].verdict == "unused"


def test_a_gradient_by_what_the_loss_does_not_use_belongs_nowhere():
    def loss(parameters):
        return (parameters["w"] ** 2).sum(), {"w": 2 * parameters["w"], "v": np.ones(3)}

    claim = gradients(loss, {"w": np.array([1.0, -2.0]), "v": np.zeros(3)})["v"]
    assert (claim.verdict, claim.cause, claim.explanation) == ("wrong", "mask", "nothing belongs there at all")


def test_printing_is_kept_out(capsys):
    def loss(parameters):
        print("here", parameters["w"])  # noqa: T201
        return (parameters["w"] ** 2).sum(), {"w": 2 * parameters["w"]}

    report = gradients(loss, {"w": np.ones(2)})
    assert capsys.readouterr().out == ""
    assert any("prints" in note and "here [1. 1.]" in note for note in report.notes)


# -- forms of code ---------------------------------------------------------------------------------------------------


class Model:
    """Parameters that its own attributes refer to, and a backward pass after the loss."""

    def __init__(self, factor: float = 2.0):
        self.w = np.array([1.0, -2.0, 3.0], dtype=np.float32)
        self.parameters, self.factor = {"w": self.w}, factor

    def loss(self, x):
        self.x = x
        return ((self.w * x) ** 2).sum()

    def backward(self):
        return {"w": self.factor * self.w * self.x**2}


def test_classes_with_a_backward():
    model = Model()
    assert gradients(model, np.array([1.0, 2.0, 3.0])).ok
    assert model.w.tolist() == [1, -2, 3]  # not touched
    assert gradients(Model, np.ones(3)).ok
    assert not gradients(Model(1.0), np.ones(3)).ok


class Doubled(torch.autograd.Function):
    """`x^2` with a gradient of `x`."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x**2).sum()

    @staticmethod
    def backward(ctx, grad):  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad * ctx.saved_tensors[0]


def test_custom_functions_of_torch():
    report = gradients(Doubled, torch.tensor([1.0, 2.0]))
    assert report.wrong[0].cause == "factor"
    assert report.wrong[0].entries[0].claimed / report.wrong[0].entries[0].value == pytest.approx(0.5)


class ByHand(nn.Module):
    """Tells its own gradients, as the trainer takes them."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0, -1.0]))

    def loss_and_gradients(self, x: Tensor):
        w = self.weight.detach().numpy()
        return float((w * x.numpy()).sum() ** 2), {"weight": 2 * (w * x.numpy()).sum() * x.numpy()}


def test_modules_with_gradients_of_their_own():
    assert gradients(ByHand(), torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64)).ok


# -- refused ---------------------------------------------------------------------------------------------------------


W = {"w": np.ones((2, 3))}


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda p: p["w"].sum(), InputTypeError, r"returns something else. Expected \(loss, gradients\)"),
        (lambda p: (p["w"].sum(), None), InputTypeError, "no gradients by name.*got nothing"),
        (lambda p: (p["w"], {"w": p["w"]}), InputTypeError, r"returns no loss.*got ndarray of shape \(2, 3\)"),
        (lambda p: (p["w"].sum(), {"w": np.ones((3, 2))}), InputError, r"another shape.*\(2, 3\); got \(3, 2\)"),
        (lambda p: (p["w"].sum(), {"w": np.ones((2, 3), int)}), InputTypeError, "by w holds no floating-point"),
        (
            lambda p: (p["w"].sum(), {"w": np.full((2, 3), np.nan)}),
            NotFiniteError,
            r"by w is not finite.*nan at \[0, 0\]",
        ),
        (lambda p: (np.nan * p["w"].sum(), {"w": p["w"]}), NotFiniteError, "no finite loss"),
        (lambda p: ((p["w"] ** 2).sum(), {}), InputError, "returns no gradient by w, on which its loss depends"),
        (lambda p: (p["w"].sum(), {"W": p["w"]}), InputError, "a gradient by 'W', which is no parameter.*Try: w"),
        (lambda p: (p["w"].sum() + RNG.normal(), {"w": p["w"]}), InputError, "not the same when called twice"),
        (lambda p: ((p["w"] ** 2).sum(), {"w": RNG.random() * p["w"]}), InputError, "by w is not the same when called"),
        (lambda p: p["v"], InputError, r"test_gradients.py, line \d+: .*raises KeyError: 'v'"),
        (lambda p: sys.exit(len(p)), InputError, r"test_gradients.py, line \d+: .*raises SystemExit: 1"),
    ],
    ids=range(13),
)
def test_what_returns_no_gradients(function, error: type, message: str):
    with pytest.raises(error, match=message):
        gradients(function, W)


class Misshapen(Doubled):
    """A backward pass of another shape than the input's."""

    @staticmethod
    def backward(ctx, grad):  # pyright: ignore[reportIncompatibleMethodOverride]
        return torch.cat([grad * ctx.saved_tensors[0]] * 2)


def test_a_gradient_that_autograd_refuses_is_not_laid_to_our_own_file():
    with pytest.raises(InputError, match=r"^Misshapen raises RuntimeError: .*got \[4\] but expected .*\[2\]"):
        gradients(Misshapen, torch.tensor([1.0, 2.0]))


def test_what_cannot_be_called():
    with pytest.raises(InputTypeError, match=r"came without parameters.*no argument.*sample"):
        gradients(network)
    with pytest.raises(InputTypeError, match=r"parameter w cannot be differentiated by.*got integers"):
        gradients(network, {"w": np.ones(3, int)})
    with pytest.raises(InputTypeError, match=r"cannot be checked.*got int"):
        gradients(3)
    with pytest.raises(InputError, match="entries is too small"):
        gradients(network, PARAMETERS, entries=0)
    with pytest.raises(InputError, match=r"seed is too small. Expected 0 or more; got -1"):
        gradients(network, PARAMETERS, seed=-1)
    with pytest.raises(InputError, match="tolerance cannot be used"):
        gradients(network, PARAMETERS, tolerance=2.0)
    with pytest.raises(InputError, match=r"not the same when called twice.*module.eval\(\)"):
        gradients(nn.Sequential(nn.Linear(11, 7), nn.Dropout(0.5)), torch.ones(3, 11))
