"""A layer's weight as a product of thinner ones: the arithmetic, on arrays; no module is seen."""
