"""Access: contracts, meters, sessions and the runner: the one door to a generator."""
