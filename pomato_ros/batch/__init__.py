"""Many recordings at once: chunks, workers, stitched results, an index."""
