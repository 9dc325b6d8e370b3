"""What is made of a trained model to give it away: model card, ONNX, StableHLO, web page."""
