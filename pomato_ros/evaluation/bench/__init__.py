"""Time, memory and arithmetic of a step on this machine."""
