"""Images on the command line: small runs of all networks, what they leave, and what is refused."""

import csv
import importlib
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from qkv.data import Images, digits, resized
from qkv.errors import InputError, RunError, StoppedError
from qkv.models import ImageCNN
from qkv.recipes import images as recipe
from qkv.recipes.base import Reporter, configure
from qkv.recipes.images_model import over_image, patch_labels, regression
from qkv.train import RunFolder
from qkv.types import AttentionMap, Run

MODELS = ("maxpool", "stride", "residual", "attention")
QUICK = ("--preset", "tiny", "--threads", 1, "--fit.epochs", 1)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Some digits of three kinds in MedMNIST's layout, without a test part."""
    known = resized(digits(), 28)
    few = known.at(np.flatnonzero(known.labels < 3)[:300])
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    arrays = {"train_images": few.pixels[:250], "train_labels": few.labels[:250, None]}
    np.savez(path, **arrays, val_images=few.pixels[250:], val_labels=few.labels[250:, None])
    return path


@pytest.fixture(scope="module")
def runs(qkv_cli, table, tmp_path_factory) -> dict[str, Run]:
    out = tmp_path_factory.mktemp("runs")
    made = {}
    own = {"residual": ("--mirror", "--mirror-answers", "--shift", 2), "stride": ("--no-standardise",)}
    for name in MODELS:
        options = ("--model", name, "--data", table, *QUICK, *own.get(name, ()), "--out", out / name)
        answer = qkv_cli("run", "images", *options, "--json")
        assert answer.code == 0, answer.err
        made[name] = RunFolder.open(out / name).finished()
        assert answer.json["metrics"]["accuracy"] == made[name].metrics["accuracy"]
    return made


def test_what_a_run_leaves(runs):
    for name, run in runs.items():
        assert {path.name for path in run.path.iterdir()} == {
            "config.json", "environment.json", "data.json", "classes.json", "metrics.jsonl", "weights.safetensors",
            "result.json", "report.html",
        }  # fmt: skip
        result = run.result
        assert result["images"]["valid"] == 50
        assert sum(result["images"].values()) + result["repeated"] == 300
        assert sum(map(sum, result["confusion"])) == result["images"]["test"] == 25
        assert set(result["baselines"]) == {"logistic regression", "the most frequent class"}
        assert {"valid_accuracy", "valid_loss", "train_accuracy", "train_loss", "parameters"} <= set(result)
        page = (run.path / "report.html").read_text(encoding="utf-8")
        for part in (
            "Learned, or learned by heart",
            "How training went",
            "What was taken for what",
            "What the network sees",
        ):
            assert part in page
        assert ("filters of the first convolution" in page) == (name != "attention")
        assert ("token of the class attends to" in page) == (name == "attention")


def test_a_stored_run_answers_as_the_trained_network_did(runs):
    for run in runs.values():
        again = recipe.evaluate(run, None, Reporter())
        assert again["metrics"] == pytest.approx(run.metrics, abs=1e-6)
        assert again["confusion"] == run.result["confusion"]


def test_mistakes_are_the_surest_wrong_answers(runs):
    for run in runs.values():
        mistakes = run.result["mistakes"]
        assert all(one["label"] != one["answer"] and one["probability"] >= 1 / 3 for one in mistakes)
        assert [one["probability"] for one in mistakes] == sorted((o["probability"] for o in mistakes), reverse=True)


def test_company_changes_no_answer_and_mirrors_are_asked(runs):
    given = resized(digits(), 28).at(np.arange(7))
    for name, run in runs.items():
        classifier = recipe.load(run)
        together = classifier.probabilities(given)
        alone = np.concatenate([classifier.probabilities(given.at(np.array([i]))) for i in range(7)])
        np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
        np.testing.assert_allclose(together.sum(axis=1), 1, rtol=1e-6)
        turned = Images(np.ascontiguousarray(given.pixels[:, :, ::-1]), given.labels)
        same = np.allclose(classifier.probabilities(turned), together, rtol=0, atol=1e-5)
        assert same == (name == "residual")


def test_a_sweep_over_learning_rates_in_one_command(qkv_cli, table, tmp_path):
    options = ("--models", "maxpool,stride", "--learning-rates", "0.003,1e-6", "--data", table, *QUICK)
    answer = qkv_cli("compare", "images", *options, "--out", tmp_path / "swept")
    assert answer.code == 0, answer.err
    for told in ("maxpool, learning rate 0.003", "stride, learning rate 1e-06", "validation accuracy"):
        assert told in answer.out
    curves = (tmp_path / "swept" / "curves.svg").read_text(encoding="utf-8")
    assert all(f">{name}, learning rate 0.003<" in curves for name in ("maxpool", "stride"))
    page = (tmp_path / "swept" / "comparison.html").read_text(encoding="utf-8")
    assert "By the validation part, " in page
    assert "learning rate 0.003 is the one to take" in page


def test_a_stopped_run_goes_on_to_the_same_weights(runs, tmp_path):
    whole = runs["residual"]  # its norms keep running means, its images are moved and mirrored

    def stop(progress):
        if progress.step == 5:
            raise KeyboardInterrupt

    config = {**whole.config, "fit": {**whole.config["fit"], "save_every": 0.0}}
    folder = RunFolder.create(tmp_path / "other", recipe="images", config=config, seed=whole.seed)
    with pytest.raises((KeyboardInterrupt, StoppedError)):
        recipe.run(folder, Reporter(progress=stop))
    assert folder.state.exists()
    recipe.run(RunFolder.open(folder.path), Reporter())
    again, expected = (RunFolder.open(run.path).load_weights() for run in (folder.finished(), whole))
    assert all(torch.equal(again[name], expected[name]) for name in expected)
    assert "norm.running_mean" in expected


def test_changed_data_stop_a_run(runs, tmp_path):
    left = tmp_path / "left"
    shutil.copytree(runs["maxpool"].path, left)
    (left / "data.json").write_text('{"train": "other"}')
    with pytest.raises(RunError, match="the data have changed"):
        recipe.run(RunFolder.open(left), Reporter())


def test_weights_of_another_configuration_are_refused(runs, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(runs["maxpool"].path, other)
    shutil.copy(runs["residual"].path / "weights.safetensors", other)
    with pytest.raises(RunError, match="not those of this configuration"):
        recipe.load(RunFolder.open(other).finished())


# -- doors -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "two.png"
    Image.fromarray(resized(digits(), 28).pixels[2]).save(path)
    return path


@pytest.mark.parametrize("name", MODELS)
def test_what_is_shown_of_an_image(runs, picture, name):
    shown = recipe.show(runs[name], str(picture))
    expected = recipe.load(runs[name]).probabilities(resized(digits(), 28).at(np.array([2])))[0]
    assert shown.document["probabilities"] == pytest.approx(dict(zip("012", expected.tolist(), strict=True)))
    assert shown.document["prediction"] == "012"[expected.argmax()]
    assert shown.text.startswith(f"two.png\n{shown.document['prediction']} {expected.max():.1%}\n")
    assert shown.png.startswith(b"\x89PNG")
    # The image, and 8 channels, or 4 of the smallest residual network; or layers 0 and 1 with their mean.
    assert shown.svg.count("<image") == {"residual": 1 + 4, "attention": 1 + 3}.get(name, 1 + 8)
    if name == "attention":
        assert ">layer 1<" in shown.svg
        heads = recipe.show(runs[name], str(picture), layer=1).svg
        assert ">layer 1, head 0<" in heads
        assert ">layer 1, head 1<" in heads
        assert ">mean of layers, head 1<" in recipe.show(runs[name], str(picture), head=1).svg
        with pytest.raises(InputError, match="no layer 7"):
            recipe.show(runs[name], str(picture), layer=7)
    else:
        with pytest.raises(InputError, match="no attention"):
            recipe.show(runs[name], str(picture), head=0)


def test_a_test_image_is_shown_by_its_number(qkv_cli, runs, tmp_path):
    answer = qkv_cli("show", runs["attention"].path, "24", "--out", tmp_path / "image", "--json")
    assert answer.code == 0, answer.err
    assert {path.suffix for path in tmp_path.iterdir()} == {".html", ".svg", ".png"}
    assert "test image 24" in (tmp_path / "image.html").read_text(encoding="utf-8")
    refused = qkv_cli("show", runs["attention"].path, "25")
    assert refused.code == 2
    assert "there is no such test image. Expected 0 to 24; got 25" in " ".join(refused.err.split())


def test_attention_over_an_image_by_hand():
    # The class attends to itself with 0.5, to the four patches with 0.1, 0.2, 0, 0.2: shares 0.2, 0.4, 0, 0.4.
    weights = torch.full((1, 5, 5), 0.2)
    weights[0, 0] = torch.tensor([0.5, 0.1, 0.2, 0.0, 0.2])
    labels = ["[class]", "0,0", "0,1", "1,0", "1,1"]
    one = AttentionMap(weights, labels, labels, "layers.0", "self", "captured", "softmax")
    torch.testing.assert_close(over_image(one, 2), torch.tensor([[[0.2, 0.4], [0.0, 0.4]]]))


def test_labels_of_patches_are_rows_and_columns(runs):
    labels = patch_labels(recipe.load(runs["attention"]).model)
    assert labels[:6] == ["[class]", "0,0", "0,1", "0,2", "0,3", "1,0"]
    assert len(labels) == 17


def test_predictions_of_a_folder(qkv_cli, runs, picture, tmp_path):
    run, out = runs["maxpool"], tmp_path / "said.csv"
    answer = qkv_cli("predict", run.path, "--data", picture.parent, "--out", out)
    assert answer.code == 0, answer.err
    (row,) = csv.DictReader(out.read_text(encoding="utf-8").splitlines())
    expected = recipe.load(run).probabilities(resized(digits(), 28).at(np.array([2])))[0]
    assert row["image"] == "two.png"
    assert row["class"] == "012"[expected.argmax()]
    assert [float(row[name]) for name in "012"] == pytest.approx(expected.tolist(), abs=1e-6)


def test_other_data_are_judged_by_their_test_part(qkv_cli, runs, table, tmp_path):
    known = resized(digits(), 28)
    few = known.at(np.flatnonzero(known.labels < 3)[300:320])
    np.savez(tmp_path / "test.npz", test_images=few.pixels, test_labels=few.labels)
    found = recipe.evaluate(runs["maxpool"], str(tmp_path / "test.npz"), Reporter())
    expected = recipe.load(runs["maxpool"]).probabilities(few).argmax(axis=1) == few.labels
    assert (found["part"], found["images"], found["metrics"]["accuracy"]) == ("test", 20, expected.mean())
    assert recipe.evaluate(runs["maxpool"], str(table), Reporter())["part"] == "valid"
    folder = tmp_path / "folder" / "2"
    folder.mkdir(parents=True)
    of_twos = few.pixels[few.labels == 2]
    for number, pixels in enumerate(of_twos):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    found = recipe.evaluate(runs["maxpool"], str(tmp_path / "folder"), Reporter())
    assert np.array(found["confusion"]).sum(axis=1).tolist() == [0, 0, len(of_twos)]
    folder.rename(folder.with_name("seven"))
    refused = qkv_cli("evaluate", runs["maxpool"].path, "--data", tmp_path / "folder")
    assert refused.code == 2
    assert "unknown class seven. Expected those that this run knows: 0, 1, 2" in " ".join(refused.err.split())


def test_what_cannot_be_used_is_refused_and_leaves_no_folder(qkv_cli, tmp_path):
    def refusal(*options) -> str:
        answer = qkv_cli("run", "images", *QUICK, *options, "--out", tmp_path / "run")
        assert answer.code == 2
        assert not (tmp_path / "run").exists()
        return " ".join(answer.err.split())

    def npz(pixels, labels) -> str:
        np.savez(tmp_path / "set.npz", images=pixels, labels=labels)
        return str(tmp_path / "set.npz")

    drawn = np.random.default_rng(0).integers(0, 256, (40, 28, 28, 3), dtype=np.uint8)
    grey, labels = drawn[..., 0], np.arange(40) % 2
    assert "got 28 x 28 in colour. Try: --convert" in refusal("--data", npz(drawn, labels))
    assert "got 7 x 28. Try: --convert" in refusal("--data", npz(grey[:, :7], labels))
    assert "a class is out of range" in refusal("--data", npz(grey, labels - 1))
    assert "too few images" in refusal("--data", npz(grey[:1], labels[:1]))
    assert "too few images" in refusal("--data", npz(grey, 0 * labels))
    assert "these shares cannot be drawn" in refusal("--data", npz(grey, labels), "--test-share", 0)
    assert "no such file" in refusal("--data", tmp_path / "absent.npz")
    assert "unknown data set 'fashion-mnits'" in refusal("--data", "fashion-mnits")
    assert "--transformer.patch that divides 28" in refusal("--model", "attention", "--transformer.patch", 5)
    assert "the images are too small" in refusal("--size", 5)
    lone = np.where(np.arange(40) == 7, 2, labels)
    np.savez(tmp_path / "set.npz", train_images=grey, train_labels=labels, val_images=grey[:3], val_labels=lone[7:10])
    assert "1 of 3 classes have no image to train on" in refusal("--data", tmp_path / "set.npz").replace(
        ". Got", "; got"
    )


def test_colours_and_sizes_are_brought_on_request(qkv_cli, tmp_path):
    known = digits()
    few = known.at(np.flatnonzero(known.labels < 2)[:90])
    coloured = np.repeat(resized(few, 19).pixels[..., None], 3, axis=3)
    np.savez(tmp_path / "set.npz", images=coloured, labels=few.labels)
    options = ("--data", tmp_path / "set.npz", "--convert", *QUICK, "--out", tmp_path / "run")
    answer = qkv_cli("run", "images", *options)
    assert answer.code == 0, answer.err
    assert "90 images of 19 x 19 in colour brought to 28 x 28 in greys" in " ".join(answer.err.split())


def test_one_picture_is_brought_on_request(qkv_cli, runs, tmp_path):
    run, large = runs["maxpool"].path, tmp_path / "large.jpg"
    Image.fromarray(np.repeat(resized(digits(), 61).pixels[2][..., None], 3, axis=2)).save(large)
    for words in (("show", run, large), ("predict", run, "--data", large, "--out", tmp_path / "said.csv")):
        refused = qkv_cli(*words)
        assert refused.code == 2
        assert "Expected 28 x 28 in greys; got 61 x 61 in colour. Try: --convert" in " ".join(refused.err.split())
        assert qkv_cli(*words, "--convert").code == 0
    shown = recipe.show(runs["maxpool"], str(large), convert=True)
    assert shown.text.startswith("large.jpg: 1 of 1 pictures brought to 28 x 28 in greys\n")
    with pytest.raises(InputError, match="these are several images"):
        recipe.show(runs["maxpool"], str(runs["maxpool"].config["data"]))


# -- settings, baselines ---------------------------------------------------------------------------------------------


def test_presets_are_settings():
    for name in recipe.PRESETS:
        configure(recipe, {}, name)
    published = configure(recipe, {"model": "stride"}, "published")
    fit = published.fit
    assert (published.batch_size, published.cnn.dropout, fit.learning_rate, fit.epochs) == (8, 0.7, 0.01, 15)
    assert (fit.optimizer, fit.momentum, fit.weight_decay, fit.schedule) == ("sgd", 0.0, 0.0, "constant")
    assert recipe.default_preset(configure(recipe, {"model": "stride"})) == "convolutions"
    assert recipe.default_preset(configure(recipe, {"model": "residual"})) == "residual"


def test_logistic_regression_tells_what_a_line_can():
    drawn = np.random.default_rng(0)
    pixels = drawn.integers(0, 100, (90, 1, 5), dtype=np.uint8)
    labels = np.arange(90) % 3
    for label in range(3):
        pixels[labels == label, 0, label] = 255
    some = Images(pixels, 2 * labels)  # a class between that no image has
    said = regression(some.at(np.arange(60)), some.at(np.arange(60, 90)), classes=5)
    assert said.shape == (30, 5)
    assert (said.argmax(axis=1) == some.labels[60:]).all()
    assert not said[:, [1, 3]].any()


def test_the_network_of_the_issue_is_the_default():
    config = configure(recipe, {})
    assert isinstance(
        recipe._classifier(config, {"classes": list("abcd"), "mean": 0.0, "deviation": 1.0}).model, ImageCNN
    )


@pytest.mark.parametrize(
    ("name", "images"), [("fashion-mnist", (18000, 5000, 2000)), ("pneumoniamnist", (2182, 270, 242))]
)
def test_named_sets(name, images, shared_data, monkeypatch):
    monkeypatch.setenv("QKV_DATA", str(shared_data))
    data = importlib.import_module("qkv.recipes.images_data")
    split = data.parts(data.ImageDataConfig(data=name), lambda _: None)
    assert tuple(len(one) for one in (split.train, split.valid, split.test)) == images
    assert split.names[0] in ("T-shirt/top", "normal")
