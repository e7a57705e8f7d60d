"""Dense evaluation: Mask R-CNN's heads on a frozen image tower, and COCO's metrics."""
