"""Image files to arrays: safe decoding, the limit on their pixels, and resizing."""
