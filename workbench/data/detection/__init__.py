"""Images with boxes and masks: drawn scenes and COCO instance files."""
