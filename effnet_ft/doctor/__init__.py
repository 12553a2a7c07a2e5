"""The environment report: what there is (facts), and what will not work because of it (advice). Free of torch.

Whatever is broken, the report must come: each fact is looked up under guard, and torch is loaded in another process.
"""
