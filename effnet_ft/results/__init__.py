"""What a run leaves: metrics, predictions and the report."""
