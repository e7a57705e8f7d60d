"""Events and results -> plain tables and arrays: computed once, drawn by the terminal and by ``figures``."""
