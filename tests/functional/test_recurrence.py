from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qkv.errors import InputError, InputTypeError
from qkv.functional import (
    _recurrence,
    _recurrence_cpu,
    gru,
    gru_step,
    in_the_open,
    lstm,
    lstm_step,
    naive_gru,
    naive_lstm,
)
from qkv.functional._lanes import ROWS
from qkv.trace import record

INPUT, HIDDEN = 3, 5
LSTM, GRU = (lstm, naive_lstm, 4), (gru, naive_gru, 3)
SIZES = {"of one length": [3, 3], "of several": [7, 5, 5, 2], "one": [1, 1, 1]}

every_kind = pytest.mark.parametrize(("fast", "naive", "gates"), [LSTM, GRU], ids=["lstm", "gru"])


def made(gates: int, sizes: list[int], *, hidden: int = HIDDEN, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Inputs, states, weights and biases, all drawn."""
    torch.manual_seed(0)
    rows, states = gates * hidden, 2 if gates == 4 else 1
    shapes = [(sum(sizes), INPUT), *states * [(sizes[0], hidden)], (rows, INPUT), (rows, hidden), (rows,), (rows,)]
    scale = 1.5 * hidden**-0.5  # gates that are neither shut nor all the same
    return [(scale * torch.randn(*shape, dtype=dtype)).requires_grad_() for shape in shapes]


def run(formula, sizes: list[int], tensors: list[Tensor]) -> tuple[Tensor, ...]:
    """States after every row, then gates."""
    count = 2 if formula in (lstm, naive_lstm) else 1
    x, states, weights = tensors[0], tensors[1 : 1 + count], tensors[1 + count :]
    return formula(x, tuple(states) if count == 2 else states[0], *weights, sizes=sizes)


# -- by hand ---------------------------------------------------------------------------------------------------------


def test_an_lstm_step_by_hand():
    # x = 1, h = 2, c = 3; what enters the gates, W_ih x + b_ih + W_hh h + b_hh:
    #   i: 1 + 0.1 + 2 * 0.2 - 0.5 = 1    sigmoid 0.731059
    #   f: 0 + 0   + 2 * 0.5 - 1   = 0    sigmoid 0.5
    #   g: 1 + 0.5 - 2 * 1   + 0   = -0.5 tanh   -0.462117
    #   o: 2 + 0   + 2 * 0   + 0   = 2    sigmoid 0.880797
    # c' = 0.5 * 3 + 0.731059 * -0.462117 = 1.162165, h' = 0.880797 * tanh(1.162165) = 0.723790
    column = [torch.tensor(values, dtype=torch.float64) for values in ([1, 0, 1, 2], [0.2, 0.5, -1, 0])]
    biases = [torch.tensor(values, dtype=torch.float64) for values in ([0.1, 0, 0.5, 0], [-0.5, -1, 0, 0])]
    x, h, c = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
    h, c = lstm_step(x, (h, c), column[0][:, None], column[1][:, None], *biases)
    assert c.item() == pytest.approx(1.162165, abs=1e-6)
    assert h.item() == pytest.approx(0.723790, abs=1e-6)


def test_a_gru_step_by_hand():
    # x = 1, h = 2. r: 1 - 1 + 2 * 0.5 + 0 = 1, sigmoid 0.731059; z: 0 + 0 - 2 * 0.5 + 1 = 0, sigmoid 0.5;
    # n: tanh(0.3 + 0.1 + 0.731059 * (2 * -0.5 + 0.2)) = tanh(0.4 - 0.584847) = -0.182767
    # h' = 0.5 * -0.182767 + 0.5 * 2 = 0.908616
    column = [torch.tensor(values, dtype=torch.float64) for values in ([1, 0, 0.3], [0.5, -0.5, -0.5])]
    biases = [torch.tensor(values, dtype=torch.float64) for values in ([-1, 0, 0.1], [0, 1, 0.2])]
    x, h = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    after = gru_step(x, h, column[0][:, None], column[1][:, None], *biases)
    assert after.item() == pytest.approx(0.908616, abs=1e-6)


# -- fast and naive --------------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("bias", [True, False])
def test_sequences_are_their_definition(
    same_values_and_gradients, fast, naive, gates: int, sizes: list[int], bias: bool
):
    tensors = made(gates, sizes)[: None if bias else -2]
    ours, theirs = run(fast, sizes, tensors), run(naive, sizes, tensors)
    states = slice(0, -1)
    same_values_and_gradients(torch.cat(ours[states], 1), torch.cat(theirs[states], 1), tensors)
    torch.testing.assert_close(ours[-1], theirs[-1], rtol=0, atol=1e-12)
    assert not ours[-1].requires_grad


# Tiles whole and begun, blocks of columns whole and begun; rows that end at every step.
@pytest.mark.parametrize("hidden", [5, 32, 67])
@pytest.mark.parametrize("sizes", [[1, 1], [ROWS] * 2, [2 * ROWS + 3, ROWS + 1, ROWS, 2]], ids=str)
def test_compiled_loops_are_the_definition(hidden: int, sizes: list[int]):
    tensors = made(4, sizes, hidden=hidden, dtype=torch.float32)
    assert _recurrence_cpu.usable(*tensors[:2])
    exact = [x.detach().double().requires_grad_() for x in tensors]
    ours, theirs = run(lstm, sizes, tensors), run(naive_lstm, sizes, exact)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.double(), other, rtol=0, atol=1e-6)
    cotangents = [torch.randn_like(x) for x in theirs[:-1]]
    gradients = torch.autograd.grad(ours[:-1], tensors, [x.float() for x in cotangents])
    references = torch.autograd.grad(theirs[:-1], exact, cotangents)
    for mine, other in zip(gradients, references, strict=True):
        torch.testing.assert_close(mine.double(), other, rtol=3e-6, atol=3e-6)


def test_threads_share_the_sequences(monkeypatch):
    sizes = [3 * ROWS + 2, 3 * ROWS + 2, ROWS + 1, 1]
    tensors = made(4, sizes, dtype=torch.float32)
    alone = run(lstm, sizes, tensors)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    for mine, other in zip(run(lstm, sizes, tensors), alone, strict=True):
        assert torch.equal(mine, other)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6))
@settings(max_examples=20)
def test_each_row_reads_the_state_of_its_own_sequence(sizes: list[int]):
    sizes = sorted(sizes, reverse=True)
    states = torch.arange(sizes[0] + sum(sizes))[:, None].float()
    after = states[sizes[0] :].split(sizes)
    expected = [states[: sizes[0]], *(step[: len(following)] for step, following in pairwise(after))]
    assert torch.equal(_recurrence.before(sizes, states), torch.cat(expected))


@pytest.mark.parametrize(("formula", "gates"), [(lstm, 4), (gru, 3)])
def test_gradients_of_both_orders(formula, gates: int):
    sizes = [2, 1]
    tensors = made(gates, sizes, hidden=2)

    def states(*tensors: Tensor) -> tuple[Tensor, ...]:
        return run(formula, sizes, list(tensors))[:-1]

    assert torch.autograd.gradcheck(states, tensors)
    assert torch.autograd.gradgradcheck(states, tensors)


def test_second_derivatives_of_compiled_loops():
    sizes, tensors = [2, 2, 1], made(4, [2, 2, 1], dtype=torch.float32)

    def second(formula) -> tuple[Tensor, ...]:
        (gradient,) = torch.autograd.grad(run(formula, sizes, tensors)[0].sum(), tensors[0], create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), tensors[1:5])

    for mine, other in zip(second(lstm), second(naive_lstm), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


@every_kind
def test_in_the_open_it_is_the_definition(fast, naive, gates: int):
    sizes, said = [2, 1], []
    tensors = made(gates, sizes, dtype=torch.float32)
    with in_the_open(said.append):
        ours = run(fast, sizes, tensors)
    assert said == [fast.__name__]
    assert all(torch.equal(mine, other) for mine, other in zip(ours, run(naive, sizes, tensors), strict=True))


@every_kind
def test_transforms_of_functions_take_the_definition(fast, naive, gates: int):
    sizes = [2, 1]
    tensors = [x.detach() for x in made(gates, sizes)]

    def total(x: Tensor, formula) -> Tensor:
        return run(formula, sizes, [x, *tensors[1:]])[0].square().sum()

    jacobian = torch.func.jacrev
    hessians = [jacobian(jacobian(lambda x, f=formula: total(x, f)))(tensors[0]) for formula in (fast, naive)]
    assert torch.equal(*hessians)


def test_saturated_gates_are_finite_and_what_is_no_number_stays_so():
    sizes = [2]
    x, h, c, weight_ih, *rest = (x.detach() for x in made(4, sizes, dtype=torch.float32))
    x[0] = 1e30
    x[1, 0] = torch.nan
    hidden, cells, gates = run(lstm, sizes, [x, h, c, weight_ih, *rest])
    assert bool(gates[0].abs().le(1).all())
    torch.testing.assert_close(hidden[0], run(naive_lstm, sizes, [x, h, c, weight_ih, *rest])[0][0])
    assert bool(hidden[1].isnan().all())
    assert bool(cells[1].isnan().all())


def test_steps_record_gates_and_states():
    x, h, c, *weights = made(4, [1])
    with record() as trace:
        lstm_step(x, (h, c), *weights)
    assert trace.names == ["i", "f", "g", "o", "c", "h"]
    assert torch.equal(trace["f"] * c + trace["i"] * trace["g"], trace["c"])
    x, h, *weights = made(3, [1])
    with record() as trace:
        gru_step(x, h, *weights)
    assert trace.names == ["r", "z", "n", "h"]
    torch.testing.assert_close((1 - trace["z"]) * trace["n"] + trace["z"] * h, trace["h"])


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[3, 4], [3, 3], [2, 2, 3], [], [3, 3, 2, -1]], ids=str)
@pytest.mark.usefixtures("no_shape_hook")
def test_sizes_that_do_not_fit_are_refused(sizes: list[int]):
    with pytest.raises(InputError, match=r"sizes do not say how the rows of x lie\. .* from 3 on, 7 in all"):
        run(lstm, sizes, made(4, [3, 3, 1]))


@pytest.mark.parametrize(
    ("place", "broken", "message"),
    [
        (2, lambda x: x[:, :4], r"c does not fit x and h\. Expected \(3, 5\)"),
        (
            3,
            lambda x: x[:, :2],
            r"weight_ih does not fit .* \(20, 3\), for an input of 3 and a state of 5; got \(20, 2\)",
        ),
        (4, lambda x: x[:15], r"weight_hh does not fit"),
        (6, lambda x: x[:7], r"bias_hh does not fit"),
        (6, lambda _: None, r"only one of bias_ih and bias_hh is given"),
        (1, lambda x: x.float(), r"h is of a type .* torch\.float64, that of x; got torch\.float32"),
        (0, lambda x: x.long(), r"x is of a type .* one floating type for all; got torch\.int64"),
    ],
)
@pytest.mark.usefixtures("no_shape_hook")
def test_tensors_that_do_not_fit_are_refused(place: int, broken, message: str):
    tensors = [x.detach() for x in made(4, [3])]
    tensors[place] = broken(tensors[place])
    with pytest.raises((InputError, InputTypeError), match=message):
        run(lstm, [3], tensors)
