"""The kinds of mistakes that people make in a backward pass worked by hand, and in a threshold network.

The list was written before the finder of causes, as was the rule of what is kept out of its writing: every third kind
in alphabetical order. Each kind names the causes that a report may give it.
"""

BACKWARD: dict[str, set[str]] = {
    "a factor of two left out": {"missing factor"},
    "a factor of two too many": {"factor too many"},
    "a sign inside a derivative": {"other derivative", "sign"},
    "all of the other sign": {"sign"},
    "another node's adjoint": {"other operand"},
    "another operand of its shape": {"other operand"},
    "derivative left out": {"missing derivative"},
    "derivative of another function": {"other derivative"},
    "order of an outer product": {"outer order swapped", "transposed matrix"},
    "path left out": {"missing path"},
    "path taken twice": {"path twice"},
    "sign of one term": {"sign"},
    "sum for mean": {"sum for mean", "missing factor"},
    "transpose left out": {"transposed matrix"},
}
NETWORK: dict[str, set[str]] = {
    "a bias": {"bias", "bound"},  # of the output: its bounds can make up for it, and the other way round
    "a bound of the output": {"bound", "bias"},
    "a comparison strict, or not": {"strictness"},
    "a comparison turned round": {"comparison"},
    "a weight of the hidden layer": {"weight"},
    "a weight of the output": {"weight"},
    "the other threshold": {"strictness"},
}
BACKWARD_KEPT_OUT, NETWORK_KEPT_OUT = (sorted(kinds)[2::3] for kinds in (BACKWARD, NETWORK))
