"""Media: pictures, videos and cameras in and out, always as RGB arrays."""
