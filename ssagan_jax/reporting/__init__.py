"""The parts of a report: runs, their scores, charts and images, and the HTML page."""
