"""The POMATO network: tensors in, tensors out, no state between calls."""
