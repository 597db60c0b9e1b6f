"""Training after samples were exchanged, and what that reveals."""
