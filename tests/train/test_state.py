import errno
import os

import pytest
import torch
from torch import nn

from qkv import files
from qkv.errors import DataError, RunError, StorageError
from qkv.train.state import TrainingState


def trained(steps: int = 3, width: int = 5) -> TrainingState:
    torch.manual_seed(1)
    model = nn.Linear(width, 2)
    state = TrainingState(model, torch.optim.AdamW(model.parameters(), lr=0.1))
    for _ in range(steps):
        model(torch.randn(3, width)).square().sum().backward()
        state.optimizer.step()
        state.keep_best()
        state.position.step += 1
        state.position.best_loss = 1 / 3
    return state


def test_what_is_saved_comes_back(tmp_path):
    state = trained()
    state.save(tmp_path / "state")
    numbers = torch.rand(5)
    again = trained(steps=0)
    again.load(tmp_path / "state")
    assert torch.equal(torch.rand(5), numbers)
    assert again.position == state.position
    assert again.best.keys() == {"weight", "bias"}
    for name, value in state.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value)
        assert torch.equal(again.best[name], state.best[name])
    old, new = (one.optimizer.state_dict()["state"] for one in (state, again))
    assert old.keys() == new.keys()
    for index, moments in old.items():
        assert moments.keys() == new[index].keys() == {"step", "exp_avg", "exp_avg_sq"}
        for name, value in moments.items():
            assert torch.equal(new[index][name], value)


def test_momentum_comes_back(tmp_path):
    state = trained()
    state.optimizer = torch.optim.SGD(state.model.parameters(), lr=0.1, momentum=0.9)
    for parameter in state.model.parameters():
        parameter.grad = torch.randn_like(parameter)
    state.optimizer.step()
    state.save(tmp_path / "state")
    again = trained(steps=0)
    again.optimizer = torch.optim.SGD(again.model.parameters(), lr=0.1, momentum=0.9)
    again.load(tmp_path / "state")
    old, new = (one.optimizer.state_dict()["state"] for one in (state, again))
    for index, parameter in enumerate(state.model.parameters()):
        assert torch.equal(old[index]["momentum_buffer"], parameter.grad)
        assert torch.equal(new[index]["momentum_buffer"], parameter.grad)


def test_moments_come_back_as_their_parameters_lie_in_memory(tmp_path):
    def conv() -> TrainingState:
        torch.manual_seed(1)
        model = nn.Conv2d(3, 5, 2).to(memory_format=torch.channels_last)
        return TrainingState(model, torch.optim.AdamW(model.parameters(), lr=0.1, fused=True))

    def step(state: TrainingState, number: int):
        drawn = torch.Generator().manual_seed(number)
        state.optimizer.zero_grad()
        state.model(torch.randn(2, 3, 7, 7, generator=drawn)).square().sum().backward()
        state.optimizer.step()

    state, again = conv(), conv()
    step(state, 0)
    state.save(tmp_path / "state")
    again.load(tmp_path / "state")
    for one in (state, again):
        step(one, 1)
    assert not again.model.weight.is_contiguous()
    assert torch.equal(state.model.weight, again.model.weight)


def test_a_position_before_any_validation_comes_back(tmp_path):
    state = trained(steps=0)  # its best loss is infinite, which JSON has not
    state.save(tmp_path / "state")
    again = trained(steps=0)
    again.load(tmp_path / "state")
    assert again.position == state.position


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_full_disk_leaves_the_state_before(tmp_path, monkeypatch, call):
    """Whichever of the files of the new state the disk has no room for."""
    state = trained()
    state.save(tmp_path / "state")
    before = {path.name: path.read_bytes() for path in (tmp_path / "state").iterdir()}
    state.position.step = 99
    calls, sync = [], os.fsync

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"/state: the disk is full\. Try: free some space"):
        state.save(tmp_path / "state")
    assert {path.name: path.read_bytes() for path in (tmp_path / "state").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_state_that_a_kill_cut_between_its_two_renames_is_found(tmp_path):
    state = trained()
    state.save(tmp_path / "state")
    (tmp_path / "state").rename(tmp_path / "state.new")
    files.finish_swap(tmp_path / "state")
    again = trained(steps=0)
    again.load(tmp_path / "state")
    assert again.position == state.position


def test_damaged_states_are_refused(tmp_path):
    path = tmp_path / "state"
    trained().save(path)
    document = (path / "state.json").read_text()
    with pytest.raises(RunError, match=r"state: the saved state is damaged, or of another model\. Try: a new run"):
        trained(width=7).load(path)
    for text, error in (
        ("{", DataError),
        ("[]", RunError),
        ("{}", RunError),
        (document.replace("best_step", "best_steps"), RunError),
    ):
        (path / "state.json").write_text(text)
        with pytest.raises(error, match="state"):
            trained().load(path)
    (path / "state.json").write_text(document)
    whole = (path / "state.safetensors").read_bytes()
    (path / "state.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not a safetensors file, or a damaged one"):
        trained().load(path)
    (path / "state.safetensors").unlink()
    with pytest.raises(DataError, match="no such file"):
        trained().load(path)
