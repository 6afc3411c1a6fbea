"""A corpus for the check of gradients: backward passes that are right, and wrong by rule."""
