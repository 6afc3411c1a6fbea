"""Reference formulas, one line a step: what the finder of causes edits until it computes what a wrong layer does.

They compute what `torch.nn` does and nothing faster. A name says what it holds: `W_` weights, `b_` biases (zero where a
layer has none), tensors with the batch first.
"""
