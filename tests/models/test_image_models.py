import pytest
import torch
import torch.nn.functional as F
from torch import nn

import qkv
from qkv.errors import InputError
from qkv.models import (
    ImageCNN,
    ImageCNNConfig,
    PatchTransformer,
    PatchTransformerConfig,
    ResidualCNN,
    ResidualCNNConfig,
)
from qkv.models.residual_cnn import ResidualBlock
from qkv.types import ImageBatch

SMALL = PatchTransformerConfig(embed_dim=6, num_heads=2, patch=3, feedforward_dim=11, num_layers=2, dropout=0.0)


def batch(size: int, count: int = 5, classes: int = 3) -> ImageBatch:
    drawn = torch.Generator().manual_seed(0)
    pixels = torch.randn(count, 1, size, size, generator=drawn, dtype=torch.float64)
    return ImageBatch(pixels, torch.randint(classes, (count,), generator=drawn))


@pytest.mark.parametrize(
    ("kind", "padding", "parameters"), [("maxpool", 1, 224_892), ("maxpool", 0, 168_572), ("stride", 1, 224_892)]
)
def test_parameters_by_hand(kind, padding, parameters):
    # conv1 8 (9 + 1) = 80, conv2 16 (8 * 9 + 1) = 1,168, linear2 120 (320 + 1) = 38,520, output 4 (120 + 1) = 484.
    # linear1 has 320 (16 n^2 + 1). maxpool, padding 1: 28 -> 28 -> 14 -> 12 -> 6 = n; without: 26 -> 13 -> 11 -> 5;
    # stride: 28 -> 14 -> 6. So 80 + 1,168 + 184,640 + 38,520 + 484 with n = 6, and 128,320 for linear1 with n = 5.
    model = ImageCNN(ImageCNNConfig(padding=padding), kind, classes=4, size=28)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 4)


@pytest.mark.parametrize("size", [10, 11, 13, 28, 29, 30, 31])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("kind", ["maxpool", "stride"])
def test_every_size_fits(kind, padding, size):
    assert ImageCNN(ImageCNNConfig(padding=padding), kind, 3, size)(torch.zeros(2, 1, size, size)).shape == (2, 3)


@pytest.mark.parametrize("kind", ["maxpool", "stride"])
def test_the_small_network_is_a_stack_of_torch_layers(kind):
    torch.manual_seed(0)
    ours = ImageCNN(ImageCNNConfig(dropout=0.0), kind, classes=3, size=13).double()
    pool, stride = ([nn.MaxPool2d(2)], 1) if kind == "maxpool" else ([], 2)
    theirs = nn.Sequential(
        nn.Conv2d(1, 8, 3, stride, padding=1), nn.ReLU(), *pool, nn.Conv2d(8, 16, 3, stride), nn.ReLU(), *pool,
        nn.Flatten(), nn.LazyLinear(320), nn.ReLU(), nn.Linear(320, 120), nn.ReLU(), nn.Linear(120, 3),
    ).double()  # fmt: skip
    data = batch(13)
    theirs(data.pixels)
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    expected = F.cross_entropy(theirs(data.pixels), data.label)
    loss = ours.loss(data)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    gradients = torch.autograd.grad(loss, list(ours.parameters()))
    for gradient, reference in zip(gradients, torch.autograd.grad(expected, list(theirs.parameters())), strict=True):
        assert bool(reference.any())
        torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-12)


def test_pooling_looks_at_four_places_and_a_stride_at_one():
    # Of a bright dot that moves by one pixel inside its window of two, pooling makes the same; a stride does not.
    dot = torch.zeros(2, 1, 28, 28)
    dot[0, 0, 12, 12] = dot[1, 0, 13, 13] = 1.0
    for kind in ("maxpool", "stride"):
        model = ImageCNN(ImageCNNConfig(), kind, 3, 28)
        nn.init.zeros_(model.conv1.weight)
        model.conv1.weight.data[:, 0, 1, 1] = 1.0  # each place as it is
        nn.init.zeros_(model.conv1.bias)
        with qkv.record() as trace:
            model.eval()(dot)
        assert torch.equal(*trace["conv1"]) == (kind == "maxpool")


def test_images_too_small():
    with pytest.raises(InputError, match=r"too small\. Expected at least 10 x 10; got 4 x 4"):
        ImageCNN(ImageCNNConfig(), "maxpool", 3, 4)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_residual_block_by_its_equation(stride):
    torch.manual_seed(0)
    block = ResidualBlock(3, 5, stride).double()
    x = torch.randn(2, 3, 7, 7, dtype=torch.float64)
    y = F.conv2d(F.relu(F.batch_norm(x, None, None, training=True)), block.conv1.weight, stride=stride, padding=1)
    y = F.conv2d(F.relu(F.batch_norm(y, None, None, training=True)), block.conv2.weight, padding=1)
    kept = x if stride == 1 else F.avg_pool2d(x, 2, ceil_mode=True)
    torch.testing.assert_close(block(x), F.conv2d(kept, block.shortcut.weight) + y, rtol=0, atol=1e-10)
    assert isinstance(ResidualBlock(5, 5, 1).shortcut, nn.Identity)


def test_the_residual_network_is_small_enough_and_smooths_labels_only_while_training():
    model = ResidualCNN(ResidualCNNConfig(), classes=10)
    assert sum(parameter.numel() for parameter in model.parameters()) < 250_000
    small = ResidualCNN(ResidualCNNConfig(channels=2, blocks=1, dropout=0.0, label_smoothing=0.25), 3).double()
    data = batch(11)
    small.eval()
    torch.testing.assert_close(small.loss(data), F.nll_loss(small(data.pixels), data.label))
    small.train()
    said = small(data.pixels)
    expected = 0.75 * F.nll_loss(said, data.label) - 0.25 * said.mean()
    torch.testing.assert_close(small.loss(data), expected)


def test_a_transformer_over_patches_reads_them_row_by_row():
    torch.manual_seed(0)
    model = PatchTransformer(SMALL, classes=3, size=6).double().eval()
    data = batch(6)
    image = data.pixels[1, 0]
    patches = torch.stack([image[:3, :3], image[:3, 3:], image[3:, :3], image[3:, 3:]]).flatten(1)
    tokens = torch.cat((model.class_token[None], model.embedding(patches))) + model.positions.weight
    expected = model.output(model.encoder(tokens[None])[:, 0]).log_softmax(dim=1)
    torch.testing.assert_close(model(data.pixels)[1:2], expected)


def test_what_patches_attend_to_is_recorded():
    model = PatchTransformer(SMALL, classes=3, size=9).eval()
    with qkv.record() as trace, torch.no_grad():
        model(torch.randn(2, 1, 9, 9))
    maps = trace.maps()
    assert [one.layer for one in maps] == ["encoder.layers.0.self_attn", "encoder.layers.1.self_attn"]
    assert maps[0].weights.shape == (2, 10, 10)


def test_patches_that_do_not_fill_the_image():
    with pytest.raises(InputError, match=r"--transformer\.patch that divides 28; got 3"):
        PatchTransformer(SMALL, classes=3, size=28)


@pytest.mark.parametrize("name", ["maxpool", "stride", "residual", "attention"])
def test_gradients_are_those_of_differences(name):
    torch.manual_seed(0)
    model = {
        "maxpool": lambda: ImageCNN(ImageCNNConfig(dropout=0.0), "maxpool", 3, 12),
        "stride": lambda: ImageCNN(ImageCNNConfig(dropout=0.0), "stride", 3, 12),
        "residual": lambda: ResidualCNN(ResidualCNNConfig(channels=2, blocks=1, dropout=0.0), 3),
        "attention": lambda: PatchTransformer(SMALL, 3, 12),
    }[name]().double().eval()  # fmt: skip
    data = batch(12)
    total = 0.0
    loss = model.loss(data)
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            direction = torch.randn_like(parameter)
            total += float((parameter.grad * direction).sum())
            parameter.grad = direction
        step, ends = 1e-6, []
        for sign in (1, -2):
            for parameter in model.parameters():
                parameter += sign * step * parameter.grad
            ends.append(float(model.loss(data)))
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(total, rel=1e-5)


def test_probabilities_are_told_in_single_precision_at_least():
    data = batch(12)
    pixels = data.pixels.float()
    for model in (ResidualCNN(ResidualCNNConfig(channels=2, blocks=1), 3), PatchTransformer(SMALL, 3, 12)):
        with torch.autocast("cpu", torch.bfloat16):
            said = model.eval()(pixels)
        assert said.dtype == torch.float32
        torch.testing.assert_close(said.exp().sum(dim=1), torch.ones(5))
