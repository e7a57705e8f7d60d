"""Export of a trained model: the workbench's own folder, open_clip's, or ONNX."""
