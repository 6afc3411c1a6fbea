"""A corpus for the check of parity: layers written by hand, right ones and ones that are wrong by rule."""
