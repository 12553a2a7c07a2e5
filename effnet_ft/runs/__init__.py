"""The run folder: its files, lock, plan and environment, and which run ``resume=`` means."""
