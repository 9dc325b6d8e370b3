"""From a user's folder to a prepared data set: scan, report, split, write."""
