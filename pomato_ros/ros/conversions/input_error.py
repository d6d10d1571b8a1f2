"""The error of a message that cannot be used."""


class InputError(ValueError):
    """An incoming message is refused; the text says what was expected, what came, and what to do."""
