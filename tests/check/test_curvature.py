from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from qkv.check.curvature import eigenvalues, gauss_newton_vector, hessian, hessian_vector, vector_hessian
from qkv.check.point import WAYS
from qkv.errors import InputError, InputTypeError, NotFiniteError
from qkv.models.seq2seq_rnn import RecurrentConfig, TranslationRNN
from qkv.models.seq2seq_transformer import TransformerConfig, TranslationTransformer
from qkv.nn import AttentionConfig, TransformerEncoder, TransformerEncoderLayer
from qkv.types import PairBatch

BATCH, LENGTH, EMBED, HEADS, INNER = 3, 5, 14, 2, 11
BOTH = ("forward", "reverse")
every_way = pytest.mark.parametrize("mode", list(WAYS))
both_ways = pytest.mark.parametrize("mode", BOTH)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def along(model: nn.Module) -> dict[str, Tensor]:
    return {name: torch.randn_like(x) for name, x in model.named_parameters()}


def joined(value: dict[str, Tensor]) -> Tensor:
    return torch.cat([x.flatten() for x in value.values()])


def apart(first: Tensor, second: Tensor) -> float:
    return float((first - second).norm() / second.norm())


def assert_both_ways_agree(loss: Callable, model: nn.Module, *, to: float = 1e-10) -> tuple[str, ...]:
    """That products of both ways are the same, and the difference of gradients near; returns what was said."""
    vector = along(model)
    forward, reverse, difference = (hessian_vector(loss, model, vector, mode=mode) for mode in WAYS)
    assert bool(joined(reverse.value).any())
    assert apart(joined(forward.value), joined(reverse.value)) < to
    assert apart(joined(difference.value), joined(reverse.value)) < 1e-5
    return forward.said


# -- by hand ---------------------------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("product", [hessian_vector, vector_hessian])
@pytest.mark.parametrize(
    ("v", "x", "expected"),
    [
        # L = (v . x)^2 / 2 has H = v v^T wherever it is looked at, so H y = v (v . y).
        ((3, 1, 4), (2, 1, 3), (57, 19, 76)),  # v . y = 6 + 1 + 12 = 19
        ((4, 2, 1), (2, 2, 1), (52, 26, 13)),  # v . y = 8 + 4 + 1 = 13
    ],
)
def test_products_by_hand(product: Callable, v: tuple, x: tuple, expected: tuple, mode: str):
    slope, at = torch.tensor(v, dtype=torch.float64), torch.tensor([5, -2, 0.5], dtype=torch.float64)
    found = product(lambda x: (slope @ x) ** 2 / 2, at, torch.tensor(x, dtype=torch.float64), mode=mode)
    assert found.value.tolist() == pytest.approx(expected, rel=1e-8)
    assert (found.way, found.said) == (mode, ())


def test_the_hessian_by_hand():
    # v v^T for v = (3, 1, 4); its eigenvalues are |v|^2 = 26, with v itself, and 0 twice.
    v, at = torch.tensor([3.0, 1.0, 4.0]), torch.zeros(3)
    assert hessian(lambda x: (v @ x) ** 2 / 2, at).value.tolist() == [[9, 3, 12], [3, 1, 4], [12, 4, 16]]
    found = eigenvalues(lambda x: (v @ x) ** 2 / 2, at, 3)
    assert found.values == pytest.approx([26, 0, 0], abs=1e-5)
    assert np.abs(found.vectors[:, 0]) == pytest.approx(np.array([3, 1, 4]) / 26**0.5)


@both_ways
def test_gauss_newton_by_hand(mode: str):
    # z = (a^2 b, b), L = z1^2 / 2 + 5 z2 at a = 3, b = 2: J = [[2 a b, a^2], [0, 1]] = [[12, 9], [0, 1]], and
    # H_L = diag(1, 0). J^T H_L J = [[144, 108], [108, 81]]; H adds z1 times the Hessian of a^2 b, 18 [[4, 6], [6, 0]].
    def outputs(a: Tensor, b: Tensor) -> Tensor:
        return torch.stack((a**2 * b, b))

    def loss(z: Tensor) -> Tensor:
        return z[0] ** 2 / 2 + 5 * z[1]

    at = [torch.tensor(3.0), torch.tensor(2.0)]
    found = gauss_newton_vector(outputs, loss, at, [torch.tensor(1.0), torch.tensor(10.0)], mode=mode)
    assert [x.item() for x in found.value] == [144 + 1080, 108 + 810]
    whole = hessian(lambda a, b: loss(outputs(a, b)), at, mode=mode)
    assert whole.value.tolist() == [[144 + 72, 108 + 108], [108 + 108, 81]]


# -- parity ----------------------------------------------------------------------------------------------------------


def small_network() -> tuple[nn.Module, Tensor, Tensor]:
    network = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    return network, double(7, 3), torch.randint(2, (7,))


@both_ways
def test_the_hessian_is_torchs(mode: str):
    network, x, target = small_network()
    parameters = dict(network.named_parameters())

    def of_state(state: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(torch.func.functional_call(network, state, (x,)), target)

    blocks = torch.func.hessian(of_state)(parameters)
    expected = torch.cat(
        [torch.cat([blocks[a][b].reshape(parameters[a].numel(), -1) for b in parameters], dim=1) for a in parameters]
    )
    found = hessian(lambda model: F.cross_entropy(model(x), target), network, mode=mode)
    torch.testing.assert_close(found.value, expected, rtol=0, atol=1e-12)


@both_ways
def test_gauss_newton_is_its_definition(mode: str):
    network, x, target = small_network()
    vector = along(network)
    state = {name: p.detach() for name, p in network.named_parameters()}
    jacobians = torch.func.jacrev(lambda state: torch.func.functional_call(network, state, (x,)))(state)
    jacobian = torch.cat([block.reshape(14, -1) for block in jacobians.values()], dim=1)
    logits = network(x).detach()
    outer = torch.func.hessian(lambda z: F.cross_entropy(z.reshape(7, 2), target))(logits.flatten())
    found = gauss_newton_vector(
        lambda model: model(x), lambda z: F.cross_entropy(z, target), network, vector, mode=mode
    )
    torch.testing.assert_close(joined(found.value), jacobian.T @ (outer @ (jacobian @ joined(vector))))
    assert found.way == mode


def test_of_a_linear_model_gauss_newton_is_the_hessian():
    model, x, target = nn.Linear(5, 3).double(), double(7, 5), torch.randint(3, (7,))
    vector = along(model)
    newton = gauss_newton_vector(lambda m: m(x), lambda z: F.cross_entropy(z, target), model, vector)
    whole = hessian_vector(lambda m: F.cross_entropy(m(x), target), model, vector)
    torch.testing.assert_close(joined(newton.value), joined(whole.value))


@pytest.mark.parametrize(
    "form", [{"norm_first": first, "activation": a} for first in (False, True) for a in ("gelu", "relu")]
)
def test_both_ways_agree_through_our_encoder_and_torchs(form: dict):
    sizes = {"dim_feedforward": INNER, "dropout": 0.0, "dtype": torch.float64, **form}
    ours = TransformerEncoder(TransformerEncoderLayer(EMBED, HEADS, **sizes), 2)
    theirs = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(EMBED, HEADS, **sizes, batch_first=True), 2, enable_nested_tensor=False
    )
    theirs.load_state_dict(ours.state_dict())
    x, causal = double(BATCH, LENGTH, EMBED), torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
    vector = along(ours)

    def loss(model: nn.Module) -> Tensor:
        return model(x, causal).sin().sum()

    found = {
        (name, mode): hessian_vector(loss, model, vector, mode=mode)
        for name, model in (("ours", ours), ("theirs", theirs))
        for mode in WAYS
    }
    expected = joined(found["theirs", "reverse"].value)
    for (_, mode), product in found.items():
        assert apart(joined(product.value), expected) < (1e-5 if mode == "difference" else 1e-10)
    assert found["ours", "forward"].said[0] == (
        "layers.0.self_attn.form, layers.1.self_attn.form: softmax attention by plain operations"
    )
    assert found["theirs", "reverse"].said[0] == (
        "layers.0.self_attn, layers.1.self_attn: scaled_dot_product_attention by plain operations"
    )
    pieces = [told for told in found["ours", "forward"].said if "linear pieces" in told]
    assert pieces == [
        "layers.0, layers.1: relu is made of linear pieces: this is the curvature of those that the point is on"
    ] * (form["activation"] == "relu")


def test_a_single_layer_agrees_in_evaluation_too():
    layer = TransformerEncoderLayer(EMBED, HEADS, INNER, dropout=0.3, dtype=torch.float64, activation="gelu").eval()
    x = double(BATCH, LENGTH, EMBED)
    assert_both_ways_agree(lambda model: model(x).sin().sum(), layer)


@pytest.mark.parametrize(
    "form",
    ["cosine", "bilinear", "additive", "rbf", "polynomial", "window", "linear-elu", "linear-taylor", "linear-random"],
)
def test_both_ways_agree_through_every_form(form):
    layer = TransformerEncoderLayer(
        EMBED, HEADS, INNER, dropout=0.0, activation="gelu", dtype=torch.float64, attention=AttentionConfig(form=form)
    ).double()
    x = double(BATCH, LENGTH, EMBED)
    assert_both_ways_agree(lambda model: model(x).sin().sum(), layer)


@pytest.mark.parametrize("form", ["linear-taylor", "linear-elu"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_both_ways_agree_where_linear_attention_goes_in_chunks(form, is_causal: bool):
    layer = TransformerEncoderLayer(6, 1, 5, 0.0, torch.tanh, attention=AttentionConfig(form=form)).double()
    x = double(1, 131, 6)  # 128 keys are weighed at once
    said = assert_both_ways_agree(lambda model: model(x, is_causal=is_causal).sin().sum(), layer)
    assert said[0] == "self_attn.form: linear attention by plain operations"


def test_compiled_taylor_attention_gives_place_to_its_definition():
    layer = TransformerEncoderLayer(6, 1, 5, 0.0, torch.tanh, attention=AttentionConfig(form="linear-taylor"))
    x, vector = torch.randn(1, 131, 6), along(layer)

    def loss(model: nn.Module) -> Tensor:
        return model(x.to(next(model.parameters()).dtype)).sin().sum()

    single = [joined(hessian_vector(loss, layer, vector, mode=mode).value).double() for mode in BOTH]
    exact = joined(hessian_vector(loss, layer.double(), {k: v.double() for k, v in vector.items()}).value)
    assert max(apart(found, exact) for found in single) < 1e-4


def pairs(*, padded: bool) -> PairBatch:
    source, target = torch.randint(3, 13, (2, 3, 5)).unbind()
    real = torch.arange(5) < (torch.tensor([[5], [3], [4]]) if padded else 5)
    real = real.expand(3, 5)
    return PairBatch(source * real, real, target * real, real)


def test_both_ways_agree_through_a_translating_transformer():
    sizes = TransformerConfig(
        embed_dim=6, num_heads=2, feedforward_dim=7, encoder_layers=1, decoder_layers=1, dropout=0.0
    )
    batch = pairs(padded=True)
    said = assert_both_ways_agree(lambda model: model.loss(batch), TranslationTransformer(sizes, 13, 13).double())
    assert "linear cross-entropy by plain operations" in said


@pytest.mark.parametrize("attention", [False, True])
def test_both_ways_agree_through_a_recurrent_translator(attention: bool):
    sizes = RecurrentConfig(embed_dim=6, hidden_size=5, dropout=0.0)
    model = TranslationRNN(sizes, 13, 13, attention=attention).double()
    batch, padded, vector = pairs(padded=False), pairs(padded=True), along(model)
    assert_both_ways_agree(lambda model: model.loss(batch), model)
    found, difference = (
        hessian_vector(lambda model: model.loss(padded), model, vector, mode=mode) for mode in ("auto", "difference")
    )
    assert apart(joined(difference.value), joined(found.value)) < 1e-5
    told = (
        "no forward-over-reverse, which _pack_padded_sequence (in encoder) does not have; reverse-over-reverse instead"
    )
    assert told in found.said


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers_in_single_precision_leave_their_library(kind: type[nn.LSTM]):
    model, x = nn.ModuleDict({"reader": kind(6, 7, 2, batch_first=True)}), torch.randn(BATCH, LENGTH, 6)
    vector = along(model)

    def loss(model) -> Tensor:
        return model["reader"](x.to(next(model.parameters()).dtype))[0].sin().sum()

    enabled = torch.backends.mkldnn.enabled
    forward, reverse = (hessian_vector(loss, model, vector, mode=mode) for mode in BOTH)
    exact = joined(hessian_vector(loss, model.double(), {k: v.double() for k, v in vector.items()}).value)
    assert max(apart(joined(x.value).double(), exact) for x in (forward, reverse)) < 1e-5
    if kind is nn.LSTM and torch.backends.mkldnn.is_available():
        assert forward.said == ("reader: a recurrent layer in oneDNN by plain operations",)
    assert torch.backends.mkldnn.enabled == enabled


# -- ways that cannot be gone ----------------------------------------------------------------------------------------


def test_a_layer_without_forward_mode_is_gone_by_reverse_and_named():
    model = nn.Sequential(nn.Linear(3, 4), nn.GroupNorm(2, 4), nn.Tanh()).double()
    x, vector = double(5, 3), along(model)
    found = hessian_vector(lambda m: m(x).sum(), model, vector)
    assert found.way == "reverse"
    assert found.said == (
        "no forward-over-reverse, which native_group_norm_backward (in 1) does not have; reverse-over-reverse instead",
    )
    by_difference = hessian_vector(lambda m: m(x).sum(), model, vector, mode="difference")
    assert apart(joined(by_difference.value), joined(found.value)) < 1e-6
    with pytest.raises(InputError, match=r"native_group_norm_backward \(in 1\).* Try: mode='auto'"):
        hessian_vector(lambda m: m(x).sum(), model, vector, mode="forward")


class Cube(torch.autograd.Function):
    """`x^3`, with a backward pass that can be differentiated and a forward pass that carries nothing along."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grads[0]


class OnceCube(Cube):
    """The same, but that its backward pass has no derivative."""

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grads[0]


def test_a_function_written_by_hand_is_named():
    # H = diag(6 x)
    at, vector = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 10.0])
    found = hessian_vector(lambda x: Cube.apply(x).sum(), at, vector)
    assert (found.value.tolist(), found.way) == ([6, 120], "reverse")
    assert found.said == (
        "the backward pass of Cube is differentiated as it was written",
        "no forward-over-reverse, which Cube does not have; reverse-over-reverse instead",
    )


def test_what_cannot_be_differentiated_twice_is_refused_by_name():
    at, vector = torch.tensor([1.0, 2.0], dtype=torch.float64), torch.ones(2)
    with pytest.raises(InputError, match=r"cannot be differentiated twice.*OnceCube.*OnceCube.*mode='difference'"):
        hessian_vector(lambda x: OnceCube.apply(x).sum(), at, vector)
    found = hessian_vector(lambda x: OnceCube.apply(x).sum(), at, vector, mode="difference")
    assert found.value.tolist() == pytest.approx([6, 12])
    model, x = nn.Linear(3, 4).double(), double(5, 2, 3)

    def loss(m: nn.Module) -> Tensor:
        return F.ctc_loss(
            m(x).log_softmax(-1), torch.tensor([[1, 2], [2, 3]]), torch.tensor([5, 5]), torch.tensor([2, 2])
        )

    with pytest.raises(InputError, match=r"_ctc_loss does not have; no reverse-over-reverse, which _ctc_loss_backward"):
        hessian_vector(loss, model, along(model))


# -- laws ------------------------------------------------------------------------------------------------------------

numbers = st.floats(-3, 3, allow_nan=False, width=32)


@settings(max_examples=20)
@given(st.lists(numbers, min_size=9, max_size=9), st.lists(numbers, min_size=3, max_size=3), st.sampled_from(BOTH))
def test_of_a_quadratic_form_the_hessian_is_its_symmetric_part(matrix: list[float], x: list[float], mode: str):
    a = torch.tensor(matrix, dtype=torch.float64).reshape(3, 3)
    at = torch.tensor(x, dtype=torch.float64)
    found = hessian(lambda x: x @ a @ x / 2, at, mode=mode)
    torch.testing.assert_close(found.value, (a + a.T) / 2)


@settings(max_examples=15)
@given(st.integers(0, 1000), numbers, numbers, st.sampled_from(BOTH))
def test_products_are_linear_and_symmetric(seed: int, a: float, b: float, mode: str):
    network, x, target = small_network()
    torch.manual_seed(seed)
    u, v = along(network), along(network)

    def product(vector: dict[str, Tensor]) -> Tensor:
        found = hessian_vector(lambda m: F.cross_entropy(m(x), target), network, vector, mode=mode)
        return joined(found.value)

    mixed = {name: a * u[name] + b * v[name] for name in u}
    torch.testing.assert_close(product(mixed), a * product(u) + b * product(v))
    torch.testing.assert_close(joined(u) @ product(v), joined(v) @ product(u))


def test_eigenvalues_are_those_of_the_matrix():
    model, x = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double(), double(11, 5)
    expected = np.linalg.eigvalsh(hessian(lambda m: m(x).sin().mean(), model).value.numpy())
    largest = eigenvalues(lambda m: m(x).sin().mean(), model, 4)
    smallest = eigenvalues(lambda m: m(x).sin().mean(), model, 3, which="smallest", mode="reverse")
    assert largest.values == pytest.approx(expected[::-1][:4], abs=1e-10)
    assert smallest.values == pytest.approx(expected[:3], abs=1e-10)
    assert max(*largest.residuals, *smallest.residuals) < 1e-6
    assert largest.products > 4
    assert smallest.way == "reverse"


def test_a_hessian_of_zeros_has_eigenvalues_of_zero():
    assert eigenvalues(lambda x: x.sum(), torch.ones(50), 2).values.tolist() == [0, 0]


def test_random_numbers_are_the_same_in_every_pass_and_none_are_taken():
    model, x = nn.Sequential(nn.Linear(5, 7), nn.Dropout(0.5), nn.Tanh(), nn.Linear(7, 1)).double(), double(3, 5)
    vector, state = along(model), torch.get_rng_state()
    forward, reverse, again = (
        hessian_vector(lambda m: m(x).sin().sum(), model, vector, mode=mode) for mode in (*BOTH, "forward")
    )
    torch.testing.assert_close(forward.value, reverse.value)
    assert all(bool((forward.value[name] == again.value[name]).all()) for name in vector)
    assert bool((torch.get_rng_state() == state).all())


def test_a_model_is_left_as_it_was():
    model, x = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Tanh()).double(), double(7, 5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert_both_ways_agree(lambda m: (m(x) ** 3).sum(), model)
    for name, value in model.state_dict().items():
        assert bool((value == before[name]).all()), name
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_tied_parameters_are_one():
    # y = W W x: by hand through torch's own functions of one matrix.
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(3, 3, bias=False, dtype=torch.float64)
            self.second = nn.Linear(3, 3, bias=False, dtype=torch.float64)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x))

    model, x, vector = Twice(), double(5, 3), double(3, 3)
    weight = model.first.weight.detach()
    expected = torch.func.jvp(torch.func.grad(lambda w: (x @ w.T @ w.T).sin().sum()), (weight,), (vector,))[1]
    found = hessian_vector(lambda m: m(x).sin().sum(), model, {"first.weight": vector})
    torch.testing.assert_close(found.value["first.weight"], expected)


# -- what is said, and what is refused -------------------------------------------------------------------------------


@both_ways
def test_what_the_loss_does_not_depend_on_has_zeros(mode: str):
    model = nn.ModuleDict({"used": nn.Linear(2, 1), "idle": nn.Linear(2, 1)})
    found = hessian_vector(lambda m: (m["used"](torch.ones(3, 2)) ** 2).sum(), model, along(model), mode=mode)
    assert bool(found.value["used.weight"].any())
    assert not found.value["idle.weight"].any()
    assert found.said == tuple(
        f"{name}: the loss does not depend on it: zeros" for name in ("idle.weight", "idle.bias")
    )


def test_the_hessian_of_linear_pieces_is_that_of_a_piece():
    # L = sum |w x - y| for a line through no data point: it has slopes, and no curvature.
    model, x = nn.Linear(1, 1), torch.tensor([[1.0], [2.0]])
    found = hessian_vector(lambda m: F.l1_loss(m(x), torch.tensor([[9.0], [-9.0]])), model, along(model))
    assert [value.tolist() for value in found.value.values()] == [[[0]], [0]]
    assert found.said == ("abs is made of linear pieces: this is the curvature of those that the point is on",)


def square(x: Tensor) -> Tensor:
    return x.square().sum()


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("loss", "parameters", "vector", "error", "message"),
    [
        (
            square,
            torch.ones(3),
            torch.ones(2),
            InputError,
            r"vector does not fit argument 1. Expected \(3,\); got \(2,\)",
        ),
        (square, [torch.ones(3)], [torch.ones(3)] * 2, InputError, r"fit the parameters. Expected 1 tensors; got 2"),
        (square, torch.ones(3), torch.ones(3).long(), InputTypeError, r"vector .* argument 1.*got torch.int64"),
        (square, torch.ones(3), torch.tensor([1, torch.nan, 0]), NotFiniteError, "vector is not finite for argument 1"),
        (square, torch.ones(3).long(), torch.ones(3), InputTypeError, r"argument 1 cannot be differentiated by.*int64"),
        (square, torch.full((3,), torch.inf), torch.ones(3), NotFiniteError, "argument 1 is not finite"),
        (square, [], [], InputError, "nothing to differentiate by"),
        (torch.square, torch.ones(3), torch.ones(3), InputError, r"not one number.*shape \(3,\).*\.sum\(\)"),
        (lambda x: x.sum().item(), torch.ones(3), torch.ones(3), InputTypeError, r"got float. Try: .*without .item"),
        (lambda x: x.argmax(), torch.ones(3), torch.ones(3), InputTypeError, "the loss cannot be .* got torch.int64"),
        (lambda x: x.log().sum(), -torch.ones(3), torch.ones(3), NotFiniteError, "the loss is not finite.*got nan"),
        (lambda x: (x**1.5).sum(), torch.zeros(3), torch.ones(3), NotFiniteError, "by argument 1 are not finite"),
    ],
)
def test_what_cannot_be_used_is_refused(loss, parameters, vector, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        hessian_vector(loss, parameters, vector)


def test_vectors_of_a_model_go_by_name():
    model = nn.Linear(2, 1)
    message = r"vector does not fit the model. Expected a dictionary with weight, bias; got weight. Try: \{name: "
    with pytest.raises(InputError, match=message):
        hessian_vector(lambda m: m(torch.ones(2)).sum(), model, {"weight": torch.ones(1, 2)})
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(InputError, match="nothing to differentiate by"):
        hessian_vector(lambda m: m(torch.ones(2)).sum(), model, {})


@pytest.mark.usefixtures("no_shape_hook")
def test_choices_that_are_not_there_are_refused():
    at = torch.ones(3)
    with pytest.raises(InputError, match=r"unknown mode 'foward'.* Try: forward"):
        hessian_vector(square, at, at, mode="foward")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="unknown which 'biggest'"):
        eigenvalues(square, at, which="biggest")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="Expected 1 to 3; got 4"):
        eigenvalues(square, at, 4)
    with pytest.raises(
        InputError, match=r"by 3 parameters is too large.*at most 2; got 3, so 9 entries. Try: hessian_vec"
    ):
        hessian(square, at, limit=2)
    with pytest.raises(InputError, match="unknown mode 'difference'"):
        gauss_newton_vector(torch.sin, torch.sum, at, at, mode="difference")  # pyright: ignore[reportArgumentType]
