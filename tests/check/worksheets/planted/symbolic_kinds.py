"""The kinds of mistakes that people make in identities and costs, written down before the finder of causes.

Every third in alphabetical order was kept out until the finder stood: the rules that plant those were written last.
"""

KINDS = (
    "another name",  # a matrix of the same shape in the place of the right one
    "bracket order",  # the cost of other brackets
    "dropped factor",  # a number in front is left out
    "dropped term",  # one of a sum
    "extra size",  # a bound with one size too many
    "mean for sum",  # divided by how many there are
    "operands swapped",  # A @ B for B @ A
    "other axis",  # of a softmax or a sum
    "other size",  # n for m in a count
    "power",  # a square for what stands alone, and the other way round
    "scale",  # d for sqrt(d), or none
    "sign",
    "transposed",
)

KEPT_OUT = KINDS[2::3]
"""dropped factor, mean for sum, other size, sign."""
