"""Recorded datasets with truth, read from their own on-disk formats."""
