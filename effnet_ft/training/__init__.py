"""Training: phases, optimisers, the LightningModule and the order in which it all runs."""
