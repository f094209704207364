"""A package, so that one of this name which some distributions install does not hide it."""
