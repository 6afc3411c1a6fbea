from pathlib import Path
from typing import Annotated

import pytest
import torch
from pydantic import PositiveInt

from qkv import recipes
from qkv.errors import InputError, StoppedError
from qkv.recipes import translate
from qkv.recipes.base import PARTED, Reporter, command, configure, head_table, sweep, validated, verb
from qkv.recipes.base import run as run_recipe
from qkv.train import RunFolder
from qkv.types import AttentionMap, Config, Run


class Recipe:
    """One that trains nothing: it says what it was given."""

    CONFIG, PRESETS, VARIATIONS = translate.CONFIG, translate.PRESETS, translate.VARIATIONS
    default_preset = staticmethod(translate.default_preset)

    def __init__(self, fails=None):
        self.trained, self.fails = [], fails

    def run(self, folder, reporter, *, other_threads=False):
        del reporter, other_threads
        self.trained.append((folder.path.name, folder.seed))
        if self.fails:
            raise self.fails
        folder.write_result({"metrics": {}})

    def evaluate(self, run, data, reporter):
        return {"metrics": {}, "given": (run, data, reporter)}


def test_what_is_chosen_stands_over_the_preset_and_that_over_the_defaults():
    config = configure(translate, {"fit": {"epochs": 7}, "transformer": {"num_heads": 1}}, "tiny")
    assert (config.fit.epochs, config.transformer.num_heads) == (7, 1)
    assert (config.transformer.embed_dim, config.fit.precision) == (32, "float32")
    assert (config.fit.patience, config.transformer.norm_first) == (5, True)


def test_the_preset_fits_the_data():
    assert configure(translate, {}).transformer.embed_dim == 128
    assert configure(translate, {"data": "pairs.tsv"}).transformer.embed_dim == 256


def test_every_preset_is_a_configuration():
    for name in translate.PRESETS:
        assert configure(translate, {}, name)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"model": "transfomer"}, r"unknown --model 'transfomer'\. Expected one of .* Try: transformer"),
        ({"modle": "rnn"}, r"unknown field --modle"),
        ({"fit": {"epoch": 3}}, r"unknown field --fit\.epoch\. Try: qkv run RECIPE --help"),
        ({"fit": {"epochs": 0}}, r"--fit\.epochs cannot be used\. Expected greater than 0; got 0"),
        ({"split_seed": -1}, r"--split-seed cannot be used\. Expected greater than or equal to 0; got -1"),
        ({"valid_share": 1.5}, r"--valid-share cannot be used"),
    ],
)
def test_settings_that_cannot_be(chosen, message):
    with pytest.raises(InputError, match=message):
        configure(translate, chosen)


def test_unknown_presets_and_recipes():
    with pytest.raises(InputError, match=r"unknown preset 'tinny'.* Try: tiny"):
        configure(translate, {}, "tinny")
    with pytest.raises(InputError, match=r"unknown recipe 'translte'.* Try: translate"):
        recipes.load("translte")


def test_an_input_that_cannot_be_used_leaves_no_folder(tmp_path):
    with pytest.raises(InputError):
        run_recipe(Recipe(InputError("no")), "translate", {}, seed=0, out=tmp_path / "a", reporter=Reporter())
    assert not (tmp_path / "a").exists()
    with pytest.raises(KeyboardInterrupt):  # this one can be resumed
        run_recipe(Recipe(KeyboardInterrupt()), "translate", {}, seed=0, out=tmp_path / "a", reporter=Reporter())
    assert (tmp_path / "a" / "config.json").exists()


def test_a_verb_is_the_recipes_own_or_refused():
    run = Run(Path("runs/a"), "silent", {}, 0, [], {"metrics": {}})
    assert verb(Recipe(), run, "evaluate")("run", None, "reporter")["given"] == ("run", None, "reporter")
    with pytest.raises(InputError, match=r"a: a run of silent leaves nothing to show\..* Try: its report, runs/a/"):
        verb(Recipe(), run, "show")


class Several(Config):
    numbers: Annotated[tuple[PositiveInt, ...], PARTED] = (2, 3)


class SeveralRecipe(Recipe):
    CONFIG, PRESETS, VARIATIONS = Several, {"default": {}}, {}

    def default_preset(self, config):
        del config
        return "default"


@pytest.mark.parametrize("given", [["5,7", "11"], "5, 7,11", [5, 7, 11], (5, 7, 11)])
def test_several_values_are_parted_by_commas(given):
    assert validated(Several, {"numbers": given}).numbers == (5, 7, 11)


@pytest.mark.parametrize(("given", "got"), [("5,x", "'x'"), (["5", "0"], "'0'"), ("", "''"), (3, "3")])
def test_a_wrong_value_among_several_is_named(given, got):
    with pytest.raises(InputError, match=rf"--numbers cannot be used\..*got {got}"):
        validated(Several, {"numbers": given})


def test_a_command_names_several_values_as_they_are_typed(tmp_path):
    folder = RunFolder.create(tmp_path / "a", recipe="several", config={"numbers": [5, 7]}, seed=3)
    assert command(SeveralRecipe(), "several", folder) == "qkv run several --numbers 5,7 --seed 3"


def swept(recipe, out, **changes):
    varied = {"models": ["rnn", "transformer"], "heads": ["1", "2"]}
    return sweep(
        recipe, "translate", {}, **{"varied": varied, "seeds": [3, 4], "out": out, "reporter": Reporter()} | changes
    )


def test_a_sweep_trains_every_combination_once(tmp_path):
    recipe = Recipe()
    runs = swept(recipe, tmp_path)
    names = [
        f"{model}-heads{heads}-seed{seed}" for model in ("rnn", "transformer") for heads in (1, 2) for seed in (3, 4)
    ]
    assert recipe.trained == [(name, int(name[-1])) for name in names]
    assert [run.path.name for run in runs] == names
    assert [run.config["transformer"]["num_heads"] for run in runs] == [1, 1, 2, 2] * 2
    again = Recipe()
    assert [run.path for run in swept(again, tmp_path)] == [run.path for run in runs]
    assert again.trained == []


def test_a_sweep_goes_on_where_it_was_stopped(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        swept(Recipe(KeyboardInterrupt()), tmp_path)
    recipe = Recipe()
    assert len(swept(recipe, tmp_path)) == 8
    assert recipe.trained[0] == ("rnn-heads1-seed3", 3)


def test_a_stopped_sweep_says_how_all_of_it_goes_on(tmp_path):
    stopped = Recipe(StoppedError("stopped; all is kept", hint="qkv resume", path=tmp_path / "rnn-heads1-seed3"))
    with pytest.raises(StoppedError, match=rf"rnn-heads1-seed3: stopped.* Try: the same command with --out {tmp_path}"):
        swept(stopped, tmp_path)


def test_sweeps_that_cannot_be_start_nothing(tmp_path):
    for changes, message in (
        ({"seeds": []}, "--seeds leaves nothing to run"),
        ({"varied": {"models": []}}, "--models leaves nothing to run"),
        ({"varied": {"models": ["rnn", "transfomer"]}}, "unknown --model 'transfomer'"),
        ({"varied": {"head": ["1"]}}, "unknown option to vary 'head'.* Try: heads"),
        ({"varied": {"heads": ["1", "x"]}}, r"--transformer\.num-heads cannot be used.*got 'x'"),
    ):
        recipe = Recipe()
        with pytest.raises(InputError, match=message):
            swept(recipe, tmp_path / "out", **changes)
        assert recipe.trained == []
    swept(Recipe(), tmp_path)
    with pytest.raises(InputError, match=r"a run with other settings stands here\. Try: another --out"):
        swept(Recipe(), tmp_path, preset="tiny")


def test_a_row_for_each_head():
    itself, facts = torch.eye(3)[None], ("captured", "softmax")
    own = AttentionMap(itself, "abc", "abc", "layers.0", "self", *facts)
    signed = AttentionMap(-itself, "abc", "abc", "layers.1", "self", *facts, signed=True)
    other = AttentionMap(torch.tensor([[[0.25, 0.75]]]).expand(2, 1, 2), "x", "..", "layers.2", "cross", *facts)
    alone = {"layer": 0, "head": 0, "entropy": 0, "distance": 0, "itself": 1, "previous": 0, "next": 0}
    assert head_table([own]) == [alone | {"first": pytest.approx(1 / 3), "overlap": 0}]  # no separators, no column
    # Negative weights are no shares; what another text is asked has no places; the first token is no separator.
    first, *rest = head_table([own, signed, other], {"c", "."})
    assert first["separators"] == pytest.approx(1 / 3)
    assert [(row["layer"], row["head"]) for row in rest] == [(2, 0), (2, 1)]
    assert [row["separators"] for row in rest] == [0.75, 0.75]
    assert set(rest[0]) == {"layer", "head", "entropy", "first", "separators", "overlap"}
