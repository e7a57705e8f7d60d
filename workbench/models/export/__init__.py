"""A trained model as files for others: the workbench's own folder, open_clip's, or ONNX."""
