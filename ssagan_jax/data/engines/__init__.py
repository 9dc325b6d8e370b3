"""Where pictures are decoded and shards are written: on this machine's cores, or on a cluster."""
