"""Generated sample data: `scenes` of two objects, and `emoji`."""
