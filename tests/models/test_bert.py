"""Our encoder against the library that published folders are written with, on the same folder."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from qkv.errors import DataError, InputError
from qkv.files import read_tensors, write_tensors
from qkv.models import BertConfig, BertEncoder, BertTokens
from qkv.trace import record

SIZES = {
    "vocab_size": 13,
    "hidden_size": 14,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 17,
    "max_position_embeddings": 19,
}
KINDS = ["bert", "roberta", "xlm-roberta"]


@pytest.fixture
def folder(write_bert, tmp_path: Path) -> Path:
    write_bert(tmp_path, **SIZES)
    return tmp_path


@pytest.fixture(scope="session")
def tokens(bert_tokenizer) -> BertTokens:
    return BertTokens(bert_tokenizer(), BertConfig(**SIZES))


def hidden_states(encoder: BertEncoder, *inputs: Tensor | None) -> list[Tensor]:
    """What every layer hands on, the embedding first."""
    states: list[Tensor] = []
    hooks = [layer.register_forward_hook(lambda *call: states.append(call[2])) for layer in encoder.encoder.layers]
    hooks.append(encoder.norm.register_forward_hook(lambda *call: states.append(call[2])))
    encoder(*inputs)
    for hook in hooks:
        hook.remove()
    return states


# -- parity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_those_of_the_library(write_bert, tmp_path, kind, activation):
    # At padding RoBERTa has a position of its own, which nothing reads: there the two may differ.
    theirs = write_bert(tmp_path, kind, **SIZES, hidden_act=activation, pad_token_id=1).double()
    ours = BertEncoder.from_folder(tmp_path).double()
    real = torch.arange(11) < torch.tensor([[11], [5]])
    ids = torch.randint(2, 13, (2, 11)).where(real, 1)
    compared = real | (kind == "bert")
    types = torch.randint(0, 2, (2, 11))
    states = hidden_states(ours, ids, real, types)
    asked = {"attention_mask": real.long(), "token_type_ids": types, "output_hidden_states": True}
    expected = theirs(ids, **asked).hidden_states
    assert len(states) == len(expected) == 4
    for state, other in zip(states, expected, strict=True):
        torch.testing.assert_close(state[compared], other[compared], rtol=0, atol=1e-10)
    cotangent = torch.randn_like(states[-1]) * compared[..., None]
    query = "encoder.layer.1.attention.self.query.weight"
    mine = torch.autograd.grad(
        states[-1], [ours.encoder.layers[1].self_attn.in_proj_weight, ours.positions.weight], cotangent
    )
    others = torch.autograd.grad(
        expected[-1], [theirs.get_parameter(query), theirs.get_parameter("embeddings.position_embeddings.weight")],
        cotangent,
    )  # fmt: skip
    torch.testing.assert_close(mine[0][:14], others[0], rtol=0, atol=1e-10)
    torch.testing.assert_close(mine[1], others[1][ours.config.first_position :], rtol=0, atol=1e-10)


def test_a_published_model(shared_model):
    encoder, tokens = BertEncoder.from_folder(shared_model), BertTokens.from_folder(shared_model)
    sentence = "i swam quickly across the river to get to the other bank"
    batch = tokens([sentence, ("The bank raised its rates.", "unbelievably"), " ".join(["river"] * 139)])
    assert batch.tokens[0] == ["[CLS]", *sentence.split(), "[SEP]"]
    assert batch.tokens[1][8:] == ["un", "##bel", "##ie", "##va", "##bly", "[SEP]"]
    theirs = transformers.BertModel.from_pretrained(shared_model).eval()
    with torch.no_grad():
        states = hidden_states(encoder, batch.ids, batch.real, batch.types)
        asked = {"attention_mask": batch.real.long(), "token_type_ids": batch.types, "output_hidden_states": True}
        expected = theirs(batch.ids, **asked).hidden_states
    for state, other in zip(states, expected, strict=True):
        torch.testing.assert_close(state, other, rtol=0, atol=1e-5)


def test_tokens_are_those_of_the_library(shared_model):
    theirs = transformers.AutoTokenizer.from_pretrained(shared_model)
    pairs = [("Où est la rivière?", "我在银行 swam"), ("", "a"), ("the bank\n\t", "BANKS!")]
    batch = BertTokens.from_folder(shared_model)(pairs)
    expected = theirs(*map(list, zip(*pairs, strict=True)), padding=True, return_tensors="pt")
    assert torch.equal(batch.ids, expected["input_ids"])
    assert torch.equal(batch.types, expected["token_type_ids"])
    assert torch.equal(batch.real, expected["attention_mask"].bool())


# -- laws ------------------------------------------------------------------------------------------------------------


def test_padding_changes_nothing(folder):
    encoder, tokens = BertEncoder.from_folder(folder), BertTokens.from_folder(folder)
    texts = ["the bank", "i swam to the other river .", ""]
    batch = tokens(texts)
    together = encoder(batch.ids, batch.real, batch.types)
    for text, real, row in zip(texts, batch.real, together, strict=True):
        alone = encoder(tokens([text]).ids)
        torch.testing.assert_close(row[real], alone[0], rtol=0, atol=1e-6)
    with record() as trace:
        encoder(batch.ids, batch.real, batch.types)
    assert trace.names == [f"encoder.layers.{i}.self_attn.weights" for i in range(3)]
    hidden = ~batch.real[:, None, None, :].expand(3, 2, 9, 9)
    assert all(not step.value[hidden].any() for step in trace)


@given(st.lists(st.lists(st.sampled_from(["the", "river", "bank"]), max_size=9), min_size=1, max_size=3))
def test_texts_come_back_whole_and_apart(tokens, texts):
    batch = tokens([" ".join(text) for text in texts])
    assert [list(row) for row in batch.tokens] == [["[CLS]", *text, "[SEP]"] for text in texts]
    assert batch.ids.shape[1] == max(len(text) for text in texts) + 2
    assert [row.sum().item() for row in batch.real & ~batch.special] == [len(text) for text in texts]


def test_a_pair_by_hand(tokens):
    batch = tokens([("The banks", "river"), "i"]).to("cpu")
    assert batch.ids.tolist() == [[2, 4, 6, 7, 3, 5, 3], [2, 10, 3, 0, 0, 0, 0]]
    assert batch.types.tolist() == [[0, 0, 0, 0, 0, 1, 1], [0] * 7]
    assert batch.special.int().tolist() == [[1, 0, 0, 0, 1, 0, 1], [1, 0, 1, 1, 1, 1, 1]]
    assert batch.tokens == [["[CLS]", "the", "bank", "##s", "[SEP]", "river", "[SEP]"], ["[CLS]", "i", "[SEP]"]]


def test_the_mask_is_found_where_there_is_one(bert_tokenizer):
    tokenizer = bert_tokenizer()
    with pytest.raises(InputError, match=r"no token for a hidden one. Expected \[MASK\] or <mask>"):
        BertTokens(tokenizer, BertConfig(**SIZES)).mask_id  # noqa: B018
    tokenizer.add_special_tokens(["<mask>"])
    found = BertTokens(tokenizer, BertConfig(**SIZES | {"vocab_size": 14}))
    assert (found.mask_id, found.mark_ids) == (13, (13,))


def test_one_kind_of_token_is_all_that_some_models_know(bert_tokenizer):
    assert not BertTokens(bert_tokenizer(), BertConfig(**SIZES, type_vocab_size=1))([("the", "river")]).types.any()


def test_a_new_encoder_learns_from_layers_that_differ():
    encoder = BertEncoder(BertConfig(**SIZES))
    first, second = (layer.linear1.weight for layer in encoder.encoder.layers[:2])
    assert not torch.equal(first, second)
    assert encoder.training
    encoder(torch.tensor([[2, 4, 3]])).sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


# -- folders as they come --------------------------------------------------------------------------------------------


def test_heads_old_spellings_and_half_precision(folder):
    expected = BertEncoder.from_folder(folder).state_dict()
    stored = read_tensors(folder / "model.safetensors")
    spelled = {
        "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): x
        for name, x in stored.items()
    }
    extra = {"cls.predictions.bias": torch.ones(13), "bert.embeddings.position_ids": torch.arange(19)[None]}
    write_tensors(folder / "model.safetensors", spelled | extra)
    for name, weight in BertEncoder.from_folder(folder).state_dict().items():
        assert torch.equal(weight, expected[name])
    write_tensors(folder / "model.safetensors", {name: x.half() for name, x in stored.items()})
    half = BertEncoder.from_folder(folder)
    assert not half.training
    for name, weight in half.state_dict().items():
        assert torch.equal(weight, expected[name].half().float())


def edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def without(folder: Path, name: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != name}))


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def drop(folder: Path, name: str) -> None:
    stored = read_tensors(folder / "model.safetensors")
    del stored[name]
    write_tensors(folder / "model.safetensors", stored)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


BROKEN = {
    "no such folder": (shutil.rmtree, r"config.json: no such file"),
    "no configuration": (lambda f: (f / "config.json").unlink(), r"config.json: no such file"),
    "not a configuration": (lambda f: (f / "config.json").write_text("[]"), r"not the configuration of a model"),
    "another model": (
        lambda f: edit(f, model_type="gpt2"),
        r"config.json: model_type is not one that this encoder has. Expected 'bert', 'roberta'.*; got 'gpt2'",
    ),
    "a decoder": (lambda f: edit(f, is_decoder=True), r"is_decoder is not one.* got True"),
    "relative positions": (
        lambda f: edit(f, position_embedding_type="relative_key"),
        r"position_embedding_type is not one.*Expected 'absolute'; got 'relative_key'",
    ),
    "an activation": (lambda f: edit(f, hidden_act="silu"), r"hidden_act is not one.*got 'silu'"),
    "no width": (lambda f: without(f, "hidden_size"), r"it has no hidden_size"),
    "heads": (lambda f: edit(f, num_attention_heads=3), r"num_attention_heads that divides hidden_size"),
    "no place": (
        lambda f: edit(f, model_type="roberta", pad_token_id=18),
        r"max_position_embeddings with room for a position",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"model.safetensors: no such file"),
    "a pickle": (pickled, r"the weights are pickled.*Expected model.safetensors; got pytorch_model.bin"),
    "truncated": (
        lambda f: cut(f / "model.safetensors", 5000),
        r"model.safetensors: not a safetensors file, or a damaged one",
    ),
    "a weight short": (
        lambda f: drop(f, "encoder.layer.1.output.dense.bias"),
        r"the weights are not those of config.json. Expected those of 3 layers.*no encoder.layer.1.output.dense.bias",
    ),
    "a layer over": (
        lambda f: edit(f, num_hidden_layers=2),
        r"got encoder.layer.2.attention.output.LayerNorm.bias, which is none of them",
    ),
    "other sizes": (
        lambda f: edit(f, max_position_embeddings=23),
        r"embeddings.position_embeddings.weight to make \(23, 14\); got \(19, 14\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN)
def test_folders_that_cannot_be_used(folder, broken):
    breaks, message = BROKEN[broken]
    breaks(folder)
    with pytest.raises(DataError, match=message) as raised:
        BertEncoder.from_folder(folder)
    assert str(raised.value).startswith(str(folder))


def test_tokens_that_cannot_be_used(folder):
    edit(folder, vocab_size=11)
    with pytest.raises(DataError, match=r"the tokens are not those of config.json. Expected ids below 11; got 12"):
        BertTokens.from_folder(folder)
    cut(folder / "tokenizer.json", 50)
    with pytest.raises(DataError, match=r"tokenizer.json: not a tokenizer, or a damaged one"):
        BertTokens.from_folder(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"tokenizer.json: no such file"):
        BertTokens.from_folder(folder)


def test_texts_that_cannot_be_read(tokens):
    assert tokens(["the " * 17]).ids.shape == (1, 19)
    with pytest.raises(InputError, match=r"too long for this model. Expected at most 19 tokens, .*; got 20"):
        tokens(["the " * 18])
    with pytest.raises(InputError, match="there is no text to read"):
        tokens([])
    with pytest.raises(InputError, match=r"the sentence is not text. Expected UTF-8; got 'a\\udcff'"):
        tokens(["a\udcff"])
    with pytest.raises(InputError, match=r"longer than there are positions. Expected at most 19; got 23"):
        BertEncoder(BertConfig(**SIZES))(torch.zeros(1, 23, dtype=torch.int64))
