"""Images as networks take them, and the names of their classes."""
