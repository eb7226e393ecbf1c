"""Layers around the application, outermost first: the edge, HTTPS, and clients that disconnect. All are pure ASGI."""
