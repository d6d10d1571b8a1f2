"""Where scenes and maps go: files, pages, recordings, viewers."""
