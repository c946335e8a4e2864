"""Codecs: what a network's output maps mean, and how keypoints become maps and maps keypoints."""
