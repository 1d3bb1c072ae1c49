"""A report as one HTML page: its numbers are made here, its script only shows, sorts and searches them."""
