"""What this machine has, and what will not work on it: the report comes whatever is broken, free of torch."""
