"""Runtime: from pictures and videos to people, on ONNX Runtime alone."""

#: People below this score are left out: the mean score over all keypoints, those not found counting 0.
#: It stands here so that the command line's help can name it without loading a runtime.
DEFAULT_THRESHOLD = 0.1
