"""Rigid motion, cameras, alignment and pixel grids: pure functions."""
