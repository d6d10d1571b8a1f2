"""From frames to predictions."""
