"""Metrics against truth, parity with the published network, and the evaluation runner."""
