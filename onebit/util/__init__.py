"""What every part of the package uses and nobody imports for its own sake."""
