"""Convolution and embedding."""

import torch.nn.functional as F
from torch import where


def conv2d(x, weight, bias, stride, padding, dilation, groups, mode):
    rows, columns = weight.shape[-2:]
    padded = F.pad(x, (padding[1], padding[1], padding[0], padding[0]), mode=mode)
    high = (padded.shape[-2] - dilation[0] * (rows - 1) - 1) // stride[0] + 1
    patches = F.unfold(padded, (rows, columns), dilation, 0, stride)
    patches = patches.unflatten(1, (groups, -1))
    kernels = weight.flatten(1).unflatten(0, (groups, -1))
    output = (kernels @ patches).flatten(1, 2).unflatten(-1, (high, -1))
    return output + bias[..., None, None]


def embedding(index, weight, padding_idx):
    rows = weight[index]
    if padding_idx is not None:
        rows = where((index == padding_idx)[..., None], rows.detach(), rows)
    return rows
