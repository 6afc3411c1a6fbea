"""What tests of several rooms share."""

import contextlib
import io
import itertools
import json
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from hypothesis import settings
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

SameAsTorch = Callable[[nn.Module, nn.Module, Sequence[Tensor], Callable[..., Tensor], Callable[..., Tensor]], None]

# No timed assertions: a busy machine is not a failed law.
settings.register_profile("qkv", deadline=None)
settings.load_profile("qkv")

if "PYTEST_XDIST_WORKER" in os.environ:  # the cores are shared out among processes already
    threadpool_limits(1)
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real data sets; tests that read them are skipped where it is absent."""
    folder = Path(os.environ.get("QKV_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "eng-fra").is_dir():
        pytest.skip("the real data sets are not on this machine (QKV_DATA names their folder)")
    return folder


@pytest.fixture(scope="session")
def shared_model() -> Path:
    """The folder of a published encoder; tests that read it are skipped where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "models" / "all-MiniLM-L6-v2"
    if not folder.is_dir():
        pytest.skip("the published model is not on this machine")
    return folder


@pytest.fixture(scope="session")
def bert_tokenizer() -> Callable[[], Any]:
    """Makes the tokens of the smallest published encoder: 13 of them."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "river", "bank", "##s", "other", "to", "i", "swam", "."]

    def make() -> Tokenizer:
        made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
        made.normalizer = normalizers.Lowercase()
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        made.enable_truncation(4)  # as folders carry it
        made.enable_padding(length=11)
        return made

    return make


@pytest.fixture(scope="session")
def write_bert(bert_tokenizer) -> Callable[..., nn.Module]:
    """Writes the folder of a random encoder with the library `transformers`, and returns it.

    Every parameter is drawn, so that none can stand for another.
    """
    import transformers

    kinds = {
        "bert": (transformers.BertConfig, transformers.BertModel),
        "roberta": (transformers.RobertaConfig, transformers.RobertaModel),
        "xlm-roberta": (transformers.XLMRobertaConfig, transformers.XLMRobertaModel),
    }

    def write(folder: Path, kind: str = "bert", **sizes: object) -> nn.Module:
        config, model = kinds[kind]
        torch.manual_seed(0)
        theirs = model(config(**{"pad_token_id": 0} | sizes)).eval()
        for parameter in theirs.parameters():
            nn.init.normal_(parameter, std=0.3)
        theirs.save_pretrained(folder)
        bert_tokenizer().save(str(folder / "tokenizer.json"))
        return theirs

    return write


@pytest.fixture
def no_shape_hook() -> Iterator[None]:
    """Runs a test as users run the library, shapes unchecked: for `torch.compile`, and refusals that shapes precede."""
    torch.compiler.reset()
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
    torch.compiler.reset()


@pytest.fixture
def same_as_torch() -> SameAsTorch:
    """What holds a layer to torch's own: from the same state, outputs, and gradients by all inputs and all parameters.

    Equal to 1e-10, so in float64.
    """

    def compare(
        ours: nn.Module,
        theirs: nn.Module,
        inputs: Sequence[Tensor],
        run_ours: Callable[..., Tensor],
        run_theirs: Callable[..., Tensor],
    ):
        for parameter in theirs.parameters():  # zero biases and unit norms would hide one taken for another
            nn.init.normal_(parameter, std=0.3)
        ours.load_state_dict(theirs.state_dict(), strict=True)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        inputs = [x.requires_grad_() for x in inputs]
        output, expected = run_ours(*inputs), run_theirs(*inputs)
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-10)
        cotangent = torch.randn_like(output)
        names = [f"input {i}" for i in range(len(inputs))] + [name for name, _ in theirs.named_parameters()]
        gradients = torch.autograd.grad(output, [*inputs, *ours.parameters()], cotangent)
        references = torch.autograd.grad(expected, [*inputs, *theirs.parameters()], cotangent)
        for name, gradient, reference in zip(names, gradients, references, strict=True):
            assert bool(reference.any()), f"{name} has no gradient to compare"
            torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")

    return compare


# -- the command line, and the smallest translators -----------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What a command left: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(scope="session")
def qkv_cli() -> Callable[..., Answer]:
    """Calls the command line in this process; an exception that it lets through fails the test."""
    from qkv.cli import main

    def call(*arguments: object) -> Answer:
        with (
            contextlib.redirect_stdout(io.StringIO()) as out,
            contextlib.redirect_stderr(io.StringIO()) as err,
            pytest.raises(SystemExit) as left,
        ):
            main([str(argument) for argument in arguments])
        return Answer(left.value.code, out.getvalue(), err.getvalue())

    return call


FRENCH = ["zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf"]
ENGLISH = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="session")
def digit_pairs(tmp_path_factory) -> Path:
    """Up to three digits, French and English; what begins with a nine has two translations."""
    digits = [number for count in (1, 2, 3) for number in itertools.product(range(10), repeat=count)]
    lines = []
    for number in sorted(random.Random(0).sample(digits, 500)):
        source, target = (" ".join(words[digit] for digit in number) for words in (FRENCH, ENGLISH))
        lines.append(f"{source}\t{target}\n")
        if number[0] == 9:
            lines.append(f"{source}\t{target.replace('nine', 'niner', 1)}\n")
    path = tmp_path_factory.mktemp("data") / "digits.tsv"
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def small() -> list[object]:
    """Options of a run that takes seconds, on one thread."""
    options = {
        "preset": "tiny", "tokens": "word", "tokens-per-batch": 256, "valid-share": 0.05, "threads": 1,
        "fit.epochs": 12, "fit.learning-rate": 0.01, "fit.warmup-steps": 10, "fit.log-every": 5,
        "transformer.dropout": 0.05, "recurrent.dropout": 0.05,
    }  # fmt: skip
    return [word for name, value in options.items() for word in (f"--{name}", value)]


@pytest.fixture(scope="session")
def swept(qkv_cli, digit_pairs, small, tmp_path_factory) -> Path:
    """All three models with two seeds each, trained by one command."""
    out = tmp_path_factory.mktemp("runs") / "swept"
    models = ("--models", "rnn,rnn-attention,transformer", "--seeds", 2)
    answer = qkv_cli("run", "translate", *models, "--data", digit_pairs, *small, "--out", out)
    assert answer.code == 0, answer.err
    return out
