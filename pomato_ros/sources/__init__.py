"""What turns a window of frames into geometry with uncertainty: one module or folder for each backend."""
