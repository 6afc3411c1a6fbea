import contextvars
import threading

import pytest
import torch

from qkv.trace import record, recording, scope, step

ONE, TWO = torch.tensor([1.0]), torch.tensor([2.0])


def test_names_are_scopes_and_steps_in_the_order_in_which_they_happened():
    with record() as trace:
        step("embedded", ONE)
        with scope("encoder"):
            with scope("layers.0"):
                step("weights", ONE, obtained="captured")
            step("output", TWO)
        step("weights", TWO)
    assert trace.names == ["embedded", "encoder.layers.0.weights", "encoder.output", "weights"]
    assert trace["encoder.output"].item() == 2
    assert [found.name for found in trace.attention()] == ["encoder.layers.0.weights", "weights"]
    assert trace.attention()[0].facts == {"obtained": "captured"}


@pytest.mark.parametrize("active", [False, True])
def test_a_step_hands_its_value_on_untouched(active: bool):
    value = torch.ones(3, requires_grad=True)
    if active:
        with record() as trace:
            assert step("value", value) is value
        assert not trace["value"].requires_grad
        assert trace["value"].data_ptr() == value.data_ptr()  # a reference, not a copy
    else:
        assert step("value", value) is value


def test_nothing_is_kept_unless_something_records():
    assert not recording()
    with scope("before"):
        step("silent", ONE)
        with record() as trace:
            assert recording()
            step("loud", ONE)
    step("after", ONE)
    assert trace.names == ["loud"]


def test_a_nested_block_records_for_itself_alone():
    with record() as outer, scope("outer"):
        step("first", ONE)
        with record() as inner, scope("inner"):
            step("second", ONE)
        step("third", ONE)
    assert outer.names == ["outer.first", "outer.third"]
    assert inner.names == ["inner.second"]


def test_an_exception_closes_what_it_leaves():
    with record() as outer:
        with pytest.raises(RuntimeError, match="half way"), scope("broken"), record():
            raise RuntimeError("half way")
        step("after", ONE)
    assert outer.names == ["after"]
    assert not recording()


def test_threads_record_apart():
    both_record = threading.Barrier(2)
    traces = {}

    def work(name: str) -> None:
        with record() as trace, scope(name):
            both_record.wait(timeout=10)
            step("value", ONE)
            both_record.wait(timeout=10)
        traces[name] = trace

    with record() as here:
        threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {name: trace.names for name, trace in traces.items()} == {"a": ["a.value"], "b": ["b.value"]}
    assert here.names == []


def test_contexts_record_apart():
    with record() as trace:
        contextvars.Context().run(step, "elsewhere", ONE)
    assert trace.names == []


@pytest.mark.usefixtures("no_shape_hook")
def test_compiled_code_never_records():
    @torch.compile(backend="eager", fullgraph=True)
    def doubled(x):
        with scope("compiled"):
            return step("doubled", 2 * x) if recording() else step("other", 3 * x)

    with record() as trace:
        assert doubled(ONE).item() == 3
    assert trace.names == []
