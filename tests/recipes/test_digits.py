import html
import json
import math

import numpy as np
import pytest
import torch

from qkv.data import Images, digits
from qkv.errors import InputError
from qkv.functional import naive_kernel_attention, naive_softmax_attention, rbf_kernel
from qkv.recipes.digits_attention import Draw, distance, dot, draw, entropy, forms, look, rbf


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(height: int = 5, width: int = 3, each: int = 7) -> Images:
    """Three classes; the first pixel of an image tells which one it is."""
    pixels = np.random.default_rng(0).integers(0, 256, (3 * each, height, width), dtype=np.uint8)
    pixels[:, 0, 0] = np.arange(3 * each)
    return Images(pixels, np.arange(3 * each) % 3)


# -- draws -----------------------------------------------------------------------------------------------------------


def test_a_draw_has_a_source_and_another_target_of_each_class():
    made = draw(images(each=2), images_are_one := images(each=2), 53, drawn())
    assert made.source.shape == made.target.shape == (53, 3, 15)
    same = draw(images_are_one, images_are_one, 53, drawn())
    source, target = ((side[..., 0] * 255).round().long() for side in (same.source, same.target))
    assert (source % 3 == torch.arange(3)).all()
    assert (target % 3 == torch.arange(3)).all()
    assert (source != target).all()  # of two images of a class, always the other
    assert len(source.unique()) == 6


def test_draws_follow_the_generator():
    one = images()
    assert torch.equal(draw(one, one, 5, drawn(1)).source, draw(one, one, 5, drawn(1)).source)
    assert not torch.equal(draw(one, one, 5, drawn(1)).source, draw(one, one, 5, drawn(2)).source)


def test_images_of_another_size_and_classes_too_small():
    one = images()
    with pytest.raises(InputError, match=r"differ in size\. Expected images of 5 x 3 pixels.*got 3 x 5"):
        draw(one, images(3, 5), 2, drawn())
    single = images(each=1)
    with pytest.raises(InputError, match=r"class 0 has too few images\. Expected 2 or more; got 1"):
        draw(single, single, 2, drawn())
    assert draw(single, one, 2, drawn()).source.shape == (2, 3, 15)


# -- attention -------------------------------------------------------------------------------------------------------


def test_each_form_is_its_definition():
    one = images()
    made = draw(one, one, 2, drawn())
    expected = {
        "raw": lambda q, k: naive_softmax_attention(255 * q, 255 * k, k, scale=1.0),
        "dot": lambda q, k: naive_softmax_attention(q, k, k, scale=1.0),
        "scaled": lambda q, k: naive_softmax_attention(q, k, k),
        "rbf": lambda q, k: naive_kernel_attention(q, k, k, rbf_kernel(0.7)),
    }
    ways = forms(255, 15, 0.7)
    assert ways.keys() == expected.keys()
    for name, attend in ways.items():
        output, weights = attend(made.target, made.source)
        theirs, their_weights = expected[name](made.target, made.source)
        torch.testing.assert_close(weights, their_weights, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(output, theirs, rtol=0, atol=1e-10)
        torch.testing.assert_close(output, weights @ made.source, rtol=0, atol=1e-10)


def test_what_is_seen_by_hand():
    # Two classes of two pixels. Target (1, 0) has products 1 and 2 with sources (1, 0) and (2, 1): the second, the
    # brightest, is strongest, though the first is its own. Target (0, 1) has products 0 and 1: again the second.
    source = torch.tensor([[[1.0, 0], [2, 1]]], dtype=torch.float64)
    target = torch.tensor([[[1.0, 0], [0, 1]]], dtype=torch.float64)
    by_dot, by_distance = look(Draw(source, target), {"dot": dot(1.0), "rbf": rbf(0.5)})
    assert (by_dot.hits, by_dot.brightest) == ([0.5], 1.0)
    # By distance: (1, 0) is at 0 from the first; (0, 1) is at sqrt 2 from the first, at 2 from the second.
    assert (by_distance.hits, by_distance.brightest) == ([0.5], 0.0)
    assert by_dot.largest == pytest.approx(1 / (1 + math.exp(-1)))  # both rows differ by 1
    weight = 1 / (1 + math.exp(-1))
    assert by_dot.entropy == pytest.approx(-weight * math.log(weight) - (1 - weight) * math.log(1 - weight))
    assert distance(Draw(source, target)) == pytest.approx(math.sqrt(2))  # of 0, sqrt 2, sqrt 2, 2


def test_many_draws_come_in_batches():
    one = images()
    made = draw(one, one, 103, drawn())
    (seen,) = look(made, {"dot": dot(1.0)})
    assert len(seen.hits) == 103
    weights = dot(1.0)(made.target, made.source)[1]
    assert seen.entropy == pytest.approx(entropy(weights))


@pytest.mark.parametrize("way", [dot, lambda scale: rbf(1 / scale)], ids=["dot", "rbf"])
def test_entropy_goes_from_alike_to_one(way):
    one = digits()
    made = draw(one, one, 5, drawn())
    spread = [entropy(way(scale)(made.target, made.source)[1]) for scale in (1e-6, 0.5, 1e3)]
    assert spread[0] == pytest.approx(math.log(10), abs=1e-3)
    assert spread[0] > spread[1] > spread[2]
    assert spread[2] < 0.02


# -- at the door -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(qkv_cli, tmp_path_factory):
    path = tmp_path_factory.mktemp("digits") / "run"
    answer = qkv_cli("run", "digits", "--draws", 53, "--out", path, "--json")
    assert answer.code == 0, answer.err
    return path, answer.json


def test_a_run_leaves_numbers_and_a_report(ran):
    path, document = ran
    assert {file.name for file in path.iterdir()} == {"config.json", "environment.json", "result.json", "report.html"}
    assert json.loads((path / "result.json").read_text())["metrics"] == document["metrics"]
    metrics = document["metrics"]
    # A scale changes no order.
    assert metrics["accuracy_dot"] == metrics["accuracy_scaled"] == metrics["accuracy_raw"]
    assert metrics["chance"] == 0.1
    assert metrics["accuracy_rbf"] - metrics["accuracy_rbf_margin"] > metrics["accuracy_dot"] > metrics["chance"]
    assert metrics["largest_raw"] > 0.99
    assert metrics["entropy_raw"] < metrics["entropy_dot"] < metrics["entropy_scaled"] < math.log(10)
    for curve, falls in (("entropy_by_scale", True), ("entropy_by_sigma", False)):
        values = document[curve]
        assert values == sorted(values, reverse=falls)


def test_the_report_shows_pictures_and_numbers(ran):
    path, document = ran
    page = html.unescape((path / "report.html").read_text(encoding="utf-8"))
    assert page.count("<figure>") == 1 + 2 * 4
    for word in (
        "By RBF kernel",
        "By scaled dot product",
        "prefers what is bright",
        "qkv run digits --data digits --draws 53",
    ):
        assert word in page
    assert f"{document['metrics']['entropy_raw']:.4f}" in page


def npz(path, one: Images):
    np.savez(path, images=one.pixels, labels=one.labels)
    return path


def test_images_from_files(qkv_cli, tmp_path):
    sources, targets = npz(tmp_path / "a.npz", images()), npz(tmp_path / "b.npz", images())
    options = ["--data", sources, "--targets", targets, "--preset", "tiny"]
    answer = qkv_cli("run", "digits", *options, "--out", tmp_path / "run", "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["size"], answer.json["classes"]) == ([5, 3], [0, 1, 2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--targets", "b.npz"], "differ in size"),
        (["--data", "nowhere.npz"], "nowhere.npz: no such file"),
        (["--data", "digitz"], "unknown data set 'digitz'"),
        (["--sigma", "0"], "--sigma"),
        (["--draws", "1"], "--draws"),
    ],
)
def test_what_cannot_be_used_is_refused(qkv_cli, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    npz(tmp_path / "b.npz", images())
    answer = qkv_cli("run", "digits", *options, "--out", "run")
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert not (tmp_path / "run").exists()


def test_published_digits(qkv_cli, shared_data, tmp_path):
    data = shared_data / "mnist" / "t10k-images-idx3-ubyte.gz"
    answer = qkv_cli("run", "digits", "--data", data, "--draws", 53, "--out", tmp_path / "run", "--json")
    assert answer.code == 0, answer.err
    metrics = answer.json["metrics"]
    assert answer.json["size"] == [28, 28]
    assert metrics["largest_raw"] > 0.999
    assert metrics["accuracy_rbf"] - metrics["accuracy_rbf_margin"] > metrics["accuracy_dot"]
