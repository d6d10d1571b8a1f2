"""After the run: pair graphs, global alignment of pointmaps, and maps of what stands still."""
