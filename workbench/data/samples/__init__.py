"""Sample data drawn by the program itself: `scenes` of two objects, and `emoji`."""
