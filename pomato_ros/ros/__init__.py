"""The only part of the package that knows ROS: it translates between messages and the engine's nouns."""
