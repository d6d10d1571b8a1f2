"""Messages to structures and back, as pure functions.

Every value that enters a message passes through here and is made a plain ``float``, ``int`` or ``bool``, or an
``array.array``: Jazzy writes NumPy scalars into messages as garbage without an error.
"""
