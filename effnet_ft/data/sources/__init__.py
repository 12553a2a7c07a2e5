"""Where labelled images come from: folders, manifests, ImageNet and published data sets."""
