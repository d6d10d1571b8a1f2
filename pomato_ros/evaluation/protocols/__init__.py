"""How papers report on each data set: which sequences and frames, alignments, limits, and their published rows."""
