"""What this machine has, and what will not work on it. Free of torch.

The report must come whatever is broken: each fact is looked up under guard, and torch is imported in another process.
"""
