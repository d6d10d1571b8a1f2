"""Parity with the published code: any fixture of its numbers, checked array by array against this package."""
