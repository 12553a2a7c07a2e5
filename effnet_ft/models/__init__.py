"""The networks: variants, their construction, heads and pretrained weights."""
