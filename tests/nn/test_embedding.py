import pytest
import torch
from torch import nn

from qkv.errors import InputError
from qkv.nn import TokenEmbedding

IDS = torch.tensor([[3, 0, 6], [1, 1, 0]])


def test_embedding_is_torch():
    ours, theirs = TokenEmbedding(7, 5, padding_idx=0), nn.Embedding(7, 5, padding_idx=0)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    output, expected = ours(IDS), theirs(IDS)
    assert torch.equal(output, expected)
    cotangent = torch.randn_like(output)
    output.backward(cotangent)
    expected.backward(cotangent)
    assert ours.weight.grad is not None
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    assert not ours.weight.grad[0].any()


def test_padding_starts_at_zero():
    assert not TokenEmbedding(7, 5, 2)(torch.tensor([2])).any()
    assert TokenEmbedding(7, 5)(torch.tensor([2])).any()


def test_pretrained_vectors_of_the_same_width():
    vectors = torch.randn(7, 5)
    embedding = TokenEmbedding(7, 5, pretrained=vectors)
    assert torch.equal(embedding(IDS), vectors[IDS])
    assert list(embedding.state_dict()) == ["weight"]
    assert embedding.weight.requires_grad
    with torch.no_grad():
        embedding.weight += 1
    assert not torch.equal(embedding(IDS), vectors[IDS]), "the caller's tensor is not ours to change"


def test_pretrained_vectors_of_another_width():
    vectors = torch.randn(7, 3)
    embedding = TokenEmbedding(7, 5, pretrained=vectors, freeze=True)
    assert embedding.project is not None
    torch.testing.assert_close(embedding(IDS), vectors[IDS] @ embedding.project.weight.T)
    assert [name for name, parameter in embedding.named_parameters() if parameter.requires_grad] == ["project.weight"]
    loaded = TokenEmbedding(7, 5, pretrained_dim=3)  # a saved run knows the shapes alone
    loaded.load_state_dict(embedding.state_dict(), strict=True)
    assert torch.equal(loaded(IDS), embedding(IDS))


def test_pretrained_vectors_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"do not fit\. Expected 7 rows of width 3; got 11 rows of width 3"):
        TokenEmbedding(7, 5, pretrained=torch.randn(11, 3))
    with pytest.raises(InputError, match="Expected 7 rows of width 5; got 7 rows of width 3"):
        TokenEmbedding(7, 5, pretrained=torch.randn(7, 3), pretrained_dim=5)
