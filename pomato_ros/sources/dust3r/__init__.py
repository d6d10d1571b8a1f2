"""The DUSt3R family: trunk, heads, streaming over a window, checkpoints and export."""
