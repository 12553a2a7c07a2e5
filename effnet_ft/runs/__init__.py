"""The run folder: its files, its lock, its environment, and which run ``resume=`` means."""
