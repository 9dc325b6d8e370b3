"""A page to paint in: requests to a model and views of its run, and the page itself."""
