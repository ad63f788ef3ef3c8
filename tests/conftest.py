"""What holds for all tests."""

import signal

# Programs that tests start must hear Ctrl-C, also where the tests themselves run in the background.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
