"""Errors of estimates against truth: depth, poses, masks, tracks, confidence."""
