"""Suites: one module for each sensor, which draws sequences, runs the engine over them and scores what it says."""
