"""Mathematics checked: anyone's gradients, and what else is claimed. What is found is a `Report`."""

__all__: list[str] = []
