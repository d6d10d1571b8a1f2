"""Online 3-D perception among moving things: geometry, odometry, moving masks and 3-D tracks from one camera."""

# The generated messages live in an install space under the same package name; this line makes both one package.
__path__ = __import__("pkgutil").extend_path(__path__, __name__)
