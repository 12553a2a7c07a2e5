"""From images to predictions: the predictor, loading a trained model, abstention and Grad-CAM."""
