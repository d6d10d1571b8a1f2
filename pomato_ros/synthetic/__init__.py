"""Procedural scenes with exact truth: shapes, motions and textures drawn from a seed, rendered by ray casting."""
