"""What the commands answer to a shell."""

EXIT_OK = 0
EXIT_SOME_FAILED = 1  # some of the work could not be done; the rest was
EXIT_USAGE = 2  # nothing was done: an option, a model or a folder is wrong
EXIT_INTERRUPTED = 130  # by Ctrl-C, as shells count it
EXIT_TERMINATED = 143  # by SIGTERM, likewise
