"""hustings for other libraries: one module each, imported only by who has that library."""
