"""The cockpit: pages for managers and data stewards, over the core functions and the write path of the API."""
