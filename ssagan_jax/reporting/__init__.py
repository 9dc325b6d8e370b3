"""What a report is made of: runs read back, their scores, charts and pictures, and the page."""
