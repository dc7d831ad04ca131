// Signals that ask a run to end in good order: SIGTERM, SIGINT, SIGUSR1. The first is noted; training looks
// at it once a step. A second SIGINT ends the process at once, with exit code 130.
#pragma once

#include <string>

namespace fwl {

// Installs the handlers; call it after MPI is up, which installs some of its own.
void install_stop_signals();
// Name of the first stop signal that came ("SIGTERM"); empty when none did.
std::string stop_signal();

}  // namespace fwl
