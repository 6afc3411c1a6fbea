import importlib
import math
import os
import signal
import threading
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from qkv.errors import InputError, QkvError, RunError, StoppedError
from qkv.functional import softmax_attention
from qkv.train import FitConfig, RunFolder, fit, learning_rate, mean_loss
from qkv.train.fit import autocast

loop = importlib.import_module("qkv.train.fit")  # the function of that name stands before it

QUICK = FitConfig(epochs=3, learning_rate=0.03, warmup_steps=5, log_every=4, precision="float32", patience=99)


def with_(**changes) -> FitConfig:
    return QUICK.model_copy(update=changes)


# -- the learning rate -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "step", "left", "expected"),
    [
        # The warm-up is the same for all: (step + 1) / 4 of the peak of 2.
        *((schedule, 0, 0.9, 0.5) for schedule in ("inverse-sqrt", "cosine", "linear", "constant")),
        *((schedule, 3, 0.9, 2.0) for schedule in ("inverse-sqrt", "cosine", "linear", "constant")),
        ("inverse-sqrt", 4, 0.5, 2.0),  # sqrt(4 / 4)
        ("inverse-sqrt", 16, 0.5, 1.0),  # sqrt(4 / 16)
        ("inverse-sqrt", 400, 0.5, 0.2),  # sqrt(4 / 400)
        ("cosine", 7, 1.0, 2.0),
        ("cosine", 7, 2 / 3, 1.5),  # (1 + cos 60°) / 2
        ("cosine", 7, 0.5, 1.0),
        ("cosine", 7, 0.0, 0.0),
        ("linear", 7, 0.25, 0.5),
        ("constant", 7, 0.25, 2.0),
    ],
)
def test_schedules_by_hand(schedule, step, left, expected):
    config = FitConfig(learning_rate=2.0, warmup_steps=4, schedule=schedule)
    assert learning_rate(step, config, left) == pytest.approx(expected)


def test_no_warm_up_starts_at_the_peak():
    for schedule in ("inverse-sqrt", "cosine", "linear", "constant"):
        config = FitConfig(learning_rate=2.0, warmup_steps=0, schedule=schedule)
        assert learning_rate(0, config, left=1.0) == 2.0


def test_the_rate_that_is_logged_is_the_one_that_was_used(plane, points, new_run):
    run = new_run()
    fit(plane(), points(), points(), with_(schedule="linear", log_every=1), run)
    rates = [line["learning_rate"] for line in run.read().history if line["part"] == "train"]
    # 21 steps: five of rise, then 0.03 times the share that is left when a step begins.
    assert rates[:5] == pytest.approx([0.03 * (step + 1) / 5 for step in range(5)])
    assert rates[5:] == pytest.approx([0.03 * (1 - step / 21) for step in range(5, 21)])


# -- the loop --------------------------------------------------------------------------------------------------------


class Scripted(nn.Module):
    """Its validation losses are told beforehand; its weight counts the steps of training."""

    def __init__(self, valid_losses):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.valid_losses, self.steps = list(valid_losses), []

    def loss(self, batch):
        if self.training:
            return batch.x.mean() * 0 - self.weight + self.weight.detach()
        self.steps.append(float(self.weight))
        return torch.tensor(self.valid_losses[len(self.steps) - 1])


def test_training_learns(plane, points, new_run):
    model, valid = plane(), points(seed=1)
    before = mean_loss(model, valid)
    fit(model, points(), valid, with_(epochs=30), new_run())
    assert before > 2.0
    assert mean_loss(model, valid) < 0.3


def test_early_stopping_keeps_the_weights_of_the_best_validation(points, new_run):
    run, valid = new_run(), points(count=1)
    model = Scripted([5.0, 3.0, 4.0, 2.0, 2.0, 2.5, 7.0, 1.0])
    at = fit(model, points(), valid, with_(epochs=50, patience=3), run)
    # The fourth is the best; an equal one is no better; after three worse ones the eighth never comes.
    assert (at.step, at.epoch, at.best_step, at.best_loss, at.worse) == (49, 7, 28, 2.0, 3)
    assert float(model.weight.detach()) == model.steps[3]
    assert float(run.load_weights()["weight"]) == model.steps[3]
    told = [(line["step"], line["loss"], line["best"]) for line in run.read().history if line["part"] == "valid"]
    assert told[:4] == [(7, 5.0, True), (14, 3.0, True), (21, 4.0, False), (28, 2.0, True)]
    assert len(told) == 7


def test_validation_every_so_many_steps_and_at_the_end(points, new_run):
    run, model = new_run(), Scripted(range(9, 0, -1))
    fit(model, points(), points(count=1), with_(epochs=2, validate_every=4), run)
    assert [line["step"] for line in run.read().history if line["part"] == "valid"] == [4, 8, 12, 14]


def test_at_most_so_many_steps(points, new_run):
    model = Scripted([3.0, 2.0, 1.0])
    at = fit(model, points(), points(count=1), with_(epochs=99, steps=17), new_run())
    assert (at.step, at.epoch, at.batch) == (17, 2, 3)
    assert len(model.steps) == 3  # two epochs, and the end


def test_at_most_so_many_minutes(points, new_run, monkeypatch):
    # Every look at the clock takes six seconds: one a step, one a validation, and those that ask whether to save.
    ticks = iter(range(0, 100_000, 6))
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    run = new_run()
    at = fit(
        Scripted([2.0, 1.0, 0.5]),
        points(),
        points(count=1),
        with_(epochs=99, minutes=1, schedule="linear", warmup_steps=0, log_every=1, save_every=1e9),
        run,
    )
    assert 60 <= at.seconds < 80
    assert at.step < 7
    rates = [line["learning_rate"] for line in run.read().history if line["part"] == "train"]
    # The schedule is laid out over the minute: after s seconds the rate has 1 - s / 60 left.
    seconds = [0.0, *(line["seconds"] for line in run.read().history if line["part"] == "train")]
    assert rates == pytest.approx([0.03 * (1 - s / 60) for s in seconds[: len(rates)]])


class Echo(nn.Module):
    """Its loss is the first number of its batch."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def loss(self, batch):
        return batch.x[0, 0] + 0 * self.weight


def test_logged_losses_are_means_since_the_line_before(points, new_run):
    run, train = new_run(), points()
    fit(Echo(), train, points(count=1), with_(epochs=1, log_every=3), run)
    losses = [float(train.batches[index].x[0, 0]) for _, index in train.seen]
    lines = [line for line in run.read().history if line["part"] == "train"]
    assert [line["step"] for line in lines] == [3, 6, 7]
    assert [line["loss"] for line in lines] == pytest.approx(
        [sum(losses[:3]) / 3, sum(losses[3:6]) / 3, losses[6]], abs=1e-6
    )
    tokens = [3 * len(train.batches[index].x) for _, index in train.seen]
    assert [line["tokens"] for line in lines] == [sum(tokens[:3]), sum(tokens[:6]), sum(tokens)]


def test_a_mean_loss_weighs_batches_by_their_predictions(points):
    # Batches of 5 and 6 points with losses a and b: (5 a + 6 b) / 11.
    two = points(count=2)
    a, b = (float(batch.x[0, 0]) for batch in two.batches)
    model = Echo().train()
    assert mean_loss(model, two) == pytest.approx((5 * a + 6 * b) / 11)
    assert model.training


def test_progress_says_where_training_stands(plane, points, new_run):
    told = []
    fit(plane(), points(), points(), QUICK, new_run(), on_progress=told.append)
    logged = [(at.step, at.epoch, at.total_steps) for at in told if at.loss is not None]
    assert logged == [(4, 0, 21), (8, 1, 21), (12, 1, 21), (16, 2, 21), (20, 2, 21), (21, 3, 21)]
    assert [at.step for at in told if at.loss is None] == [7, 14, 21]
    assert all(at.seconds_left >= 0 and at.tokens_per_second > 0 for at in told)
    assert told[-1].seconds_left == 0


def test_empty_parts_are_refused(plane, points, new_run):
    for empty in ("training", "validation"):
        parts = [points(count=0 if part == empty else 7) for part in ("training", "validation")]
        with pytest.raises(InputError, match=f"the {empty} part is empty"):
            fit(plane(), *parts, QUICK, new_run(empty))


def test_what_grows_without_bounds_is_refused(plane, points, new_run):
    bad = points()
    bad.batches[bad_index := 3].x[0, 0] = math.nan
    with pytest.raises(QkvError, match=r"the gradients are not finite at step \d \(loss nan\)\. Try: a smaller --fit"):
        fit(plane(), bad, points(), QUICK, new_run("gradients"))
    assert bad.seen[-1] == (0, bad_index)
    with pytest.raises(QkvError, match=r"the validation loss is not finite at step 7\. Try: a smaller"):
        fit(plane(), points(), bad, QUICK, new_run("validation"))


def test_a_model_that_leaves_the_finite_numbers_is_told_as_that(plane, points, new_run):
    model = plane()
    plain = model.loss

    def loss(batch):
        if max(float(part.detach().abs().max()) for part in model.parameters()) > 1e3:
            softmax_attention(torch.full((1, 1), math.inf), torch.ones(2, 1), torch.ones(2, 1))
        return plain(batch)

    model.loss = loss
    wild = QUICK.model_copy(update={"learning_rate": 1e4, "warmup_steps": 0})
    with pytest.raises(QkvError, match=r"left the finite numbers at step \d\. Try: a smaller --fit") as told:
        fit(model, points(), points(), wild, new_run("wild"))
    assert not isinstance(told.value, InputError)  # the folder, and what it says of the way there, stay


# -- gradients derived by hand, and plain descent --------------------------------------------------------------------


class Slope(nn.Module):
    """`L = mean (w . x - y)^2` over points, by autograd."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.5, -0.25, 0.125]))

    def loss(self, batch):
        return (batch.x @ self.w - batch.y[:, 0]).square().mean()


class HandDerivedSlope(Slope):
    """The same, with `dL/dw = 2 / n sum_i (w . x_i - y_i) x_i`."""

    def loss_and_gradients(self, batch):
        assert self.training
        x, y = batch.x.numpy(), batch.y.numpy()[:, 0]
        residual = x @ self.w.detach().numpy() - y
        return float((residual**2).mean()), {"w": 2 / len(x) * residual @ x}


@pytest.mark.parametrize("changes", [{"optimizer": "sgd"}, {}, {"clip_norm": None}, {"clip_norm": 0.01}], ids=str)
def test_gradients_derived_by_hand_train_as_those_of_autograd(points, new_run, changes):
    runs = [new_run("autograd"), new_run("by hand")]
    for model, run in zip((Slope(), HandDerivedSlope()), runs, strict=True):
        fit(model, points(), points(count=2), with_(**changes, log_every=1), run)
    autograd, by_hand = ([line["loss"] for line in run.read().history] for run in runs)
    assert autograd == pytest.approx(by_hand, rel=1e-5)
    assert not torch.equal(Slope().w, runs[0].load_weights()["w"])
    torch.testing.assert_close(runs[0].load_weights()["w"], runs[1].load_weights()["w"], rtol=1e-5, atol=1e-6)


class DescendingSlope(HandDerivedSlope):
    """The same, which also takes its steps."""

    steps = 0

    def descend(self, batch, moved, *, rate, momentum):
        self.steps += 1
        loss, gradients = self.loss_and_gradients(batch)
        moved["w"][...] = momentum * moved["w"] + gradients["w"]
        self.w.detach().numpy()[...] -= rate * moved["w"]
        return loss


PLAIN = {"optimizer": "sgd", "momentum": 0.5, "weight_decay": 0.0, "clip_norm": None}


@pytest.mark.parametrize(
    ("changes", "itself"),
    [({}, True), ({"clip_norm": 0.01}, False), ({"weight_decay": 0.1}, False), ({"optimizer": "adamw"}, False)],
    ids=str,
)
def test_a_model_takes_its_own_step_where_that_is_plain_descent(points, new_run, changes, itself):
    models, runs = [HandDerivedSlope(), DescendingSlope()], [new_run("by fit"), new_run("by itself")]
    for model, run in zip(models, runs, strict=True):
        fit(model, points(), points(count=2), with_(**PLAIN | changes), run)
    assert bool(models[1].steps) == itself
    torch.testing.assert_close(models[0].w, models[1].w, rtol=1e-5, atol=1e-6)
    assert not torch.equal(models[0].w, Slope().w)


def test_descent_with_momentum_by_hand(points, new_run):
    # dL/dw = -1 at every step, so v = 1, 1 + 1 / 2, 1 + 3 / 4; at a rate of 0.1 the weight is 0.1, 0.25, 0.425.
    model = Scripted([3.0, 2.0, 1.0])
    steps = {"schedule": "constant", "learning_rate": 0.1, "warmup_steps": 0, "steps": 3}
    fit(model, points(), points(count=1), with_(**PLAIN, **steps), new_run())
    assert float(model.weight.detach()) == pytest.approx(0.425)


# The weight is 0.1, 0.25 and 0.425 as above. Step 2 keeps 2 / 11 of the mean, or less, and step 3 keeps 3 / 12:
# 0.1 (2/11) + 0.25 (9/11) = 49/220, and 49/220 / 4 + 0.425 (3/4); with a tenth 0.01 + 0.225 and 0.0235 + 0.3825.
@pytest.mark.parametrize(("average", "expected"), [(0.99, 49 / 880 + 0.31875), (0.1, 0.406), (0.0, 0.425)])
def test_the_mean_of_weights_is_kept_by_hand(points, new_run, average, expected):
    model = Scripted([3.0, 2.0, 1.0])
    plain = {"optimizer": "sgd", "momentum": 0.5, "weight_decay": 0.0, "clip_norm": None, "schedule": "constant"}
    config = with_(**plain, learning_rate=0.1, warmup_steps=0, steps=3, average=average)
    fit(model, points(), points(count=1), config, new_run())
    assert float(model.weight.detach()) == pytest.approx(expected)


def test_averaging_changes_what_is_kept_and_not_how_it_is_learned(plane, points, new_run):
    def learn(average: float, folder: str) -> tuple[list[Tensor], RunFolder]:
        model, run, seen = plane(), new_run(folder), []
        watch = lambda at: seen.append(model.layers[0].weight.detach().clone()) if at.loss is not None else None  # noqa: E731
        fit(model, points(), points(), with_(log_every=1, average=average), run, on_progress=watch)
        return seen, run

    (plain, _), (averaged, run) = learn(0.0, "plain"), learn(0.9, "averaged")
    assert all(map(torch.equal, plain, averaged))
    mean = torch.zeros(())
    for step, weight in enumerate(plain, start=1):
        keep = min(0.9, step / (step + 9)) if step > 1 else 0.0
        mean = keep * mean + (1 - keep) * weight
    torch.testing.assert_close(run.load_weights()["layers.0.weight"], mean)


def test_gradients_are_clipped_unless_they_are_to_stay_as_they_are(points, new_run):
    # A gradient of -1 clipped to a norm of 0.01, at a rate of 0.1 without momentum: 0.001 a step.
    plain = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "learning_rate": 0.1}
    for clip_norm, reached in ((0.01, 0.002), (None, 0.2)):
        model = Scripted([3.0, 2.0, 1.0])
        config = with_(**plain, clip_norm=clip_norm, warmup_steps=0, steps=2)
        fit(model, points(), points(count=1), config, new_run(str(clip_norm)))
        assert float(model.weight.detach()) == pytest.approx(reached, rel=1e-4)


def test_a_loss_that_is_not_finite_is_noticed_where_nothing_is_clipped(points, new_run):
    bad = points()
    bad.batches[3].x[0, 0] = math.nan
    with pytest.raises(QkvError, match=r"the gradients are not finite at step \d \(loss nan\)\. Try: a smaller --fit"):
        fit(HandDerivedSlope(), bad, points(), with_(clip_norm=None), new_run())
    assert bad.seen[-1] == (0, 3)


# -- going on --------------------------------------------------------------------------------------------------------


def stop_at(step: int):
    """Sends this process one Ctrl-C when training has come to `step`."""
    sent = []

    def ask(at) -> None:
        if at.step >= step and not sent:
            sent.append(at)
            os.kill(os.getpid(), signal.SIGINT)

    return ask


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [2, 6, 7, 13, 20, 21])
def test_a_stopped_run_goes_on_bit_for_bit(plane, points, new_run, history_of, step, number):
    config, whole, parted = with_(log_every=1), new_run("whole"), new_run("parted")
    uninterrupted = points()
    fit(plane(), uninterrupted, points(), config, whole)

    def ask(at) -> None:
        if at.step == step and at.loss is not None:
            os.kill(os.getpid(), number)

    first, second = points(), points()
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(StoppedError, match=r"parted: stopped; all is kept\. Try: qkv resume .*parted"):
        fit(plane(), first, points(), config, parted, on_progress=ask)
    assert not (parted.path / "weights.safetensors").exists()
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    torch.manual_seed(12345)  # a new process would not have the generator where the old one left it
    fit(plane(), second, points(), config, parted)
    assert first.seen + second.seen == uninterrupted.seen
    assert history_of(parted.path) == history_of(whole.path)
    for name, value in whole.load_weights().items():
        assert torch.equal(parted.load_weights()[name], value)


@pytest.mark.parametrize("model", [HandDerivedSlope, DescendingSlope])
@pytest.mark.parametrize("step", [2, 13])
def test_a_stopped_descent_goes_on_with_its_momentum_and_its_mean(points, new_run, history_of, step, model):
    config = with_(**PLAIN, average=0.8, log_every=1)
    whole, parted = new_run("whole"), new_run("parted")
    fit(model(), points(), points(), config, whole)
    with pytest.raises(StoppedError):
        fit(model(), points(), points(), config, parted, on_progress=stop_at(step))
    fit(model(), points(), points(), config, parted)
    assert history_of(parted.path) == history_of(whole.path)
    assert torch.equal(parted.load_weights()["w"], whole.load_weights()["w"])


def test_measurements_after_the_last_saved_state_are_cut(plane, points, new_run, history_of):
    """A kill leaves a state, and lines of metrics.jsonl past it, the last one perhaps torn."""
    config, whole, killed = with_(log_every=1), new_run("whole"), new_run("killed")
    fit(plane(), points(), points(), config, whole)
    with pytest.raises(StoppedError):
        fit(plane(), points(), points(), config, killed, on_progress=stop_at(7))
    with (killed.path / "metrics.jsonl").open("a") as file:
        file.write('{"part": "train", "step": 8, "epoch": 1, "seconds": 1, "loss": 9}\n{"part": "tr')
    assert len(killed.read().history) == 9
    fit(plane(), points(), points(), config, killed)
    assert history_of(killed.path) == history_of(whole.path)


def test_a_second_interrupt_breaks_in(plane, points, new_run):
    def impatient(_) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(plane(), points(), points(), QUICK, new_run(), on_progress=impatient)


def test_training_works_outside_the_main_thread(plane, points, new_run):
    run = new_run()
    thread = threading.Thread(target=fit, args=(plane(), points(), points(), QUICK, run))
    thread.start()
    thread.join()
    assert set(run.load_weights()) == set(plane().state_dict())


def test_another_number_of_threads_is_refused_unless_asked_for(plane, points, new_run):
    run = new_run()
    with pytest.raises(StoppedError):
        fit(plane(), points(), points(), QUICK, run, on_progress=stop_at(8))
    torch.set_num_threads(2)
    with pytest.raises(RunError, match=r"another number of threads.*Expected 1 threads; got 2\. Try: --threads 1, or"):
        fit(plane(), points(), points(), QUICK, run)
    assert fit(plane(), points(), points(), QUICK, run, other_threads=True).step == 21


def test_a_state_of_another_model_is_refused(plane, points, new_run):
    run = new_run()
    with pytest.raises(StoppedError):
        fit(plane(), points(), points(), QUICK, run, on_progress=stop_at(8))
    with pytest.raises(RunError, match="saved state is damaged, or of another model"):
        fit(Echo(), points(), points(), QUICK, run)


@pytest.mark.usefixtures("no_shape_hook")
def test_compiled_runs_are_deterministic_and_go_on_bit_for_bit(plane, points, new_run, history_of):
    config, whole, parted = with_(compile=True, log_every=1), new_run("whole"), new_run("parted")
    deterministic = []
    fit(
        plane(),
        points(),
        points(),
        config,
        whole,
        on_progress=lambda _: deterministic.append(torch.are_deterministic_algorithms_enabled()),
    )
    assert all(deterministic)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    with pytest.raises(StoppedError):
        fit(plane(), points(), points(), config, parted, on_progress=stop_at(10))
    torch.compiler.reset()  # a new process compiles anew
    fit(plane(), points(), points(), config, parted)
    assert history_of(parted.path) == history_of(whole.path)
    for name, value in whole.load_weights().items():
        assert torch.equal(parted.load_weights()[name], value)


def test_what_else_is_measured_stands_beside_the_validation_loss(plane, points, new_run):
    run, model, states = new_run(), plane(), []

    def measure() -> dict[str, float]:
        states.append(model.training)
        return {"accuracy": len(states) / 4}

    fit(model, points(), points(), FitConfig(epochs=2, warmup_steps=1), run, measure=measure)
    lines = [line for line in run.read().history if line["part"] == "valid"]
    assert [line["accuracy"] for line in lines] == [0.25, 0.5]
    assert states == [False, False]
    assert all("loss" in line for line in lines)


# -- precision -------------------------------------------------------------------------------------------------------


def test_precision_is_as_asked(monkeypatch):
    x = torch.ones(2, 2)
    with autocast("float32", "cpu")():
        assert (x @ x).dtype == torch.float32
    with autocast("bfloat16", "cpu")():
        assert (x @ x).dtype == torch.bfloat16
    for fast, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(loop, "fast_bfloat16", lambda _, fast=fast: fast)
        with autocast("auto", "cpu")():
            assert (x @ x).dtype == dtype
    assert autocast("float32", "cpu") is nullcontext
