"""One estimator over whatever a source says: pose, motion, depth, tracks and objects, each with uncertainty."""
