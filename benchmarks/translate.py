"""Translation at width 256, 3 + 3 layers, 8,000 subwords a side: training and decoding beside their peers, in one run.

    python benchmarks/translate.py [--threads 2] [--rounds 5] [--json]

Training: real tokens a second, both sides counted and padding not, beside a plain loop over `torch.nn.Transformer` with
batches as they come, of as many positions. Decoding: greedy, 200 sentences of 30 tokens to 30 tokens, beside
`torch.nn.Transformer` without a cache and CTranslate2 in float32 on the same weights; the tokens must be the same.
Data: the set `eng-fra`, found through QKV_DATA.
"""

import itertools
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import torch
import torch.nn.functional as F
from ctranslate2.specs import TransformerSpec
from timing import options, ratio, say, seconds, take_turns
from torch import Tensor, nn

from qkv.data import SETS, Pair, PairBatches, batch_of, find, read_pairs, split_pairs, train_vocabulary
from qkv.draw import Table
from qkv.errors import QkvError
from qkv.models import SearchOptions, TransformerConfig, TranslationTransformer
from qkv.train import autocast
from qkv.types import PairBatch

SLOTS, VOCABULARY, SENTENCES, LENGTH = 4096, 8000, 200, 30
CONFIG = TransformerConfig(embed_dim=256, num_heads=4, feedforward_dim=1024, encoder_layers=3, decoder_layers=3)


class Plain(nn.Module):
    """A translator as one writes it around `torch.nn.Transformer`; holds the weights of ours, module for module."""

    def __init__(self, ours: TranslationTransformer):
        super().__init__()
        width = CONFIG.embed_dim
        self.scale = width**0.5
        self.source, self.target = (nn.Embedding(VOCABULARY, width, padding_idx=0) for _ in range(2))
        self.transformer = nn.Transformer(
            width,
            CONFIG.num_heads,
            CONFIG.encoder_layers,
            CONFIG.decoder_layers,
            CONFIG.feedforward_dim,
            CONFIG.dropout,
            batch_first=True,
            norm_first=True,
        )
        self.register_buffer("positions", ours.positions(torch.zeros(1, CONFIG.max_length, width))[0])
        self.source.load_state_dict({"weight": ours.source_embedding.weight})
        self.target.load_state_dict({"weight": ours.target_embedding.weight})
        self.transformer.encoder.load_state_dict(ours.encoder.state_dict())
        self.transformer.decoder.load_state_dict(ours.decoder.state_dict())
        self.drop = nn.Dropout(CONFIG.dropout)

    def embed(self, table: nn.Embedding, ids: Tensor) -> Tensor:
        return self.drop(table(ids) * self.scale + self.positions[: ids.shape[1]])

    def decode(self, target: Tensor, memory: Tensor, padding: Tensor) -> Tensor:
        length = target.shape[1]
        causal = nn.Transformer.generate_square_subsequent_mask(length)
        hidden = self.transformer.decoder(
            self.embed(self.target, target),
            memory,
            tgt_mask=causal,
            memory_key_padding_mask=padding,
            tgt_is_causal=True,
        )
        return F.linear(hidden, self.target.weight)

    def loss(self, batch: PairBatch) -> Tensor:
        padding = ~batch.source_mask
        memory = self.transformer.encoder(self.embed(self.source, batch.source), src_key_padding_mask=padding)
        logits = self.decode(batch.target[:, :-1], memory, padding)
        gold = batch.target[:, 1:].reshape(-1)
        return F.cross_entropy(logits.flatten(0, 1), gold, ignore_index=0, label_smoothing=CONFIG.label_smoothing)

    @torch.inference_mode()
    def translate(self, source: Tensor, eos_id: int, bos_id: int) -> list[list[int]]:
        """Greedy, the whole prefix through the decoder at every step."""
        padding = torch.zeros_like(source, dtype=torch.bool)
        memory = self.transformer.encoder(self.embed(self.source, source), src_key_padding_mask=padding)
        tokens = torch.full((len(source), 1), bos_id)
        for _ in range(LENGTH):
            logits = self.decode(tokens, memory, padding)[:, -1]
            logits[:, eos_id] = -torch.inf
            tokens = torch.cat([tokens, logits.argmax(dim=-1, keepdim=True)], dim=1)
        return tokens[:, 1:].tolist()


# -- training --------------------------------------------------------------------------------------------------------


def unsorted_batches(pairs: Sequence[Pair], vocabularies: Sequence[Any]) -> Iterator[PairBatch]:
    """Pairs in random order, cut where the padded batch has `SLOTS` positions: what a loop without buckets sees."""
    source, target = vocabularies
    rows: list[tuple[list[int], list[int]]] = []
    for index in np.random.default_rng(0).permutation(len(pairs)).tolist():
        row = (source.encode(pairs[index].source), target.encode(pairs[index].target))
        widest = [max(len(pair[side]) for pair in [*rows, row]) + 2 for side in (0, 1)]
        if (len(rows) + 1) * sum(widest) > SLOTS:
            yield batch_of(*map(list, zip(*rows, strict=True)))
            rows = []
        rows.append(row)


def trainer(model: nn.Module, batches: Iterator[PairBatch], precision: Any, *, fused: bool) -> Callable[[], float]:
    """A contender: trains on the next few batches and returns the real tokens a second."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=fused)
    context = autocast(precision, "cpu")

    def run() -> float:
        some = list(itertools.islice(batches, 4))

        def steps() -> None:
            for batch in some:
                with context():
                    loss = model.loss(batch)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()

        model.train()
        return sum(batch.tokens for batch in some) / seconds(steps)

    return run


def training(rounds: int, *, as_json: bool) -> None:
    pairs = split_pairs(
        read_pairs(find("eng-fra"), columns=SETS["eng-fra"].options["columns"]).pairs, valid=0.0, test=0.1, seed=0
    ).train
    sides = ([pair.source for pair in pairs], [pair.target for pair in pairs])
    vocabularies = [train_vocabulary(side, "subword", VOCABULARY) for side in sides]

    def bucketed() -> Iterator[PairBatch]:
        return PairBatches(pairs, *vocabularies, tokens_per_batch=SLOTS, seed=0, max_length=100).epoch(0)

    def ours() -> TranslationTransformer:
        torch.manual_seed(0)
        return TranslationTransformer(CONFIG, VOCABULARY, VOCABULARY)

    baseline = "torch.nn.Transformer, batches as they come"
    contenders = {
        baseline: trainer(Plain(ours()), unsorted_batches(pairs, vocabularies), "float32", fused=False),
        "torch.nn.Transformer, our buckets": trainer(Plain(ours()), bucketed(), "float32", fused=False),
        "qkv, float32": trainer(ours(), bucketed(), "float32", fused=True),
        "qkv": trainer(ours(), bucketed(), "auto", fused=True),
    }
    speeds = take_turns(contenders, rounds)
    ratios = {name: ratio(values, speeds[baseline]) for name, values in speeds.items()}
    rows = [[name, f"{statistics.median(values):,.0f}", ratios[name]] for name, values in speeds.items()]
    table = Table(["training", "real tokens/s", "ratio"], rows)
    say("Training", table, {"tokens_per_second": speeds, "ratio": ratios}, as_json=as_json)


# -- decoding --------------------------------------------------------------------------------------------------------


def ctranslate2_of(model: TranslationTransformer, folder: Path) -> ctranslate2.Translator:
    """The same weights in CTranslate2."""
    spec = TransformerSpec.from_config((CONFIG.encoder_layers, CONFIG.decoder_layers), CONFIG.num_heads, pre_norm=True)

    def linear(to: Any, weight: Tensor, bias: Tensor | None) -> None:
        to.weight = weight.detach().numpy()
        if bias is not None:
            to.bias = bias.detach().numpy()

    def norm(to: Any, module: nn.LayerNorm) -> None:
        to.gamma, to.beta = module.weight.detach().numpy(), module.bias.detach().numpy()

    def feed_forward(to: Any, layer: Any, layer_norm: nn.LayerNorm) -> None:
        norm(to.ffn.layer_norm, layer_norm)
        linear(to.ffn.linear_0, layer.linear1.weight, layer.linear1.bias)
        linear(to.ffn.linear_1, layer.linear2.weight, layer.linear2.bias)

    def self_attention(to: Any, layer: Any) -> None:
        norm(to.self_attention.layer_norm, layer.norm1)
        linear(to.self_attention.linear[0], layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias)
        linear(to.self_attention.linear[1], layer.self_attn.out_proj.weight, layer.self_attn.out_proj.bias)

    positions = model.positions(torch.zeros(1, CONFIG.max_length, CONFIG.embed_dim))[0].numpy()
    spec.encoder.embeddings[0].weight = model.source_embedding.weight.detach().numpy()
    spec.decoder.embeddings.weight = model.target_embedding.weight.detach().numpy()
    spec.decoder.projection.weight = model.target_embedding.weight.detach().numpy()
    for side, stack in ((spec.encoder, model.encoder), (spec.decoder, model.decoder)):
        side.position_encodings.encodings = positions
        norm(side.layer_norm, stack.norm)
    for to, layer in zip(spec.encoder.layer, model.encoder.layers, strict=True):
        self_attention(to, layer)
        feed_forward(to, layer, layer.norm2)
    for to, layer in zip(spec.decoder.layer, model.decoder.layers, strict=True):
        self_attention(to, layer)
        cross, width = layer.multihead_attn, CONFIG.embed_dim
        norm(to.attention.layer_norm, layer.norm2)
        linear(to.attention.linear[0], cross.in_proj_weight[:width], cross.in_proj_bias[:width])
        linear(to.attention.linear[1], cross.in_proj_weight[width:], cross.in_proj_bias[width:])
        linear(to.attention.linear[2], cross.out_proj.weight, cross.out_proj.bias)
        feed_forward(to, layer, layer.norm3)
    names = ["<pad>", "<s>", "</s>", "<unk>", *map(str, range(4, VOCABULARY))]
    spec.register_source_vocabulary(names)
    spec.register_target_vocabulary(names)
    spec.validate()
    spec.save(str(folder))
    threads = torch.get_num_threads()
    return ctranslate2.Translator(
        str(folder), device="cpu", compute_type="float32", inter_threads=1, intra_threads=threads
    )


def decoding(rounds: int, *, as_json: bool) -> None:
    torch.manual_seed(0)
    ours = TranslationTransformer(CONFIG, VOCABULARY, VOCABULARY).eval()
    plain = Plain(ours).eval()
    source = torch.randint(4, VOCABULARY, (SENTENCES, LENGTH))
    source[:, -1] = 2
    mask = torch.ones_like(source, dtype=torch.bool)
    search = SearchOptions(bos_id=1, eos_id=2, max_length=LENGTH, forbidden=(2,), scored=False)
    names = ["<pad>", "<s>", "</s>", "<unk>", *map(str, range(4, VOCABULARY))]
    numbers = {name: number for number, name in enumerate(names)}
    said: dict[str, list[list[int]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        translator = ctranslate2_of(ours, Path(folder))
        sentences = [[names[number] for number in row] for row in source.tolist()]

        def by_ctranslate2() -> list[list[int]]:
            results = translator.translate_batch(
                sentences,
                beam_size=1,
                max_batch_size=SENTENCES,
                min_decoding_length=LENGTH,
                max_decoding_length=LENGTH,
            )
            return [[numbers[token] for token in result.hypotheses[0]] for result in results]

        def by_plain(rows: int) -> list[list[int]]:
            return [ids for some in source.split(rows) for ids in plain.translate(some, eos_id=2, bos_id=1)]

        def by_ours() -> list[list[int]]:
            return [found.ids for found in ours.translate(source, mask, search)]

        def timed(name: str, run: Callable[[], list[list[int]]]) -> Callable[[], float]:
            def contender() -> float:
                def keep() -> None:
                    said[name] = run()

                return seconds(keep)

            return contender

        runs: dict[str, Callable[[], list[list[int]]]] = {
            "torch.nn.Transformer, no cache, 50 at once": lambda: by_plain(50),
            "torch.nn.Transformer, no cache, 200 at once": lambda: by_plain(200),
            "CTranslate2, float32": by_ctranslate2,
            "qkv, float32": by_ours,
        }
        times = take_turns({name: timed(name, run) for name, run in runs.items()}, rounds)
    mine = "qkv, float32"
    ratios = {name: ratio(values, times[mine]) for name, values in times.items()}
    same = {name: float(np.mean([a == b for a, b in zip(ids, said[mine], strict=True)])) for name, ids in said.items()}
    rows = [
        [name, f"{statistics.median(values):.3f}", ratios[name], f"{same[name]:.1%}"] for name, values in times.items()
    ]
    table = Table(["greedy decoding", "seconds", "times as long as qkv", "same sentences"], rows)
    say("Decoding", table, {"seconds": times, "ratio": ratios, "same": same}, as_json=as_json)


def main() -> None:
    arguments = options(__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        training(arguments.rounds, as_json=arguments.json)
    except QkvError as error:
        sys.exit(str(error))
    decoding(arguments.rounds, as_json=arguments.json)


if __name__ == "__main__":
    main()
