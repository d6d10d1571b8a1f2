"""From predictions to a scene."""
