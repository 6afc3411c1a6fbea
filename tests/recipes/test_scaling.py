import html
import json
import math
from itertools import pairwise

import pytest
import torch

from qkv.errors import InputError
from qkv.functional import naive_softmax_attention
from qkv.recipes import scaling, scaling_cost
from qkv.recipes.base import Reporter, configure
from qkv.recipes.base import run as run_recipe
from qkv.recipes.scaling_cost import Cost, Sizes, crossover, measure, power_law
from qkv.recipes.scaling_scores import KEYS, nearness, weighings
from qkv.train import RunFolder

SIZES = Sizes(heads=2, head_dim=3, value_dim=5, features=7)
SMALL = ["--preset", "tiny", "--lengths", "13,29,61", "--rounds", "1", "--rows", "7"]


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- at the door -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(qkv_cli, tmp_path_factory):
    """A run, its folder and its answer."""
    path = tmp_path_factory.mktemp("scaling") / "run"
    answer = qkv_cli("run", "scaling", *SMALL, "--out", path, "--json")
    assert answer.code == 0, answer.err
    return path, answer.json


def test_a_run_leaves_figures_and_no_weights(ran):
    path, document = ran
    assert {file.name for file in path.iterdir()} == {"config.json", "environment.json", "result.json", "report.html"}
    result = json.loads((path / "result.json").read_text())
    assert document["metrics"] == result["metrics"]
    exponents = {f"exponent_{form.replace('-', '_')}" for form in scaling_cost.FORMS}
    crossovers = {f"crossover_{masking}{end}" for masking in ("causal", "full") for end in ("", "_backward")}
    assert exponents | {"distance_taylor_2"} <= document["metrics"].keys() <= exponents | crossovers | {
        "distance_taylor_2"
    }  # fmt: skip
    # Six forms, causal and not, forward and with backward, at three lengths.
    assert len(result["costs"]) == 6 * 2 * 2 * 3
    assert all(cost["seconds"] > 0 and cost["operations"] > 0 and cost["megabytes"] > 0 for cost in result["costs"])


def test_the_report_tells_it_all_and_how_to_make_it_again(ran):
    path, _ = ran
    page = html.unescape((path / "report.html").read_text(encoding="utf-8"))
    assert page.count("<svg") == 4
    for told in ("O(L² D)", "O(L H D)", "O(L d D + L² D)", "Linear attention with Taylor features is faster",
                 "Why scale, why softmax", "How near Taylor comes to softmax", "torch's allocator"):  # fmt: skip
        assert told in page
    assert "qkv run scaling --lengths 13,29,61 --rounds 1 --least-seconds 0.0 --rows 7 --seed 0" in page
    assert "https://" not in page


@pytest.mark.parametrize(
    ("verb", "rest"), [("evaluate", []), ("predict", ["--data", "a", "--out", "b"]), ("show", ["deux"])]
)
def test_what_a_measurement_cannot_do_is_refused(qkv_cli, ran, verb, rest):
    answer = qkv_cli(verb, ran[0], *rest)
    assert (answer.code, answer.out) == (2, "")
    assert f"{ran[0]}: a run of scaling leaves nothing to {verb}." in answer.err
    assert f"Try: its report, {ran[0] / 'report.html'}" in answer.err


def test_several_seeds_are_compared(qkv_cli, tmp_path):
    forms = ["--forms", "softmax, linear-elu", "--no-backward"]
    answer = qkv_cli("run", "scaling", *SMALL, *forms, "--seeds", 2, "--out", tmp_path, "--json")
    assert answer.code == 0, answer.err
    (group,) = answer.json["groups"]
    assert group["seeds"] == [0, 1]
    assert group["metrics"].keys() == {"exponent_softmax", "exponent_linear_elu", "distance_taylor_2"}
    assert (tmp_path / "comparison.html").stat().st_size > 0
    # Two forms, causal and not, forward alone, at three lengths.
    assert len(json.loads((tmp_path / "seed1" / "result.json").read_text())["costs"]) == 2 * 2 * 3


def test_a_stopped_run_measures_anew(qkv_cli, tmp_path):
    chosen = {"lengths": [13, 29, 61], "rounds": 1, "rows": 7, "forms": ["softmax"]}
    config = configure(scaling, chosen, "tiny").model_dump(mode="json")
    RunFolder.create(tmp_path / "run", recipe="scaling", config=config, seed=0)
    answer = qkv_cli("resume", tmp_path / "run", "--json")
    assert answer.code == 0, answer.err
    assert "exponent_softmax" in answer.json["metrics"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lengths", "128"], "--lengths cannot be used."),
        (["--lengths", "128,0,256"], "--lengths cannot be used. Expected greater than 0; got '0'"),
        (["--lengths", "128,128,256"], "--lengths name a length twice. Expected three different ones at least"),
        (["--forms", "softmx"], "unknown --forms 'softmx'."),
        (["--forms", "softmx"], "Try: softmax"),
        (["--models", "rnn"], "Unknown option: --models."),
        (["--head-dim", "0"], "--head-dim cannot be used. Expected greater than 0; got '0'"),
    ],
)
def test_settings_that_cannot_be(qkv_cli, tmp_path, arguments, message):
    answer = qkv_cli("run", "scaling", *arguments, "--out", tmp_path / "run")
    assert (answer.code, answer.out) == (2, "")
    assert message in " ".join(answer.err.split())
    assert not (tmp_path / "run").exists()


# -- what is measured ------------------------------------------------------------------------------------------------


def test_operations_and_memory_by_hand():
    costs = {
        (cost.form, cost.backward): cost
        for cost in measure(
            ["softmax-naive", "softmax"], SIZES, 31, backward=True, rounds=1, max_megabytes=9, generator=drawn()
        )
        if not cost.is_causal
    }
    # 2 heads, 31 x 31 scores of 3 products and 31 x 31 weights times 5 values, an addition to each multiplication.
    assert costs["softmax-naive", False].operations == 2 * 2 * 31 * 31 * (3 + 5)
    # Backward has two products for each of those.
    assert costs["softmax-naive", True].operations == 3 * 2 * 2 * 31 * 31 * (3 + 5)
    # Queries and keys are padded to the width of values.
    assert costs["softmax", False].operations == 2 * 2 * 31 * 31 * (5 + 5)
    assert all(cost.counted for cost in costs.values())
    weights = 2 * 31 * 31 * 4 / 2**20
    assert costs["softmax-naive", False].megabytes >= 2 * weights  # scores, and their softmax
    assert costs["softmax", False].megabytes < costs["softmax-naive", False].megabytes


def test_a_form_that_needs_too_much_is_left_out():
    found = measure(
        ["softmax-naive", "softmax"], SIZES, 1031, backward=False, rounds=1, max_megabytes=32, generator=drawn()
    )
    assert {cost.form for cost in found} == {"softmax"}  # 2 heads x 1031 x 1031 x 4 bytes x 4: 32.4 MB


def test_operations_that_torch_cannot_see_come_from_the_formula(monkeypatch, tmp_path):
    monkeypatch.setattr(scaling_cost, "_operations", lambda call: call() or 0)
    chosen = {"lengths": [13, 29, 61], "rounds": 1, "rows": 7, "forms": ["linear-taylor"], "head_dim": 3, "heads": 2}
    run = run_recipe(scaling, "scaling", chosen, seed=0, out=tmp_path / "run", reporter=Reporter())
    costs = [Cost(**cost) for cost in run.result["costs"]]
    assert not any(cost.counted for cost in costs)
    # 10 features: 1, 3, and 6 pairs of 3. Each of 13 positions times 64 values and a sum, twice, for 2 heads.
    assert {cost.operations for cost in costs if cost.length == 13 and not cost.backward} == {2 * 2 * 2 * 13 * 10 * 65}
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Of linear-taylor it sees nothing" in page


@pytest.mark.parametrize("is_causal", [True, False])
def test_the_forms_of_softmax_compute_the_same(is_causal):
    query, key = torch.randn(2, 1, 2, 11, 3, generator=drawn(), dtype=torch.float64)
    value = torch.randn(1, 2, 11, 5, generator=drawn(1), dtype=torch.float64)
    expected, _ = naive_softmax_attention(query, key, value, is_causal=is_causal)
    for name in ("softmax-naive", "softmax"):
        output = scaling_cost._attend(name, SIZES, drawn())(query, key, value, is_causal=is_causal)
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-10)


def test_self_attention_is_the_formula_with_projections():
    x, wq, wk, wv = (
        torch.randn(shape, generator=drawn(), dtype=torch.float64)
        for shape in scaling_cost._shapes("self-attention", SIZES, 11)
    )
    output = scaling_cost._attend("self-attention", SIZES, drawn())(x, wq, wk, wv, is_causal=False)
    for head, (narrow, wide) in enumerate([(slice(0, 3), slice(0, 5)), (slice(3, 6), slice(5, 10))]):
        q, k, v = (x[0] @ weight / 10**0.5 for weight in (wq[:, narrow], wk[:, narrow], wv[:, wide]))
        torch.testing.assert_close(output[0, head], (q @ k.T / 3**0.5).softmax(-1) @ v, rtol=0, atol=1e-10)


# -- laws and crossings ----------------------------------------------------------------------------------------------


def test_a_power_law_is_that_of_the_longer_half():
    law = power_law([2, 4, 8, 16, 32], [1.0, 1.0, 3.0, 12.0, 48.0])
    assert (law.exponent, law.factor, law.start) == (pytest.approx(2), pytest.approx(3 / 64), 8)
    assert power_law([2], [1.0]) is None
    assert power_law([], []) is None


@pytest.mark.parametrize(
    ("slower", "faster", "length"),
    [
        ([1, 4, 16], [2, 4, 8], 256),  # equal at 256
        ([1, 4, 16], [4, 8, 8], 362),  # twice as slow at 256, twice as fast at 512: halfway in logarithms
        ([1, 4, 16], [0.5, 8, 8], 362),  # faster at first, then not: the last crossing counts
        ([1, 4, 16], [0.5, 2, 8], 0),
        ([1, 4, 16], [2, 8, 16], math.inf),
    ],
)
def test_crossovers_by_hand(slower, faster, length):
    lengths = (128, 256, 512)
    assert crossover(dict(zip(lengths, slower, strict=True)), dict(zip(lengths, faster, strict=True))) == length


def test_without_a_contender_there_is_no_crossover():
    assert crossover({}, {128: 1.0}) == math.inf


# -- scores ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ways():
    return {(way.weights, way.width): way for way in weighings(211, drawn(), widths=(4, 64, 1024))}


def test_the_variance_of_scores_is_their_width_unless_scaled(ways):
    for width in (4, 64, 1024):
        assert ways["softmax, not scaled", width].variance == pytest.approx(width, rel=0.3)
        assert ways["softmax, scaled", width].variance == pytest.approx(1, rel=0.3)


def test_without_a_scale_softmax_comes_to_hard_max(ways):
    wide, hard = ways["softmax, not scaled", 1024], ways["hard max", 1024]
    assert (hard.entropy, hard.jacobian, hard.gradient, hard.absolute) == (0, 0, 0, 1)
    assert wide.entropy < 0.1 * ways["softmax, scaled", 1024].entropy
    assert wide.gradient < 0.1 * ways["softmax, scaled", 1024].gradient
    assert ways["softmax, scaled", 1024].gradient == pytest.approx(ways["softmax, scaled", 64].gradient, rel=0.5)


def test_weights_normalised_by_their_sum_are_no_shares(ways):
    for width in (4, 64, 1024):
        way = ways["sum-normalised", width]
        assert way.entropy is None
        assert way.absolute > 2
        assert way.gradient > 3 * ways["softmax, scaled", width].gradient


def test_a_weighing_agrees_with_autograd():
    """One row: the same draws, differentiated by torch, against norms of the Jacobian by its formula."""
    (way, *_) = weighings(1, drawn(3), widths=(5,))
    generator = drawn(3)
    query, key, upstream = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((1, 5), (1, KEYS, 5), (1, KEYS))
    )
    query.requires_grad_()
    weights = (key[0] @ query[0] / 5**0.5).softmax(-1)
    (gradient,) = torch.autograd.grad(weights @ upstream[0], query)
    weights = weights.detach()
    assert way.gradient == pytest.approx(float(gradient.norm()), rel=1e-10)
    assert way.jacobian == pytest.approx(float((weights.diag() - weights.outer(weights)).norm()), rel=1e-10)
    assert way.entropy == pytest.approx(float(-(weights * weights.log()).sum()), rel=1e-10)


def test_the_distance_of_taylor_falls_with_twice_its_order_plus_two():
    near = {(one.features, one.norm): one.distance for one in nearness(97, drawn(), norms=(0.25, 0.5, 1.0))}
    for order in (1, 2, 3):
        distances = [near[f"Taylor, order {order}", norm] for norm in (0.25, 0.5, 1.0)]
        for small, large in pairwise(distances):
            assert math.log2(large / small) == pytest.approx(2 * (order + 1), abs=0.35)
    # At norm 0 all are uniform; elu + 1 differs in the first order.
    assert near["elu + 1", 0.25] > 10 * near["Taylor, order 1", 0.25]


def test_presets_are_configurations_and_lengths_are_kept_in_order():
    for name in scaling.PRESETS:
        assert configure(scaling, {}, name)
    with pytest.raises(InputError, match="--lengths name a length twice"):
        configure(scaling, {"lengths": [8, 8, 4]})
