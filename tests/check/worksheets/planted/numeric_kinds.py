"""The kinds of mistakes that people make with numbers, written down before the finder of causes.

Each kind names the causes that a report may give it. Every third in alphabetical order was kept out until the finder
stood: the rules that plant those were written last.
"""

KINDS: dict[str, set[str]] = {
    "another index": {"another index"},
    "another matrix of that shape": {"another operand"},
    "base of the logarithm": {"base of the logarithm"},
    "decimal point": {"decimal point"},
    "digits swapped": {"digits swapped"},
    "divided by d, not by its root": {"scaled by d"},
    "divided by the other axis": {"other axis", "softmax over columns"},
    "dropped term in a dot product": {"dropped term"},
    "entries exchanged": {"entries exchanged"},
    "exponentials rounded too early": {"rounded too early"},
    "factor of two": {"factor"},
    "forgot the scale": {"no scale"},
    "function left out": {"function left out"},
    "multiplied for divided": {"operation"},
    "not normalised": {"not normalised"},
    "operands swapped": {"operands swapped", "transposed operand", "query and key swapped"},
    "product entry by entry": {"product entry by entry"},
    "row copied from the one above": {"row repeated"},
    "rows exchanged": {"rows exchanged"},
    "sign of a term": {"sign"},
    "sign of all": {"sign"},
    "sign of one entry": {"sign of an entry"},
    "softmax over columns": {"softmax over columns"},
    "square left out": {"power"},
    "sum for mean": {"mean"},
    "swapped query and key": {"query and key swapped", "operands swapped"},
    "term left out": {"term left out"},
    "transposed operand": {"transposed operand"},
}

KEPT_OUT = sorted(KINDS)[2::3]
