"""What holds for all tests."""

import signal

from hypothesis import HealthCheck, settings

# Programs that tests start must hear Ctrl-C, also where the tests themselves run in the background.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test is about how long one example takes, and machines that test are busy.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
