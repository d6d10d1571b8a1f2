"""Readers of recorded cameras with depth or a right image: one module for each folder layout, without ROS."""
